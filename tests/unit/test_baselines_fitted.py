"""Baselines that learn: from what was metered before, each against what it is defined as."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pvforecast import features
from pvforecast.evaluation import metrics, references
from pvforecast.evaluation.references import References, Shown
from pvforecast.known import HOUR, Floats, ParkRecord, Times
from tests.bundles import NOW, START, record, site

LEVELS = tuple(n / 20 for n in range(1, 20))
PARK = record(site("sim-a"))
NAMES = references.weather_names([PARK])


def rows(park: ParkRecord, first: int, last: int) -> tuple[Shown, Floats]:
    """Midnight issues of some days, 48 h each, with what was metered."""
    issues = [START + day * 24 * HOUR for day in range(first, last)]
    valid: Times = np.concatenate([features.horizon(issue, 48) for issue in issues])
    shown = references.show(park, 0, np.repeat(np.array(issues), 48), valid, NAMES)
    return shown, park.truth(valid) / park.site.ac_capacity_kw


@pytest.fixture(scope="module")
def fitted() -> tuple[References, Shown, Floats]:
    shown, target = rows(PARK, 8, 30)
    return references.fit(shown, target, LEVELS), *rows(PARK, 30, 37)


def test_every_baseline_ascends_within_bounds_and_is_dark_at_night(fitted: tuple[References, Shown, Floats]) -> None:
    quantiles = fitted[0].quantiles(fitted[1])
    assert set(quantiles) == set(references.FITTED)
    for values in quantiles.values():
        assert values.shape == (len(fitted[1]), len(LEVELS))
        assert (np.diff(values, axis=1) >= 0).all()
        assert values.min() >= 0
        assert values.max() <= 1
        assert (values[~fitted[1].daylight] == 0).all()


def test_bands_of_smart_persistence_hold_about_what_they_say_on_their_own_past() -> None:
    shown, target = rows(PARK, 8, 30)
    quantiles = references.fit(shown, target, LEVELS).quantiles(shown)["smart_persistence_quantiles"]
    day = shown.daylight & (shown.clear > 0.1) & (target > 0)
    for at in (1, 9, 17):
        assert (target[day] <= quantiles[day, at]).mean() == pytest.approx(LEVELS[at], abs=0.06)


def test_smart_persistence_with_bands_scores_better_than_its_point(fitted: tuple[References, Shown, Floats]) -> None:
    references_, shown, target = fitted
    day = shown.daylight & ~np.isnan(target)
    banded = references_.quantiles(shown)["smart_persistence_quantiles"][day].astype(float)
    point = np.repeat(shown.points["smart_persistence"][day, None], len(LEVELS), 1)
    assert metrics.crps(target[day], banded, LEVELS) < 0.9 * metrics.crps(target[day], point, LEVELS)


def test_climatology_is_the_quantile_of_the_month_and_hour(fitted: tuple[References, Shown, Floats]) -> None:
    shown, target = rows(PARK, 8, 30)
    noon = (shown.hour == 12) & (shown.month == 5)
    _, once = np.unique(shown.valid_at[noon], return_index=True)
    expected = np.quantile(target[noon][once], LEVELS)
    ahead = fitted[1]
    asked = (ahead.hour == 12) & (ahead.month == 5)
    assert asked.any()
    given = fitted[0].quantiles(ahead)["climatology"]
    np.testing.assert_allclose(given[asked], np.tile(expected, (asked.sum(), 1)), rtol=1e-5)


def test_a_month_that_was_never_metered_is_told_by_its_clear_sky() -> None:
    shown, target = rows(PARK, 8, 30)
    only_may = references.fit(shown, target, LEVELS)
    december = replace(shown, month=np.full(len(shown), 12), clear=shown.clear * 0.5)
    given = only_may.quantiles(december)["climatology"]
    noon = shown.hour == 12
    usual = only_may.quantiles(shown)["climatology"]
    assert given[noon, 9].mean() == pytest.approx(0.5 * usual[noon, 9].mean(), rel=0.25)


def test_the_plain_booster_sees_raw_weather_and_calendar_only(fitted: tuple[References, Shown, Floats]) -> None:
    plain = fitted[0].plain
    assert plain is not None
    assert plain.num_features() == len(NAMES) + 3
    dark = replace(fitted[1], weather=fitted[1].weather * 0.3)
    bright, dim = (fitted[0].quantiles(each)["plain_xgboost"][:, 9] for each in (fitted[1], dark))
    assert dim.sum() < 0.8 * bright.sum()


def test_many_levels_are_interpolated_from_few() -> None:
    many = tuple(n / 100 for n in range(1, 100))
    shown, target = rows(PARK, 8, 20)
    fit = references.fit(shown, target, many)
    assert len(fit.plain_levels) < len(many)
    assert fit.quantiles(shown)["plain_xgboost"].shape == (len(shown), 99)


def test_without_a_past_a_baseline_that_learns_is_missing_and_not_invented() -> None:
    shown, target = rows(PARK, 8, 10)
    nothing = references.fit(shown, np.full(len(target), np.nan), LEVELS).quantiles(shown)
    assert np.isnan(nothing["plain_xgboost"][shown.daylight]).all()


def test_a_poisoned_future_changes_no_baseline_that_learns() -> None:
    at = NOW - 5 * 24 * HOUR
    dirty = replace(PARK, power_kw=np.where(PARK.available_at > at, 99.0, PARK.power_kw))
    for park in (PARK, dirty):
        shown, _ = rows(park, 30, 35)
        known = shown.where(shown.issued_at <= at)
        assert known.points["smart_persistence"].max() <= 1
    clean, poisoned = (rows(park, 30, 34)[0] for park in (PARK, dirty))
    for name in references.POINTS:
        np.testing.assert_array_equal(clean.points[name], poisoned.points[name])
