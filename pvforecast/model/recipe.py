"""What decides what is learned. Apart from `training`, so that tasks which only need the feature spec skip XGBoost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from pvforecast.features.spec import DEFAULT_SPEC, FeatureSpec, with_extra
from pvforecast.known import WEATHER_VARIABLES, ParkRecord


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is learned from given rows. Two recipes with one hash are the same recipe.

    Attributes
    ----------
    quantiles : levels that the model answers, ascending.
    boosted : levels that XGBoost is trained for; the others lie between, in the shape that the forest gives.
    rounds ... max_bin : of XGBoost.
    trees ... forest_rows : of the two forests; rows of each, drawn where there are more.
    booster_rows : rows for XGBoost, drawn where there are more.
    corrector_rounds : of the correction by recent output; 0: none.
    calibration_folds : stretches of days, each forecast by a model that has not seen it.
    without_weather : every so many rows, one is shown a second time without its weather.
    method : counts the ways of learning: raised when the same settings learn something else from the same rows.
    """

    spec: FeatureSpec = DEFAULT_SPEC
    quantiles: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    boosted: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    rounds: int = 120
    max_depth: int = 7
    eta: float = 0.08
    min_child_weight: float = 40.0
    subsample: float = 0.5
    colsample_bytree: float = 0.5
    max_bin: int = 128
    booster_rows: int = 300_000
    trees: int = 50
    min_leaf: int = 5
    max_leaves: int = 3_000
    max_features: float = 0.7
    forest_rows: int = 40_000
    corrector_rounds: int = 150
    calibration_folds: int = 3
    without_weather: int = 7
    seed: int = 20130101
    method: int = 4

    @classmethod
    def for_records(cls, records: Iterable[ParkRecord], **settings: Any) -> Recipe:
        """The default recipe with features of each free weather column (``x_*``) that the records have."""
        return cls(**settings).with_columns_of(records)

    def with_columns_of(self, records: Iterable[ParkRecord]) -> Recipe:
        """This recipe with features of each free weather column that the records have."""
        columns = {name for record in records for run in record.runs for name in run.variables}
        return self.with_columns(columns.difference(WEATHER_VARIABLES))

    def with_columns(self, columns: Iterable[str]) -> Recipe:
        """This recipe with features of these free weather columns (``x_*``), where it lacks them."""
        new = [column for column in columns if column not in self.spec.names]
        return replace(self, spec=with_extra(new, self.spec)) if new else self

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
        levels = {name: tuple(values[name]) for name in ("quantiles", "boosted")}
        return cls(**{"method": 1, **values, **levels, "spec": spec})

    def params(self) -> dict[str, Any]:
        """For `xgboost.train`."""
        return {
            "objective": "reg:quantileerror",
            "quantile_alpha": list(self.boosted),
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
