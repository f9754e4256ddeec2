"""Intervals by block bootstrap over days."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast.evaluation import bootstrap

RANDOM = np.random.default_rng(2)


def days(count: int, hours: int = 10) -> np.ndarray:
    return np.repeat(np.datetime64("2024-01-01", "D") + np.arange(count), hours)


def test_a_resample_is_made_of_blocks_of_consecutive_days() -> None:
    drawn = bootstrap.picks(100, samples=50)
    assert drawn.shape == (50, 100)
    blocks = drawn[:, : 100 // bootstrap.BLOCK_DAYS * bootstrap.BLOCK_DAYS].reshape(50, -1, bootstrap.BLOCK_DAYS)
    assert bootstrap.BLOCK_DAYS >= 3
    assert (np.diff(blocks, axis=2) % 100 == 1).all()


def test_the_standard_error_of_independent_days_is_that_of_their_mean() -> None:
    values = np.repeat(RANDOM.normal(0, 1, 400), 10)
    error = bootstrap.standard_errors(days(400), values[:, None])[0]
    assert error == pytest.approx(1 / np.sqrt(400), rel=0.2)  # not 1 / sqrt(4000): hours of a day are one


def test_weather_that_lasts_widens_the_interval() -> None:
    lasting = np.repeat(np.repeat(RANDOM.normal(0, 1, 80), 5), 10)
    shuffled = np.repeat(RANDOM.permutation(lasting[::10]), 10)
    kept, lost = (bootstrap.standard_errors(days(400), v[:, None])[0] for v in (lasting, shuffled))
    assert kept > 1.5 * lost


def test_skill_is_positive_where_ours_is_better_and_its_interval_holds_it() -> None:
    theirs = RANDOM.uniform(0.5, 1.5, 1000)
    skill = bootstrap.skill(days(100), 0.8 * theirs, theirs)
    assert skill.value == pytest.approx(0.2)
    assert (skill.low, skill.high) == pytest.approx((0.2, 0.2))
    noisy = bootstrap.skill(days(100), theirs[::-1].copy(), theirs)
    assert noisy.low < 0 < noisy.high
    assert noisy.days == 100
    assert not noisy.few
    assert bootstrap.skill(days(5), theirs[:50], theirs[:50]).few


def test_the_interval_of_equal_models_holds_zero_nearly_always() -> None:
    missed = 0
    for trial in range(100):
        ours, theirs = RANDOM.gamma(2, 1, (2, 60)) / 2
        skill = bootstrap.skill(days(60, 1), ours, theirs, seed=trial)
        missed += not skill.low <= 0 <= skill.high
    assert missed <= 15


def test_nothing_to_compare_is_nan() -> None:
    assert np.isnan(bootstrap.skill(days(0), np.zeros(0), np.zeros(0)).value)
    assert np.isnan(bootstrap.standard_errors(days(1), np.ones((10, 2)))).all()
