"""What the park did lately moves the forecast of the next hours and days.

A small model of the ensemble's error, learned from forecasts of days that the ensemble had not seen: with the last
hours, the last days and the lead time as inputs it learns by itself how fast their word fades. Without any recent
measurement there is no correction, and the forecast is the ensemble's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from pvforecast.features import Features
from pvforecast.features.spec import LEAD, RECENT
from pvforecast.known import Floats
from pvforecast.model import columns
from pvforecast.model.recipe import Recipe

_TOLD = (*RECENT, LEAD, "physical_power")


@dataclass(frozen=True)
class Corrector:
    """A fitted correction; `names` are those of all features, in the order of the spec."""

    names: tuple[str, ...]
    booster: xgb.Booster

    def shift(self, features: Features, forecast: Floats) -> Floats:
        """What to add to every quantile, fraction of capacity; 0 where nothing recent is known. Shape [n].

        Parameters
        ----------
        features : shape [n, len(names)].
        forecast : the ensemble's median and the width of its central half, shape [n, 2].
        """
        result = np.zeros(len(features))
        known = columns.has_recent(features, self.names)
        if known.any():
            result[known] = self.booster.inplace_predict(_inputs(features[known], forecast[known], self.names))
        return result

    def contributions(self, features: Features, forecast: Floats) -> Features:
        """XGBoost's SHAP values of the shift, without what it owes to the forecast itself and to its own mean.

        Returns
        -------
        Fraction of capacity, shape [n, len(names)]; 0 for features it does not look at, and where it does not shift.
        """
        result = np.zeros((len(features), len(self.names)), np.float32)
        known = columns.has_recent(features, self.names)
        if known.any():
            rows = xgb.DMatrix(_inputs(features[known], forecast[known], self.names), nthread=1)
            own = self.booster.predict(rows, pred_contribs=True)
            for at, name in enumerate(_TOLD):
                if name in self.names:
                    result[known, self.names.index(name)] = own[:, at]
        return result


def fit(features: Features, forecast: Floats, target: Floats, names: tuple[str, ...], recipe: Recipe) -> Corrector:
    """Learn the error `target - median` of forecasts that were made without their truth."""
    known = columns.has_recent(features, names)
    inputs = _inputs(features[known], forecast[known], names)
    data = xgb.QuantileDMatrix(inputs, target[known] - forecast[known, 0], max_bin=64, nthread=2)
    return Corrector(names, xgb.train(_params(recipe), data, num_boost_round=recipe.corrector_rounds))


def _inputs(features: Features, forecast: Floats, names: Sequence[str]) -> Features:
    """The recent measurements, how far ahead it is, and where the forecast itself stands."""
    told = [columns.column(features, names, name) for name in _TOLD]
    return np.concatenate([np.stack(told, axis=1), forecast], axis=1).astype(np.float32)


def _params(recipe: Recipe) -> dict[str, object]:
    return {
        "objective": "reg:absoluteerror",
        "tree_method": "hist",
        "max_depth": 4,
        "eta": 0.05,
        "min_child_weight": 60.0,
        "subsample": 0.5,
        "colsample_bytree": 0.5,
        "max_bin": 64,
        "seed": recipe.seed,
        "nthread": 2,
        "verbosity": 0,
    }
