"""What the park did lately moves the forecast of the next hours and days.

A small model of the ensemble's error, learned from forecasts of days that the ensemble had not seen: with the last
hours, the last days and the lead time as inputs it learns by itself how fast their word fades. What it learned is then
weighed on days that it has not seen itself. Without any recent measurement there is no correction, and the forecast is
the ensemble's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from pvforecast.features import Features
from pvforecast.features.spec import LEAD, RECENT
from pvforecast.known import Floats
from pvforecast.model import columns
from pvforecast.model.recipe import Recipe

_TOLD = (*RECENT, LEAD, "physical_power")
_STRENGTHS = np.linspace(0.0, 1.0, 21)


@dataclass(frozen=True)
class Corrector:
    """A fitted correction.

    Attributes
    ----------
    names : of all features, in the order of the spec.
    strength : share of what the booster says that is taken, 0 to 1.
    """

    names: tuple[str, ...]
    booster: xgb.Booster
    strength: float = 1.0

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
            said = self.booster.inplace_predict(_inputs(features[known], forecast[known], self.names))
            result[known] = self.strength * said.astype(np.float64)
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
                    result[known, self.names.index(name)] = self.strength * own[:, at]
        return result


def fit(
    features: Features,
    forecast: Floats,
    target: Floats,
    fold: npt.NDArray[np.int64],
    taught: npt.NDArray[np.bool_],
    names: tuple[str, ...],
    recipe: Recipe,
) -> tuple[Corrector, Floats]:
    """Learn the error `target - median` of forecasts that were made without their truth.

    What a correction does to days that it has learned from says nothing of other days: the errors left there are too
    small, and a calibration on them makes bands too narrow. So the correction is also learned without each fold in
    turn, and those corrections of days not seen decide how much of it is taken, and are what to calibrate on.

    Parameters
    ----------
    fold : of each row. taught : rows to learn from. Shape [n].

    Returns
    -------
    The correction, and the shift of each row by one that has not seen its fold; shape [n].
    """
    known = taught & columns.has_recent(features, names)
    shift = np.zeros(len(features))
    for number in np.unique(fold):
        own = fold == number
        if (known & ~own).any():
            shift[own] = _learned(features, forecast, target, known & ~own, names, recipe).shift(
                features[own], forecast[own]
            )
    error = (target - forecast[:, 0])[known]
    left = [np.abs(error - share * shift[known]).mean() for share in _STRENGTHS]
    strength = float(_STRENGTHS[int(np.argmin(left))])
    return replace(_learned(features, forecast, target, known, names, recipe), strength=strength), strength * shift


def _learned(
    features: Features,
    forecast: Floats,
    target: Floats,
    taught: npt.NDArray[np.bool_],
    names: tuple[str, ...],
    recipe: Recipe,
) -> Corrector:
    inputs = _inputs(features[taught], forecast[taught], names)
    data = xgb.QuantileDMatrix(inputs, target[taught] - forecast[taught, 0], max_bin=64, nthread=2)
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
