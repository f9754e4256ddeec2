"""The statistics under a verdict: days of all parks together, errors by block bootstrap, Holm's correction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pvforecast.evaluation.paired import Daily, changes, daily, holm, local_day, pooled

DAY = np.datetime64("2013-07-01", "D")


def losses(challenger: np.ndarray, champion: np.ndarray, hours: np.ndarray | None = None) -> Daily:
    counted = np.ones_like(champion) if hours is None else hours
    parks = tuple(f"p{n}" for n in range(champion.shape[1]))
    return Daily(DAY + np.arange(len(champion)), parks, challenger * counted, champion * counted, counted)


def test_a_day_is_that_of_the_sun_so_that_no_park_has_its_daylight_cut() -> None:
    noon_local = {0.0: "2013-07-01T12", -105.0: "2013-07-01T19", 178.0: "2013-07-01T00", -171.0: "2013-07-01T23"}
    for longitude, at in noon_local.items():
        around = np.datetime64(at, "s") + np.arange(-6, 6) * np.timedelta64(3600, "s")
        assert set(local_day(around, longitude)) == {DAY}, longitude


def test_parks_in_different_time_zones_share_their_days() -> None:
    """By issue time (00:00 local, as UTC) they would share none, and each would be resampled by itself."""
    golden, berlin = (np.datetime64(f"2013-07-0{d}T{h}", "s") for d, h in ((1, "19"), (1, "11")))
    valid_at = np.array([golden, berlin])
    day = np.concatenate([local_day(valid_at[:1], -105.0), local_day(valid_at[1:], 13.0)])
    summed = daily(np.array([1.0, 2.0]), np.array([1.0, 1.0]), day, np.array(["golden", "berlin"], object))
    assert summed.parks == ("berlin", "golden")
    assert summed.challenger.tolist() == [[2.0, 1.0]]


def test_losses_are_summed_by_day_and_park() -> None:
    day = DAY + np.array([0, 0, 1, 1, 0])
    park = np.array(["a", "a", "a", "b", "b"], object)
    summed = daily(np.array([1.0, 2, 3, 4, np.nan]), np.array([1.0, 1, 1, 1, 1]), day, park)
    assert summed.challenger.tolist() == [[3.0, 0.0], [3.0, 4.0]]
    assert summed.champion.tolist() == [[2.0, 0.0], [1.0, 1.0]]
    assert summed.hours.tolist() == [[2.0, 0.0], [1.0, 1.0]]
    assert pooled(summed).challenger.tolist() == [[3.0], [7.0]]


def test_the_change_is_a_share_of_the_champions_loss() -> None:
    random = np.random.default_rng(0)
    champion = random.gamma(9.0, 0.01, (60, 1))
    (change,) = changes(losses(champion * 0.9, champion))
    assert change.share == pytest.approx(-0.1)
    assert change.days == 60
    assert change.champion == pytest.approx(champion.mean())
    assert change.interval[0] < -0.1 < change.interval[1]


def test_the_error_is_that_of_the_mean_where_days_are_independent() -> None:
    random = np.random.default_rng(0)
    champion = np.ones((400, 1))
    challenger = 1.0 + random.normal(0.0, 0.2, (400, 1))
    (change,) = changes(losses(challenger, champion))
    half = (change.interval[1] - change.interval[0]) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 399) * challenger.std() / np.sqrt(400), rel=0.15)


def test_days_that_depend_on_each_other_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    independent = random.normal(0.0, 0.2, 400)
    lasting = np.convolve(random.normal(0.0, 0.2, 404), np.ones(5) / np.sqrt(5), "valid")
    widths = []
    for noise in (independent, lasting):
        (change,) = changes(losses(1.0 + noise[:, None], np.ones((400, 1))))
        widths.append(change.interval[1] - change.interval[0])
    assert widths[1] > 1.4 * widths[0]


@pytest.mark.parametrize("days", [3, 7, 14, 60])
def test_of_equal_models_one_in_forty_looks_better(days: int) -> None:
    random = np.random.default_rng(days)
    trials = 400
    noise = random.normal(0.0, 0.2, (days, trials))  # each park a trial
    found = changes(losses(1.0 + noise, np.ones((days, trials))))
    assert sum(change.interval[1] < 0 for change in found) / trials <= 0.05
    assert sum(change.interval[0] > 0 for change in found) / trials <= 0.05


def test_a_day_without_a_park_is_no_day_of_zero_loss() -> None:
    champion = np.full((40, 2), 0.1)
    hours = np.ones((40, 2))
    hours[10:, 1] = 0
    a, b = changes(losses(champion * 1.5, champion, hours))
    assert (a.days, b.days) == (40, 10)
    assert b.champion == pytest.approx(0.1)
    assert b.share == pytest.approx(0.5)


def test_p_is_about_getting_worse_by_more_than_the_tolerance() -> None:
    random = np.random.default_rng(0)
    champion = np.ones((60, 3))
    challenger = np.array([0.97, 1.04, 1.12]) + random.normal(0.0, 0.1, (60, 3))
    better, within, beyond = changes(losses(challenger, champion), tolerance=0.05)
    assert better.p_worse > 0.999
    assert within.p_worse > 0.2
    assert beyond.p_worse < 1e-4


def test_one_day_has_no_interval_and_no_test() -> None:
    (change,) = changes(losses(np.array([[2.0]]), np.array([[1.0]])))
    assert change.share == 1.0
    assert np.isnan([*change.interval, change.p_worse]).all()
    assert changes(losses(np.zeros((0, 0)), np.zeros((0, 0)))) == []


def test_holm_lets_fall_what_the_textbook_does() -> None:
    # Holm 1979: 0.01 <= 0.05/4, 0.013 <= 0.05/3, 0.03 > 0.05/2 stops; Bonferroni would stop at 0.013.
    p = np.array([0.03, 0.01, 0.04, 0.013])
    assert holm(p, 0.05).tolist() == [False, True, False, True]
    assert holm(np.array([np.nan, 0.02, 0.5]), 0.05).tolist() == [False, True, False]  # of two tests, not of three
    assert holm(np.array([]), 0.05).tolist() == []


def test_holm_among_a_hundred_that_are_true_rarely_lets_one_fall() -> None:
    random = np.random.default_rng(0)
    families = random.uniform(0.0, 1.0, (400, 100))
    wrong = sum(holm(p, 0.025).any() for p in families)
    assert wrong / 400 <= 0.05
    uncorrected = sum((p < 0.025).any() for p in families)
    assert uncorrected / 400 > 0.8
