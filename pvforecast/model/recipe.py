"""What decides what is learned. Apart from `training`, so that tasks which only need the feature spec skip XGBoost."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from pvforecast.features import DEFAULT_SPEC, FeatureSpec


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learned from given rows. Two recipes with one hash are the same recipe."""

    spec: FeatureSpec = DEFAULT_SPEC
    quantiles: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    rounds: int = 250
    max_depth: int = 7
    eta: float = 0.04
    min_child_weight: float = 40.0
    subsample: float = 0.5
    colsample_bytree: float = 0.3
    max_bin: int = 128
    calibration_folds: int = 3
    without_weather: int = 7
    seed: int = 20130101

    @property
    def hash(self) -> str:
        values = {**asdict(self), "spec": self.spec.hash}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `bundle.json` and MLflow."""
        return {**asdict(self), "spec": {"names": list(self.spec.names), "version": self.spec.version}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `as_dict`; unknown settings of a newer version raise TypeError."""
        spec = FeatureSpec(tuple(values["spec"]["names"]), int(values["spec"]["version"]))
        return cls(**{**values, "spec": spec, "quantiles": tuple(values["quantiles"])})

    def params(self) -> dict[str, Any]:
        """For `xgboost.train`."""
        return {
            "objective": "reg:quantileerror",
            "quantile_alpha": list(self.quantiles),
            "tree_method": "hist",
            "max_depth": self.max_depth,
            "eta": self.eta,
            "min_child_weight": self.min_child_weight,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "max_bin": self.max_bin,
            "seed": self.seed,
            "nthread": 2,
            "verbosity": 0,
        }
