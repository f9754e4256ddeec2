"""The weather-only median model of the frozen reference, and what it expects.

It sees weather and sun, never metered power: a model with lags would follow a slow loss and hide it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from inference.drift.days import ParkDays
from pvforecast.known import Floats

_ROUNDS = 200
_PARAMETERS = {
    "objective": "reg:quantileerror",
    "quantile_alpha": 0.5,
    "max_depth": 6,
    "eta": 0.05,
    "min_child_weight": 20,
    "subsample": 0.5,
    "colsample_bytree": 0.5,
    "max_bin": 128,
    "seed": 7,
    "nthread": 1,
}
FOLD_DAYS = 28
FOLDS = 6


def train(park: ParkDays) -> bytes:
    """Train on all daylight hours that have weather and metering. Returns the booster as UBJ."""
    rows = _daylight(park) & ~np.isnan(park.power) & ~np.isnan(park.feature("ghi"))
    matrix = xgb.DMatrix(park.features[rows], park.power[rows])
    return bytes(xgb.train(_PARAMETERS, matrix, _ROUNDS).save_raw("ubj"))


def predict(booster_ubj: bytes, park: ParkDays) -> Floats:
    """Expected power, fraction of capacity, shape [n, 24]; zero at night, NaN where there is no weather."""
    expected = _night(park)
    rows = _daylight(park) & ~np.isnan(park.feature("ghi"))
    if rows.any():
        expected[rows] = np.clip(_booster(booster_ubj).inplace_predict(park.features[rows]), 0.0, 1.2)
    return expected


def predict_out_of_fold(park: ParkDays) -> Floats:
    """As `predict`, each day by a model that saw neither it nor its 28-day block."""
    fold = (park.days.astype(np.int64) // FOLD_DAYS) % FOLDS
    expected = np.full(park.power.shape, np.nan)
    for number in np.unique(fold):
        expected[fold == number] = predict(train(park.select(fold != number)), park.select(fold == number))
    return expected


def physical(park: ParkDays) -> Floats:
    """The PVWatts estimate instead of a trained model, for a park too young for one. Shape [n, 24]."""
    return np.where(_daylight(park), park.feature("physical_power"), _night(park))


@lru_cache(maxsize=8)
def _booster(booster_ubj: bytes) -> xgb.Booster:
    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(booster_ubj))
    return booster


def _daylight(park: ParkDays) -> npt.NDArray[np.bool_]:
    return np.asarray(park.feature("sun_elevation") > 0.0)


def _night(park: ParkDays) -> Floats:
    return np.where(np.isnan(park.feature("ghi")), np.nan, 0.0)
