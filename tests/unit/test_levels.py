"""A lasting change of a park's level is told from weather, from single bad days and from nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast.dataset import Rows
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR
from pvforecast.model import levels
from pvforecast.model.levels import Change

DAYS = 100
BEGIN = np.datetime64("2013-03-01T15:00:00", "s")
CHANGED = BEGIN + 70 * 24 * HOUR


def simulated(seed: int = 1, noise: float = 0.03, alike: float = 0.0) -> tuple[Rows, np.ndarray]:
    """Six bright hours a day of two parks, forecast without bias with errors that last a day; and the forecast.

    `alike`: the correlation of a day's error with that of the day before.
    """
    rng = np.random.default_rng(seed)
    n = DAYS * 6
    valid = np.concatenate([BEGIN + day * 24 * HOUR + np.arange(6) * HOUR for day in range(DAYS)])
    features = np.zeros((2 * n, len(DEFAULT_SPEC)), np.float32)
    features[:, DEFAULT_SPEC.names.index("clear_sky_index")] = 1.0
    park = np.repeat(np.array(["a", "b"], object), n)
    median = np.tile(np.full(n, 0.5), 2)
    error = rng.normal(0, noise, 2 * DAYS)
    for day in range(1, 2 * DAYS):
        error[day] = alike * error[day - 1] + np.sqrt(1 - alike**2) * error[day]
    target = median * np.exp(np.repeat(error, 6))
    both = np.tile(valid, 2)
    return Rows(DEFAULT_SPEC, park, both - 6 * HOUR, both, features, target, np.ones(2 * n, bool)), median


def changed(rows: Rows, where: np.ndarray, factor: float) -> Rows:
    return Rows(
        rows.spec, rows.park_id, rows.issued_at, rows.valid_at, rows.features,
        np.where(where, rows.target * factor, rows.target), rows.daylight,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_where_nothing_changed(seed: int) -> None:
    assert levels.find(*simulated(seed)) == {}


@pytest.mark.parametrize("factor", [0.9, 1.12])
def test_a_lasting_change_of_one_park_is_found_with_its_day(factor: float) -> None:
    rows, median = simulated()
    found = levels.find(changed(rows, (rows.park_id == "a") & (rows.valid_at >= CHANGED), factor), median)
    assert set(found) == {"a"}
    assert found["a"].factor == pytest.approx(factor, abs=0.03)
    assert abs(found["a"].at - CHANGED) <= 4 * 24 * HOUR


def test_a_few_bad_days_are_no_change() -> None:
    rows, median = simulated()
    bad = (rows.valid_at >= CHANGED) & (rows.valid_at < CHANGED + 5 * 24 * HOUR)
    assert levels.find(changed(rows, bad, 0.3), median) == {}


def test_a_change_that_is_only_days_old_is_waited_for() -> None:
    rows, median = simulated()
    late = rows.valid_at >= BEGIN + (DAYS - 6) * 24 * HOUR
    assert levels.find(changed(rows, late, 0.9), median) == {}


FEW_DAYS_AGO = BEGIN + (DAYS - 5) * 24 * HOUR


@pytest.mark.parametrize("factor", [0.9, 1.12])
@pytest.mark.parametrize("late", [-2, 0, 3])
def test_a_change_that_was_told_of_is_measured_after_days(factor: float, late: int) -> None:
    rows, median = simulated()
    new = (rows.park_id == "a") & (rows.valid_at >= FEW_DAYS_AGO)
    found = levels.find(changed(rows, new, factor), median, {"a": Change(FEW_DAYS_AGO - late * 24 * HOUR, factor)})
    assert set(found) == {"a"}
    assert found["a"].factor == pytest.approx(factor, abs=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_what_the_days_do_not_bear_out_changes_nothing(seed: int) -> None:
    assert levels.find(*simulated(seed), {park: Change(FEW_DAYS_AGO, 0.9) for park in ("a", "nowhere")}) == {}


@pytest.mark.parametrize("told", [BEGIN + (DAYS - 1) * 24 * HOUR, BEGIN - 400 * 24 * HOUR, BEGIN + 400 * 24 * HOUR])
def test_a_change_too_young_or_out_of_reach_is_left_alone(told: np.datetime64) -> None:
    rows, median = simulated()
    new = (rows.park_id == "a") & (rows.valid_at >= BEGIN + (DAYS - 1) * 24 * HOUR)
    assert levels.find(changed(rows, new, 0.8), median, {"a": Change(told, 0.8)}) == {}


def test_few_healthy_parks_that_were_told_of_a_loss_get_one() -> None:
    told = {park: Change(BEGIN + (DAYS - 8) * 24 * HOUR, 0.9) for park in ("a", "b")}
    found = [
        change.factor
        for seed in range(40)
        for change in levels.find(*simulated(seed, noise=0.085, alike=0.3), told).values()  # a real park's noise
    ]
    assert len(found) <= 8
    assert all(0.8 < factor < 1.0 for factor in found)


def test_a_loss_that_was_told_of_is_never_a_rise() -> None:
    rows, median = simulated()
    new = (rows.park_id == "a") & (rows.valid_at >= FEW_DAYS_AGO)
    assert levels.find(changed(rows, new, 1.12), median, {"a": Change(FEW_DAYS_AGO, 0.9)}) == {}


def test_what_a_park_did_before_is_brought_to_its_new_level_and_the_others_are_not_touched() -> None:
    rows, _ = simulated()
    target = levels.levelled(rows, {"a": Change(CHANGED, 0.9)})
    before = (rows.park_id == "a") & (rows.valid_at < CHANGED)
    np.testing.assert_allclose(target[before], 0.9 * rows.target[before])
    np.testing.assert_array_equal(target[~before], rows.target[~before])
