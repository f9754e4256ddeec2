"""The day's level: how far metered energy lies from what is expected, less what the weather's own error explains.

A forecast that missed the clouds misses energy and shape alike. The shape of the metered day (ragged, flat, early,
late) does not change when a park loses a tenth, so two small boosted trees may learn from it what the log energy ratio
usually is on such a day, and how far it spreads. What is left carries 1.5 to 3 times the information of the plain
ratio about a lasting loss (docs/drift.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from inference.drift.days import Days, ParkDays
from pvforecast.known import Floats

_PARAMETERS = {
    "objective": "reg:absoluteerror",
    "max_depth": 3,
    "eta": 0.06,
    "subsample": 0.5,
    "colsample_bytree": 0.6,
    "min_child_weight": 5,
    "seed": 7,
    "nthread": 1,
}
_CENTRE_ROUNDS, _SPREAD_ROUNDS = 90, 60
_FOLD_DAYS, _FOLDS = 14, 5
_FLOOR = 0.01  # of a residual, so that a perfect day has a logarithm
_TO_DEVIATION = 1.7  # from the median of |residual| + floor, in logarithms, to a standard deviation


@dataclass(frozen=True)
class Level:
    """Both models as UBJ; empty where there were too few days."""

    centre_ubj: bytes
    spread_ubj: bytes

    def z(self, shape: Floats, lrel: Floats) -> Floats:
        """Shape [n]; NaN where the day cannot tell."""
        known = np.isfinite(lrel) & np.isfinite(shape).all(axis=1)
        z = np.full(len(lrel), np.nan)
        if known.any():
            spread = _TO_DEVIATION * np.exp(_predict(self.spread_ubj, shape[known]))
            z[known] = (lrel[known] - _predict(self.centre_ubj, shape[known])) / spread
        return z


def fit(days: Days, shape: Floats, lrel: Floats) -> tuple[Level, Floats]:
    """The models of a park's healthy days, and the z of those days, each by models that had not seen its block."""
    known = np.isfinite(lrel) & np.isfinite(shape).all(axis=1)
    fold = (days.astype(np.int64) // _FOLD_DAYS) % _FOLDS
    centre = np.full(len(lrel), np.nan)
    for number in range(_FOLDS):
        held = known & (fold == number)
        if held.any():
            centre[held] = _predict(_train(shape, lrel, known & (fold != number), _CENTRE_ROUNDS), shape[held])
    size = np.log(np.abs(lrel - centre) + _FLOOR)
    spread = np.full(len(lrel), np.nan)
    for number in range(_FOLDS):
        held = known & (fold == number)
        if held.any():
            spread[held] = _predict(_train(shape, size, known & (fold != number), _SPREAD_ROUNDS), shape[held])
    model = Level(_train(shape, lrel, known, _CENTRE_ROUNDS), _train(shape, size, known, _SPREAD_ROUNDS))
    return model, np.asarray((lrel - centre) / (_TO_DEVIATION * np.exp(spread)))


def describe(park: ParkDays, expected: Floats) -> Floats:
    """The day as forecast and the shape, not the size, of the day as metered. Shape [n, 13]; NaN on dark days."""
    lit = (park.feature("sun_elevation") > 0.0) & ~np.isnan(park.power) & ~np.isnan(expected)
    power, forecast, clear, index = (
        np.where(lit, np.nan_to_num(values), 0.0)
        for values in (park.power, expected, park.feature("poa_clear") / 1_000.0, park.feature("clear_sky_index"))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = clear / clear.sum(axis=1, keepdims=True)
        sky = (index * weight).sum(axis=1)
        ratio = power / np.maximum(clear, 0.05)
        ratio /= (ratio * weight).sum(axis=1, keepdims=True)
        at_metered, wide_metered = _moments(power)
        at_forecast, wide_forecast = _moments(forecast)
        peak = power.max(axis=1) / power.sum(axis=1) * clear.sum(axis=1) / clear.max(axis=1)
        of_year = 2.0 * np.pi * (park.days.astype(np.int64) % 365.25) / 365.25
        rows = np.stack(
            [
                sky, _spread(index, sky[:, None], weight), np.where(clear > 0.1, index, 9.0).min(axis=1),
                _ragged(index / sky[:, None], weight), forecast.sum(axis=1) / clear.sum(axis=1),
                np.sin(of_year), np.cos(of_year),
                _ragged(ratio, weight), _spread(ratio, 1.0, weight), at_metered - at_forecast,
                wide_metered - wide_forecast, wide_metered - _moments(clear)[1], peak,
            ],
            axis=1,
        )  # fmt: skip
    return np.where(np.isfinite(rows).all(axis=1)[:, None], rows, np.nan)


def _moments(hourly: Floats) -> tuple[Floats, Floats]:
    """Centre and width of each day, hours."""
    hour = np.arange(24) + 0.5
    total = hourly.sum(axis=1)
    centre = hourly @ hour / total
    return centre, np.sqrt((hourly * (hour - centre[:, None]) ** 2).sum(axis=1) / total)


def _spread(values: Floats, centre: Floats | float, weight: Floats) -> Floats:
    return np.asarray(np.sqrt((weight * (values - centre) ** 2).sum(axis=1)))


def _ragged(values: Floats, weight: Floats) -> Floats:
    steps = np.abs(np.diff(values, axis=1)) * np.minimum(weight[:, 1:], weight[:, :-1])
    return np.asarray(steps.sum(axis=1))


def _train(shape: Floats, target: Floats, rows: npt.NDArray[np.bool_], rounds: int) -> bytes:
    matrix = xgb.DMatrix(shape[rows], target[rows])
    return bytes(xgb.train(_PARAMETERS, matrix, rounds).save_raw("ubj"))


def _predict(booster_ubj: bytes, shape: Floats) -> Floats:
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(booster_ubj))
    return np.asarray(booster.inplace_predict(shape), np.float64)
