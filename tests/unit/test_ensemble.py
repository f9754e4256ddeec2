"""Three members, averaged level by level: each as much as it is worth there."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast import dataset
from pvforecast.features import DEFAULT_SPEC, Features
from pvforecast.model import columns, ensemble
from pvforecast.model.ensemble import MAX_RATIO, Ensemble, ratio_features, reference
from pvforecast.model.recipe import Recipe
from tests.bundles import NOW, record, site

NAMES = DEFAULT_SPEC.names
LEVELS = (0.1, 0.5, 0.95)
RECIPE = Recipe(quantiles=LEVELS, boosted=LEVELS, rounds=8, max_depth=3, eta=0.4, max_bin=32, trees=8)


@pytest.fixture(scope="module")
def learned() -> tuple[Ensemble, Features]:
    """An ensemble, and the rows that it learned from: of seasons it knows."""
    park = record(site("sim-a"), seed=1)
    issues = dataset.daily_issues(park, np.datetime64("1990-01-01", "s"), NOW)
    rows = dataset.build(park, DEFAULT_SPEC, issues, 24)
    rows = rows.where(rows.daylight & ~np.isnan(rows.target))
    return ensemble.fit(rows.features, rows.target, NAMES, RECIPE), rows.features


def members(fitted: Ensemble, features: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert fitted.level is not None
    assert fitted.ratio is not None
    base = features[:, columns.base(NAMES)]
    relative = fitted.ratio.quantiles(ratio_features(features, NAMES), LEVELS) * MAX_RATIO
    return (
        np.sort(fitted.booster.inplace_predict(base), axis=1),
        fitted.level.quantiles(base, LEVELS),
        relative * reference(features, NAMES)[:, None],
    )


def test_the_ratio_has_half_up_to_the_median_and_a_fifth_of_the_tail(learned: tuple[Ensemble, Features]) -> None:
    fitted, features = learned
    boosted, level, relative = members(fitted, features)
    share = np.array([0.5, 0.5, 0.2])
    expected = np.sort((1 - share) * (boosted + level) / 2 + share * relative, axis=1)
    np.testing.assert_allclose(fitted.quantiles(features, LEVELS), expected, atol=1e-6)


def test_in_a_season_that_was_never_seen_the_ratio_speaks_alone(learned: tuple[Ensemble, Features]) -> None:
    fitted, features = learned
    elsewhere = Ensemble(NAMES, LEVELS, fitted.booster, fitted.level, fitted.ratio, seen=(70.0, 80.0))
    np.testing.assert_allclose(elsewhere.quantiles(features, LEVELS), members(fitted, features)[2], atol=1e-9)


def test_99_levels_ascend(learned: tuple[Ensemble, Features]) -> None:
    fitted, features = learned
    many = fitted.quantiles(features, tuple(np.arange(1, 100) / 100))
    assert (np.diff(many, axis=1) >= 0.0).all()


def test_without_weather_xgboost_answers_alone(learned: tuple[Ensemble, Features]) -> None:
    fitted, features = learned
    blind = features.copy()
    blind[:, columns.weather(NAMES)] = np.nan
    boosted = np.sort(fitted.booster.inplace_predict(blind[:, columns.base(NAMES)]), axis=1)
    np.testing.assert_allclose(fitted.quantiles(blind, LEVELS), boosted, atol=1e-7)
