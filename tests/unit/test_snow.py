"""Snow that lies: what becomes of a forecast is learned from days on which it did, and from no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pvforecast import dataset
from pvforecast.features import DEFAULT_SPEC, FeatureSpec
from pvforecast.features.snow import lies
from pvforecast.features.spec import SNOW
from pvforecast.known import HOUR, ParkRecord
from pvforecast.model.bundle import Bundle, from_files
from pvforecast.model.recipe import Recipe
from pvforecast.model.snow import Snow, fit
from pvforecast.model.training import train
from tests.bundles import DAYS, NOW, START, record, site

LEVELS = (0.1, 0.5, 0.9)
RECIPE = Recipe(
    quantiles=LEVELS, boosted=LEVELS, rounds=8, max_depth=3, eta=0.4, max_bin=32, trees=8, corrector_rounds=5,
    calibration_folds=2,
)  # fmt: skip
COVERED = (12, 13, 14, 22, 23, 24, 25)  # days, of which the first of each stretch comes as a surprise


def snowed_in() -> ParkRecord:
    """A park under snow for two stretches of days with frost, flagged as validation flags them."""
    warm = record(site())
    covered = np.zeros(len(warm.valid_at), bool)
    for day in COVERED:
        covered |= (warm.valid_at >= START + 24 * day * HOUR) & (warm.valid_at < START + 24 * (day + 1) * HOUR)
    frost = {int((START + 24 * day * HOUR).astype(int)) for day in COVERED}

    def cooled(at: np.ndarray, temp_air: np.ndarray) -> np.ndarray:
        day = START + (at - START) // (24 * HOUR) * (24 * HOUR)
        return np.where(np.isin(day.astype("datetime64[s]").astype(np.int64), list(frost)), -5.0, temp_air)

    runs = tuple(
        replace(run, variables={**run.variables, "temp_air": cooled(run.valid_at, run.variables["temp_air"])})
        for run in warm.runs
    )
    flags = np.where(covered, "snow", "").astype(np.str_)
    return replace(warm, runs=runs, power_kw=np.where(covered, 0.02 * warm.power_kw, warm.power_kw), flags=flags)


@pytest.fixture(scope="module")
def park() -> ParkRecord:
    return snowed_in()


@pytest.fixture(scope="module")
def rows(park: ParkRecord) -> dataset.Rows:
    return dataset.training_rows([park], DEFAULT_SPEC, NOW)


@pytest.fixture(scope="module")
def bundle(rows: dataset.Rows) -> Bundle:
    return train(rows, RECIPE, NOW)


def day_of(hours: np.ndarray) -> np.ndarray:
    return ((hours - START) // (24 * HOUR)).astype(int)


def test_hours_under_snow_are_learned_from_where_it_was_known_that_it_lies(rows: dataset.Rows) -> None:
    lying = lies(rows.features, DEFAULT_SPEC.names)
    taught = ~np.isnan(rows.target) & rows.daylight
    assert set(day_of(rows.valid_at[lying & taught])) == set(COVERED) - {12, 22}
    assert not np.isin(day_of(rows.valid_at[taught & ~lying]), COVERED).any()


def test_a_forecast_under_snow_is_low_and_the_others_stay_as_they_were(park: ParkRecord, bundle: Bundle) -> None:
    assert bundle.snow is not None
    assert bundle.snow.ratios[1] < 0.2
    without = replace(bundle, snow=None)
    for day, under in ((14, True), (30, False)):
        shown = dataset.build(park, DEFAULT_SPEC, [START + 24 * day * HOUR], 24)
        noon = shown.where(shown.daylight)
        told, usual = bundle.predict(noon.features), without.predict(noon.features)
        if under:
            assert told[:, 1].sum() < 0.75 * usual[:, 1].sum()
            assert (np.diff(told, axis=1) >= 0.0).all()
        else:
            np.testing.assert_array_equal(told, usual)


def test_the_usual_forecast_learns_nothing_of_days_under_snow(rows: dataset.Rows, bundle: Bundle) -> None:
    lying = lies(rows.features, DEFAULT_SPEC.names)
    other = replace(rows, target=np.where(lying, 0.9, rows.target))
    assert train(other, RECIPE, NOW).files["model.ubj"] == bundle.files["model.ubj"]


def test_a_bundle_brings_it_along_and_one_of_before_has_none(bundle: Bundle) -> None:
    assert from_files(bundle.files).snow == bundle.snow
    spec = FeatureSpec(tuple(name for name in DEFAULT_SPEC.names if name not in SNOW))
    old = train(dataset.training_rows([record(site())], spec, NOW), replace(RECIPE, spec=spec), NOW)
    files = old.files
    assert b'"snow": null' in files["bundle.json"]
    files["bundle.json"] = files["bundle.json"].replace(b'\n "snow": null,', b"")  # as it was written
    assert from_files(files).snow is None


def test_few_days_leave_much_of_the_usual_forecast() -> None:
    target, median = np.full(10, 0.01), np.full(10, 0.5)
    assert fit(target, median, 0, LEVELS) is None
    one, many = (fit(target, median, days, LEVELS) for days in (1, 95))
    assert one is not None
    assert many is not None
    usual = np.array([[0.3, 0.5, 0.7]])
    moved = [snow.apply(usual, usual[:, 1], np.array([True]))[0, 1] for snow in (one, many)]
    assert 0.4 < moved[0] < 0.5
    assert moved[1] < 0.05
    np.testing.assert_array_equal(many.apply(usual, usual[:, 1], np.array([False])), usual)


def test_no_quantile_leaves_what_a_park_can_do() -> None:
    high = Snow((0.5, 1.0, 3.0), 0.9)
    assert high.apply(np.array([[0.8, 0.9, 1.0]]), np.array([0.9]), np.array([True])).max() == 1.0


assert max(COVERED) < DAYS - 2
