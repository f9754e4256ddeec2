"""The forecast from weather and sun: three members that err in different ways.

1. XGBoost, all its quantile levels in one model: the sharpest where much was seen. It alone answers without weather.
2. A quantile forest: good tails.
3. A quantile forest of power relative to the physical model: it carries what was learned to a sun that was never
   seen, and takes over in seasons without data.

They are averaged quantile by quantile (Vincent 1912; Lichtendahl et al. 2013, Management Science 59). The third is the
best of them up to the median and too wide above: its share of the average falls with the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from pvforecast.features import Features
from pvforecast.features.spec import extra_of
from pvforecast.known import Floats
from pvforecast.model import columns, forest, seasons
from pvforecast.model.forest import QuantileForest
from pvforecast.model.recipe import Recipe

ANY_SEASON = (-90.0, 90.0)
MAX_RATIO = 2.5  # of power to the physical model's
_MIN_REFERENCE = 0.02  # of capacity

Share = tuple[tuple[float, ...], tuple[float, ...]]
"""Levels, and of the ratio in the average how much at each; straight lines between."""
SHARE: Share = (0.5, 0.95), (0.5, 0.2)
A_THIRD: Share = (0.5,), (1.0 / 3.0,)

_LEVEL_OF_LIGHT = ("ghi", "dni", "dhi", "poa", "physical_power", "clear_sky_power", "sun_elevation", "day_of_year")


@dataclass(frozen=True)
class Ensemble:
    """Three fitted members; `ratio` and `level` are None where nothing with weather was learned from.

    Attributes
    ----------
    names : of all features, in the order of the spec.
    levels : ascending, those of `booster`.
    seen : lowest and highest declination of the sun that was learned from, degrees.
    share : of `ratio` in the average.
    """

    names: tuple[str, ...]
    levels: tuple[float, ...]
    booster: xgb.Booster
    level: QuantileForest | None
    ratio: QuantileForest | None
    seen: tuple[float, float]
    share: Share = SHARE

    def quantiles(self, features: Features, levels: tuple[float, ...]) -> Floats:
        """Raw quantiles, fraction of capacity, ascending. `features`: shape [n, len(names)]; shape [n, levels]."""
        base = features[:, columns.base(self.names)]
        boosted = np.sort(self.booster.inplace_predict(base).reshape(len(base), -1).astype(np.float64), axis=1)
        result = between(boosted, self.levels, levels)
        weather = ~np.isnan(columns.column(features, self.names, "physical_power"))
        if self.level is None or self.ratio is None or not weather.any():
            return result
        rows = features[weather]
        tails = self.level.quantiles(rows[:, columns.base(self.names)], (*levels, *self.levels))
        level, grid = tails[:, : len(levels)], tails[:, len(levels) :]
        # Between and beyond its own levels XGBoost takes the forest's shape.
        shaped = np.sort(level + between(boosted[weather] - grid, self.levels, levels), axis=1)
        relative = self.ratio.quantiles(ratio_features(rows, self.names), levels)
        relative = relative * MAX_RATIO * reference(rows, self.names)[:, None]
        new = seasons.unseen(seasons.declination(rows, self.names), self.seen)[:, None]
        share = np.interp(levels, *self.share)
        together = (1.0 - share) * (shaped + level) / 2.0 + share * relative
        result[weather] = np.sort((1.0 - new) * together + new * relative, axis=1)
        return result


def fit(features: Features, target: Floats, names: tuple[str, ...], recipe: Recipe, seed: int = 0) -> Ensemble:
    """Fit all members.

    Every `without_weather`-th row is shown to XGBoost a second time with its weather taken away. Where a weather run
    ends before the horizon does, the model then falls back on sun and calendar; a model that never saw missing
    weather answered noon power at sunset.

    Parameters
    ----------
    features : shape [n, len(names)]. target : fraction of capacity, shape [n].
    """
    base = features[:, columns.base(names)]
    blind = base[:: recipe.without_weather].copy()
    blind[:, columns.weather([names[at] for at in columns.base(names)])] = np.nan
    target = np.clip(target, 0.0, 1.0)
    data = xgb.QuantileDMatrix(
        np.concatenate([base, blind]),
        np.concatenate([target, target[:: recipe.without_weather]]),
        max_bin=recipe.max_bin,
        nthread=2,
    )
    booster = xgb.train(recipe.params() | {"seed": recipe.seed + seed}, data, num_boost_round=recipe.rounds)
    weather = ~np.isnan(columns.column(features, names, "physical_power"))
    if weather.sum() < 2 * recipe.min_leaf or recipe.trees == 0:
        return Ensemble(names, recipe.boosted, booster, None, None, ANY_SEASON)
    declination = seasons.declination(features, names)
    seen = (float(declination.min()), float(declination.max()))
    rows, made = features[weather], target[weather]
    shown = _sample(len(rows), recipe.forest_rows, recipe.seed + seed)
    rows, made = rows[shown], made[shown]
    level = _grown(rows[:, columns.base(names)], made, None, recipe.min_leaf, recipe, seed)
    scale = reference(rows, names)
    relative = np.clip(made / scale, 0.0, MAX_RATIO) / MAX_RATIO
    ratio = _grown(ratio_features(rows, names), relative, scale, 2 * recipe.min_leaf, recipe, seed)
    return Ensemble(names, recipe.boosted, booster, level, ratio, seen)


def reference(features: Features, names: Sequence[str]) -> Floats:
    """What ratios are taken of: the physical model's power, fraction of capacity. Shape [n]."""
    return np.maximum(features[:, names.index("physical_power")].astype(np.float64), _MIN_REFERENCE)


def ratio_features(features: Features, names: Sequence[str]) -> Features:
    """The base features but those that tell how much light there is, and what share of it comes from where."""
    kept = [at for at in columns.base(names) if not _tells_light(names[at])]
    ghi, dhi = (np.maximum(features[:, names.index(name)], 1.0) for name in ("ghi", "dhi"))
    neighbours = [
        np.clip(
            features[:, names.index(f"physical_power_{step}h")] / np.maximum(reference(features, names), 0.02), 0, 4
        )
        for step in ("-1", "+1")
    ]
    shares = [dhi / ghi, *neighbours]
    return np.concatenate([features[:, kept], np.stack(shares, axis=1)], axis=1).astype(np.float32)


def between(values: Floats, known: tuple[float, ...], levels: tuple[float, ...]) -> Floats:
    """Values at other levels, by straight lines; beyond the outermost their values. Shape [n, levels]."""
    if known == levels:
        return values.copy()
    position = np.interp(levels, known, np.arange(len(known)))
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(known) - 1)
    share = position - low
    result: Floats = values[:, low] * (1.0 - share) + values[:, high] * share
    return result


def _tells_light(name: str) -> bool:
    return extra_of(name) is None and name.startswith(_LEVEL_OF_LIGHT)


def _grown(
    features: Features, target: Floats, weight: Floats | None, min_leaf: int, recipe: Recipe, seed: int
) -> QuantileForest:
    return forest.fit(
        features,
        target,
        weight,
        trees=recipe.trees,
        min_leaf=min_leaf,
        max_leaves=recipe.max_leaves,
        max_features=recipe.max_features,
        seed=recipe.seed + seed,
    )


def _sample(n: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
