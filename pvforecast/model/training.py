"""Fits a bundle: the ensemble, its correction by recent output, and the calibration of both, on days not seen."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from pvforecast.dataset import Rows, known_by
from pvforecast.errors import NotEnoughData
from pvforecast.features.snow import lies
from pvforecast.known import Floats
from pvforecast.model import calibration, columns, corrector, effects, ensemble, levels, snow, widths
from pvforecast.model.bundle import Bundle, centre
from pvforecast.model.corrector import Corrector
from pvforecast.model.levels import Change
from pvforecast.model.recipe import Recipe
from pvforecast.portfolio import Dependence
from pvforecast.portfolio.dependence import distances_km
from pvforecast.portfolio.fitting import Forecasts
from pvforecast.portfolio.fitting import fit as fit_dependence

MIN_ROWS = 200
_MIN_CORRECTED = 500  # rows with recent output, below which nothing is said of their errors
_GOLDEN_ROWS = 64
_NOBODY = ""  # a golden row is of a park that nobody learned from
_STRETCH_DAYS = 7
_APART_ROWS, _APART_GROUPS = 60_000, 3
_SITE_KM = 0.15
_BLIND = 5  # every so many rows, one is calibrated without weather, and another without history


def train(
    rows: Rows,
    recipe: Recipe,
    as_of: np.datetime64,
    info: dict[str, Any] | None = None,
    places: Mapping[str, tuple[float, float]] | None = None,
    told: Mapping[str, Change] | None = None,
) -> Bundle:
    """Fit and calibrate on everything known at `as_of`.

    The days are dealt into `calibration_folds` folds; each is forecast by an ensemble that has not seen it. Where those
    forecasts show that a park's level has changed for good, what it did before is scaled to what it does now; what each
    park gives beyond what its facts tell moves its forecasts (`effects`). The correction learns the errors that are
    left, and the calibration what corrections that had not seen a day leave of its errors. Rows of which it was known
    that snow lies are forecast so too, but only what is said of snow learns from them.

    Parameters
    ----------
    places : park id -> latitude and longitude, degrees, where the bundle is to know how the parks' errors go together.
    told : park id -> since when, and by how much, the drift job has found its level to be another.

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
    known = drawn(known, recipe.booster_rows, recipe.seed)
    names = recipe.spec.names
    shown = _with_less(known.features, names)
    bare = ~lies(known.features, names)
    if bare.sum() < MIN_ROWS:
        bare = np.ones(len(known), bool)
    target = np.clip(known.target, 0.0, 1.0)
    fold = folds(known, recipe.calibration_folds)
    asked = widths.measured(known.features, bare, names)
    of_asked = widths.on_each_rung(known.features[asked], names)
    raw, of_rungs = _unseen(known, target, shown, fold, bare, recipe, of_asked, fold[asked])
    changes = levels.find(known.where(bare), centre(raw[bare], recipe.quantiles)[:, 0], told)
    if changes:
        target = np.clip(levels.levelled(known, changes), 0.0, 1.0)
        raw, of_rungs = _unseen(known, target, shown, fold, bare, recipe, of_asked, fold[asked])
    lit = bare & (calibration.rungs(shown, names) < calibration.BLIND)
    lit = lit if lit.any() else bare
    rows_lit, target_lit = known.where(lit), target[lit]
    own = effects.fit(rows_lit, target_lit, raw[lit].mean(axis=1), apart(rows_lit, target_lit, recipe, places or {}))
    own = own.with_average(known.park_id)
    level = own.levels(known.features, names, known.park_id)
    raw = level.applied(raw)
    of_rungs = own.levels(of_asked, names, np.tile(known.park_id[asked], len(calibration.RUNGS))).applied(of_rungs)
    correction, shift = _correction(target, shown, raw, fold, bare, recipe)
    golden = np.linspace(0, len(known) - 1, _GOLDEN_ROWS).astype(int)
    where = calibration.cells(shown, known.lead_hours, names)
    moved = np.clip(raw + shift[:, None], 0.0, 1.0)
    of_bare = (where[0][bare], where[1][bare], where[2][bare])
    moves = calibration.fit(moved[bare], target[bare], recipe.quantiles, of_bare)
    made = level.widened(calibration.apply(moved, moves, recipe.quantiles, where), recipe.quantiles)
    return Bundle(
        ensemble.fit(known.features[bare], target[bare], names, recipe),
        correction,
        moves,
        recipe.spec,
        recipe.quantiles,
        known.features[golden],
        {
            **(info or {}),
            "recipe": recipe.as_dict(),
            "recipe_hash": recipe.hash,
            "trained_until": str(as_of),
            "trained_rows": len(known),
            "level_changes": {park: {"at": str(c.at), "factor": c.factor} for park, c in changes.items()},
            "band_width": widths.ratios(of_rungs, of_asked, known.lead_hours[asked], moves, recipe.quantiles, names),
            "parks": sorted({str(park) for park in known.park_id}),
            "versions": {"xgboost": xgb.__version__, "numpy": np.__version__, "python": platform.python_version()},
        },
        None
        if places is None
        else _dependence(
            rows_lit,
            target_lit,
            made[lit],
            effects.Levels(level.factor[lit], level.deviation[lit]),
            own,
            recipe,
            places,
        ),
        _snow(known, target, made, lies(shown, names) & ~bare, recipe),
        own,
        (*known.park_id[golden[:-1]].astype(str), _NOBODY),
    )


def folds(rows: Rows, number: int) -> npt.NDArray[np.int64]:
    """The fold of each row, 0 to `number` - 1: weeks in turn, shorter stretches of days where there are few. Shape [n].

    All rows of a day are in one fold, whenever they were issued. Weeks in turn, so that each fold knows all seasons:
    with one long stretch a fold, the errors were those of unseen seasons, and a correction learned from them did harm.

    Raises
    ------
    NotEnoughData
        there are fewer days than folds.
    """
    day = rows.valid_at.astype("datetime64[D]").astype(np.int64)
    days, number_of_day = np.unique(day, return_inverse=True)
    if len(days) < number:
        raise NotEnoughData(
            f"{len(days)} days, too few for {number} folds of days",
            field="as_of",
            hint="ingest more history, or train later",
        )
    stretch = max(1, min(_STRETCH_DAYS, len(days) // (2 * number)))
    fold: npt.NDArray[np.int64] = number_of_day // stretch % number
    return fold


def drawn(rows: Rows, most: int, seed: int) -> Rows:
    """At most so many rows, the same ones for the same seed, in their order."""
    if len(rows) <= most:
        return rows
    kept = np.zeros(len(rows), bool)
    kept[np.random.default_rng(seed).choice(len(rows), most, replace=False)] = True
    return rows.where(kept)


def drawn_evenly(park: npt.NDArray[np.int64], most: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the rows to take so that no park has more than its share of `most`. Shape [n]."""
    share = max(1, most // (int(park.max(initial=0)) + 1))
    order = np.random.default_rng(seed).permutation(len(park))
    by_park = order[np.argsort(park[order], kind="stable")]
    sizes = np.bincount(park)
    place = np.arange(len(park)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = np.zeros(len(park), bool)
    taken[by_park[place < share]] = True
    return taken


def _dependence(
    rows: Rows,
    target: Floats,
    quantiles: Floats,
    level: effects.Levels,
    own: effects.Effects,
    recipe: Recipe,
    places: Mapping[str, tuple[float, float]],
) -> Dependence:
    """How the errors of parks and hours go together, from forecasts of days that were not seen.

    Of rows shown with their weather: an hour shown without errs otherwise than the hours beside it.
    """
    made = Forecasts(rows.park_id, rows.issued_at, rows.valid_at, target, quantiles, recipe.quantiles)
    found = fit_dependence(made, {park: places[park] for park in np.unique(rows.park_id.astype(str))})
    of_new = replace(own, parks={}).levels(rows.features, recipe.spec.names, rows.park_id)
    shares, others = effects.shares(level, of_new, quantiles, recipe.quantiles, rows.park_id)
    return replace(found, level=np.array([shares[park] for park in found.parks]), level_of_others=others)


def _snow(
    rows: Rows, target: Floats, quantiles: Floats, lying: npt.NDArray[np.bool_], recipe: Recipe
) -> snow.Snow | None:
    """What becomes of forecasts of days that were not seen where snow lay."""
    days = set(zip(rows.park_id[lying], rows.valid_at[lying].astype("datetime64[D]").astype(int), strict=True))
    median = centre(quantiles, recipe.quantiles)[:, 0]
    return snow.fit(target[lying], median[lying], len(days), recipe.quantiles)


def _unseen(
    rows: Rows,
    target: Floats,
    shown: npt.NDArray[np.float32],
    fold: npt.NDArray[np.int64],
    taught: npt.NDArray[np.bool_],
    recipe: Recipe,
    also: npt.NDArray[np.float32],
    fold_of_also: npt.NDArray[np.int64],
) -> tuple[Floats, Floats]:
    """Raw quantiles of each row by an ensemble that has not seen its stretch of days. Shape [n, levels].

    Parameters
    ----------
    shown : the features that it is asked with. fold : of `folds`. taught : rows to learn from. Shape [n].
    also : more that is asked, in blocks of rows whose folds are `fold_of_also`; what is answered comes second.
    """
    light = replace(recipe, booster_rows=recipe.booster_rows // recipe.calibration_folds)
    result = np.empty((len(rows), len(recipe.quantiles)))
    beside = np.empty((len(also), len(recipe.quantiles)))
    of_also = np.tile(fold_of_also, len(also) // max(1, len(fold_of_also)))
    for number in range(recipe.calibration_folds):
        held_out = fold == number
        seen = np.flatnonzero(~held_out & taught)
        if len(seen) > light.booster_rows:
            seen = seen[np.sort(np.random.default_rng(number).choice(len(seen), light.booster_rows, replace=False))]
        fitted = ensemble.fit(rows.features[seen], target[seen], recipe.spec.names, light, seed=number + 1)
        both = fitted.quantiles(np.concatenate([shown[held_out], also[of_also == number]]), recipe.quantiles)
        result[held_out], beside[of_also == number] = np.split(both, [held_out.sum()])
    return result, beside


def apart(rows: Rows, target: Floats, recipe: Recipe, places: Mapping[str, tuple[float, float]]) -> Floats | None:
    """Mean forecast of some rows by an ensemble that has not seen their site; NaN of the others. Shape [n].

    None where nobody can be: there is one site, or too few rows. Few rows are not asked about many: a park of a week
    says nothing of one of a year.
    """
    parks, park = np.unique(rows.park_id.astype(str), return_inverse=True)
    site = _sites(parks.tolist(), places)
    groups = min(int(site.max()) + 1, _APART_GROUPS)
    if groups < 2:
        return None
    fair = drawn_evenly(park, _APART_ROWS, recipe.seed)
    result = np.full(len(rows), np.nan)
    for number in range(groups):
        left_out = site[park] % groups == number
        seen, asked = np.flatnonzero(fair & ~left_out), np.flatnonzero(fair & left_out)
        if len(seen) < max(MIN_ROWS, len(asked) // 2):
            continue
        fitted = ensemble.fit(rows.features[seen], target[seen], recipe.spec.names, recipe, seed=number + 1)
        result[asked] = fitted.quantiles(rows.features[asked], recipe.quantiles).mean(axis=1)
    return None if np.isnan(result).all() else result


def _sites(parks: Sequence[str], places: Mapping[str, tuple[float, float]]) -> npt.NDArray[np.int64]:
    """The number of each park's site; parks next to each other (two phases, say) are one. Shape [parks]."""
    site = np.arange(len(parks))
    placed = np.array([at for at, park in enumerate(parks) if park in places], np.int64)
    if len(placed):
        north, east = np.array([places[parks[at]] for at in placed], np.float64).T
        for at, near in zip(placed, distances_km(north, east) < _SITE_KM, strict=True):
            site[at] = site[placed[near][0]]
    return np.unique(site, return_inverse=True)[1]


def _with_less(features: npt.NDArray[np.float32], names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """The rows as they may have to be forecast: some without weather, some without recent output."""
    result = features.copy()
    result[1::_BLIND] = widths.without(features[1::_BLIND], names, weather=True, recent=False)
    result[2::_BLIND] = widths.without(features[2::_BLIND], names, weather=False, recent=True)
    return result


def _correction(
    target: Floats,
    shown: npt.NDArray[np.float32],
    raw: Floats,
    fold: npt.NDArray[np.int64],
    taught: npt.NDArray[np.bool_],
    recipe: Recipe,
) -> tuple[Corrector | None, Floats]:
    """The correction by recent output, and what it does to days that it has not seen, shape [n]."""
    names = recipe.spec.names
    known = taught & columns.has_recent(shown, names)
    if recipe.corrector_rounds == 0 or known.sum() < _MIN_CORRECTED:
        return None, np.zeros(len(shown))
    return corrector.fit(shown, centre(raw, recipe.quantiles), target, fold, taught, names, recipe)
