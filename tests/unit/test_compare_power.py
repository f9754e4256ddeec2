"""How often the verdict is right: resampled real losses of a real park, whose right answer is known.

The losses are those that `make bench NAME=champion ARGS=--store` wrote; the bench makes them anew.
"""

from __future__ import annotations

import pytest

from benchmarks import champion
from benchmarks.champion import OTHERS, Check, Series, trial
from pvforecast.evaluation.compare import Comparison
from pvforecast.learning import HOLDOUT_DAYS

TRIALS, FLEET_TRIALS = 200, 50
TWINS, NOISIEST = ("twin", "default"), ("no_lags", "flat")


@pytest.fixture(scope="module")
def series() -> Series:
    return champion.stored()


def share(right: Check, series: Series, pair: tuple[str, str], trials: int = TRIALS, **how: object) -> float:
    found = [trial(series, *pair, seed=seed, **{"days": HOLDOUT_DAYS, **how}) for seed in range(trials)]  # type: ignore[arg-type]
    return sum(map(right, found)) / trials


def promoted(outcome: Comparison) -> bool:
    return outcome.verdict == "promote"


def test_the_losses_are_of_real_days_of_all_seasons(series: Series) -> None:
    assert len(series.hours) > 365
    assert 1 <= series.hours.min() < series.hours.max() <= 16  # daylight
    worst = (series.losses["default"] / series.hours).max()
    assert worst > 4 * series.losses["default"].sum() / series.hours.sum()  # snow is in it


def test_twins_that_differ_only_by_seed_are_not_promoted(series: Series) -> None:
    assert share(promoted, series, TWINS) <= 0.05


def test_a_recipe_that_is_no_better_is_seldom_promoted(series: Series) -> None:
    assert share(promoted, series, NOISIEST, better_by=0.0) <= 0.05


@pytest.mark.parametrize("pair", OTHERS.values(), ids=OTHERS)
def test_a_recipe_better_by_three_percent_is_promoted(series: Series, pair: tuple[str, str]) -> None:
    assert share(promoted, series, pair, better_by=0.03) >= 0.80


def test_a_hundred_parks_do_not_always_reject(series: Series) -> None:
    assert share(promoted, series, NOISIEST, FLEET_TRIALS, better_by=0.03, parks=100) >= 0.80


def test_one_harmed_park_of_a_hundred_rejects_and_is_named(series: Series) -> None:
    def named(outcome: Comparison) -> bool:
        return outcome.verdict == "reject" and outcome.harmed == ("park-099",) and "park-099" in outcome.reason

    assert share(named, series, NOISIEST, FLEET_TRIALS, better_by=0.03, parks=100, harmed=0.15) >= 0.80


def test_the_same_recipe_on_fresh_data_is_a_refresh(series: Series) -> None:
    for days in (3, 14):  # of a week, of four weeks
        assert share(lambda o: o.verdict == "refresh", series, TWINS, days=days, same_recipe=True) >= 0.90


def test_too_little_data_keeps_the_champion_however_good_the_challenger_looks(series: Series) -> None:
    kept = share(lambda o: "too little data" in o.reason, series, NOISIEST, days=13, better_by=0.3)
    assert kept == 1.0
