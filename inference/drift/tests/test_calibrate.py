from __future__ import annotations

import numpy as np
import pytest

from inference.drift.calibrate import BLOCK_DAYS, cusum_threshold, distance_threshold, pseudo_years
from inference.drift.cusum import CLEAR_RATIO, alarms_a_year
from inference.drift.distances import ks
from inference.drift.statistics import day_of_year

DAYS = np.arange("2019-01-01", "2022-01-01", dtype="datetime64[D]")
Z = np.random.default_rng(0).normal(size=len(DAYS))


def test_blocks_come_whole_and_from_their_own_season() -> None:
    season = day_of_year(DAYS).astype(np.float64)
    years = season[pseudo_years(DAYS, seed=1, years=50)]
    assert years.shape == (50, 364)
    blocks = years.reshape(50, 26, BLOCK_DAYS)
    steps = np.diff(blocks, axis=2)
    assert np.isin(steps, [1.0, 0.0, -364.0]).all()  # days in a row; 0 at the end of a leap year
    apart = np.abs(blocks[:, :, 0] - np.arange(26) * BLOCK_DAYS)
    assert np.minimum(apart, 365 - apart).max() <= 30


def test_blocks_never_span_the_seam_of_two_parks() -> None:
    days = np.concatenate([DAYS[:400], DAYS[100:500]])
    park = np.repeat([0.0, 1.0], 400)
    blocks = park[pseudo_years(days, seed=1, years=50)].reshape(-1, BLOCK_DAYS)
    assert (blocks.min(axis=1) == blocks.max(axis=1)).all()


def test_the_same_seed_gives_the_same_years() -> None:
    assert np.array_equal(pseudo_years(DAYS, 5, 10), pseudo_years(DAYS, 5, 10))


@pytest.mark.parametrize("wanted", [0.2, 1.0])
def test_the_threshold_gives_the_rate_that_was_asked_for(wanted: float) -> None:
    threshold = cusum_threshold(CLEAR_RATIO, Z[pseudo_years(DAYS, 1)], wanted)
    fresh = np.random.default_rng(9).normal(size=(300, 364))
    assert 0.2 * wanted < alarms_a_year(CLEAR_RATIO, fresh, threshold) < 3.0 * wanted


def test_rates_too_rare_to_count_are_extrapolated() -> None:
    years = Z[pseudo_years(DAYS, 1)]
    rarer = [cusum_threshold(CLEAR_RATIO, years, wanted) for wanted in (0.02, 0.005, 0.00125)]
    assert rarer[1] - rarer[0] == pytest.approx(rarer[2] - rarer[1])
    plenty = np.random.default_rng(2).normal(size=(20_000, 364))
    assert 0.001 < alarms_a_year(CLEAR_RATIO, plenty, rarer[1]) < 0.025


def test_fewer_alarms_need_a_higher_threshold() -> None:
    years = Z[pseudo_years(DAYS, 1, 100)]
    assert cusum_threshold(CLEAR_RATIO, years, 0.2) > cusum_threshold(CLEAR_RATIO, years, 2.0)
    rare, often = (distance_threshold(ks, years, Z, wanted) for wanted in (0.2, 2.0))
    assert 0.3 < often < rare < 1.0
