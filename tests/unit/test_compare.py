"""Champion against challenger, on losses whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast.evaluation import compare as comparing
from pvforecast.evaluation import report
from pvforecast.evaluation.compare import Comparison, compare, first

DAYS = 28


def verdict(
    better_by: float | dict[str, float],
    *,
    days: int = DAYS,
    noise: float = 0.15,
    same_recipe: bool = False,
    seed: int = 0,
) -> Comparison:
    """Two parks, 12 daylight hours a day; the challenger's loss is smaller by a share, with noise by day."""
    random = np.random.default_rng(seed)
    shares = better_by if isinstance(better_by, dict) else {"a": better_by, "b": better_by}
    day = np.repeat(np.datetime64("2013-07-01", "D") + np.arange(days), 24)
    park = np.tile(np.repeat(np.array(["a", "b"], object), 12), days)
    champion = random.gamma(4.0, 0.01, len(day))
    swing = np.repeat(random.normal(0, noise, days), 24)
    challenger = champion * (1 - np.array([shares[p] for p in park]) + swing)
    return compare(challenger, champion, day, park, same_recipe=same_recipe)


def test_another_recipe_that_is_clearly_better_is_promoted() -> None:
    outcome = verdict(0.2)
    assert (outcome.verdict, outcome.promotes) == ("promote", True)
    assert outcome.interval[0] <= outcome.difference <= outcome.interval[1] < 0
    assert outcome.challenger < outcome.champion
    assert outcome.days == DAYS


def test_another_recipe_that_is_clearly_worse_is_rejected() -> None:
    outcome = verdict(-0.2)
    assert (outcome.verdict, outcome.promotes) == ("reject", False)
    assert outcome.interval[0] > 0


def test_no_difference_keeps_the_champion() -> None:
    for share in (0.0, 0.01, -0.01):
        outcome = verdict(share)
        assert (outcome.verdict, outcome.promotes) == ("keep", False)
        assert outcome.interval[0] < 0 < outcome.interval[1]


def test_one_park_that_gets_much_worse_holds_a_promotion_back() -> None:
    outcome = verdict({"a": 0.5, "b": -0.2})
    assert (outcome.verdict, outcome.worst_park) == ("keep", "b")
    assert "b gets" in outcome.reason
    assert outcome.interval[1] < 0  # better overall
    assert verdict({"a": 0.5, "b": -0.03}).verdict == "promote"  # within the tolerance


def test_a_refresh_takes_over_unless_it_is_significantly_worse() -> None:
    for share in (0.2, 0.0, -0.01):
        outcome = verdict(share, same_recipe=True)
        assert (outcome.verdict, outcome.promotes) == ("refresh", True)
    worse = verdict(-0.2, same_recipe=True)
    assert (worse.verdict, worse.promotes) == ("keep", False)
    assert "significantly worse" in worse.reason


@pytest.mark.parametrize("same_recipe", [True, False])
def test_too_few_days_decide_nothing(same_recipe: bool) -> None:
    for days in (1, 2):
        outcome = verdict(0.5, days=days, same_recipe=same_recipe)
        assert (outcome.verdict, outcome.days) == ("keep", days)
        assert "at least 3" in outcome.reason
    assert verdict(0.5, days=3, same_recipe=same_recipe).promotes


def test_the_first_model_must_beat_smart_persistence() -> None:
    assert first(0.069, 0.164).verdict == "promote"
    assert first(0.164, 0.164).verdict == "reject"
    assert first(float("nan"), 0.164).verdict == "reject"
    assert "0.0690 against 0.1640" in first(0.069, 0.164).reason


def test_chance_alone_rarely_promotes() -> None:
    """The interval is at 95 %: of models that differ by noise only, about one in 40 looks better."""
    promoted = sum(verdict(0.0, seed=seed).verdict == "promote" for seed in range(60))
    assert promoted <= 6


def test_days_count_not_hours() -> None:
    """A hundred rows of one bad day are one bad day: few noisy days must not look significant."""
    outcomes = [verdict(0.05, days=5, noise=0.5, seed=seed) for seed in range(20)]
    widths = [high - low for low, high in (outcome.interval for outcome in outcomes)]
    assert np.median(widths) > 0.01


def test_the_same_losses_give_the_same_verdict() -> None:
    assert verdict(0.05).as_dict() == verdict(0.05).as_dict()
    assert comparing.PARK_TOLERANCE == 0.10


def test_the_report_says_the_verdict_first() -> None:
    outcome = verdict(0.2)
    text = report.comparison(outcome)
    assert text.startswith("# Verdict: promote\n")
    assert f"| champion | {outcome.champion:.3%} |" in text
    assert "pinball" not in report.comparison(verdict(0.5, days=1))
