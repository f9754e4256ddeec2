"""Fits the quantile model: one global XGBoost for all parks, calibrated out of fold.

The recipe is the one that won by cross-validation over all seasons (docs/model.md): all quantile levels in one
`reg:quantileerror` model, daylight rows only, many small steps, small column samples.
"""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from pvforecast.dataset import Rows, known_by
from pvforecast.errors import NotEnoughData
from pvforecast.features import WEATHER_DERIVED, FeatureSpec
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe

LEAD_EDGES = (0.0, 24.0)
MIN_ROWS = 500
_GOLDEN_ROWS = 64


def train(rows: Rows, recipe: Recipe, as_of: np.datetime64, info: dict[str, Any] | None = None) -> Bundle:
    """Fit and calibrate on everything known at `as_of`.

    Calibration is conformal: the rows are cut into `calibration_folds` blocks of consecutive days, each predicted by
    a model that did not see it, and each quantile is shifted, per lead-time bin, by the residual quantile that makes
    its out-of-fold coverage exact (after Romano et al. 2019, Conformalized Quantile Regression).

    Raises
    ------
    NotEnoughData
        fewer than `MIN_ROWS` metered daylight rows, or of too few days to hold some out.
    """
    known = known_by(rows, as_of)
    if len(known) < MIN_ROWS:
        raise NotEnoughData(
            f"{len(known)} metered daylight rows before {as_of}, at least {MIN_ROWS} are needed",
            field="as_of",
            hint="ingest more history, or train later",
        )
    shifts = _shifts(known, recipe)
    booster = _fit(known, recipe)
    golden = np.linspace(0, len(known) - 1, _GOLDEN_ROWS).astype(int)
    return Bundle(
        bytes(booster.save_raw("ubj")),
        recipe.spec,
        recipe.quantiles,
        shifts,
        LEAD_EDGES,
        known.features[golden],
        {
            **(info or {}),
            "recipe": recipe.as_dict(),
            "recipe_hash": recipe.hash,
            "trained_until": str(as_of),
            "trained_rows": len(known),
            "parks": sorted({str(park) for park in known.park_id}),
            "resolution": "PT1H",
            "versions": {"xgboost": xgb.__version__, "numpy": np.__version__, "python": platform.python_version()},
        },
    )


def _fit(rows: Rows, recipe: Recipe) -> xgb.Booster:
    """Every `without_weather`-th row is shown a second time with its weather taken away.

    Where a weather run ends before the horizon does, the model then falls back on sun and history; a model that
    never saw missing weather answered noon power at sunset.
    """
    blind = rows.features[:: recipe.without_weather].copy()
    blind[:, _weather_columns(recipe.spec)] = np.nan
    features = np.concatenate([rows.features, blind])
    target = np.clip(np.concatenate([rows.target, rows.target[:: recipe.without_weather]]), 0.0, 1.0)
    data = xgb.QuantileDMatrix(features, target, max_bin=recipe.max_bin, nthread=2)
    return xgb.train(recipe.params(), data, num_boost_round=recipe.rounds)


def _weather_columns(spec: FeatureSpec) -> list[int]:
    return [at for at, name in enumerate(spec.names) if name in WEATHER_DERIVED]


def _shifts(rows: Rows, recipe: Recipe) -> npt.NDArray[np.float64]:
    """Shape [lead bins, quantiles]: what to add to each sorted raw quantile, fraction of capacity."""
    day = rows.issued_at.astype("datetime64[D]")
    edges = np.quantile(day.astype(np.int64), np.linspace(0, 1, recipe.calibration_folds + 1))
    fold = np.clip(np.searchsorted(edges, day.astype(np.int64), side="right") - 1, 0, recipe.calibration_folds - 1)
    if len(np.unique(fold)) < recipe.calibration_folds:
        raise NotEnoughData(
            f"{len(np.unique(day))} issue days, too few for {recipe.calibration_folds} folds of days",
            field="as_of",
            hint="ingest more history, or train later",
        )
    predicted = np.zeros((len(rows), len(recipe.quantiles)))
    for number in range(recipe.calibration_folds):
        held_out = fold == number
        booster = _fit(rows.where(~held_out), recipe)
        predicted[held_out] = np.sort(booster.inplace_predict(rows.features[held_out]), axis=1)
    residual = np.clip(rows.target, 0.0, 1.0)[:, None] - predicted
    lead_bin = np.searchsorted(LEAD_EDGES, rows.lead_hours, side="right") - 1
    bins = [lead_bin == b for b in range(len(LEAD_EDGES))]
    of_bin = [residual[inside if inside.any() else ~inside] for inside in bins]  # no such lead: as all others
    return np.array([[np.quantile(r[:, q], level) for q, level in enumerate(recipe.quantiles)] for r in of_bin])
