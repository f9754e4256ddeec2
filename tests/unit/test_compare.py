"""Champion against challenger, on losses whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast.evaluation import compare as comparing
from pvforecast.evaluation import pages, report
from pvforecast.evaluation.compare import MIN_DAYS, Comparison, compare, first

DAYS = 60


def verdict(
    better_by: float | dict[str, float],
    *,
    days: int = DAYS,
    noise: float = 0.15,
    same_recipe: bool = False,
    seed: int = 0,
) -> Comparison:
    """Parks with 12 daylight hours a day; the challenger's loss is smaller by a share, with noise by day."""
    random = np.random.default_rng(seed)
    shares = better_by if isinstance(better_by, dict) else {"a": better_by, "b": better_by}
    hours = 12 * len(shares)
    day = np.repeat(np.datetime64("2013-07-01", "D") + np.arange(days), hours)
    park = np.tile(np.repeat(np.array(list(shares), object), 12), days)
    champion = random.gamma(4.0, 0.01, len(day))
    swing = random.normal(0, noise, days)
    challenger = champion * (1 - np.array([shares[p] for p in park]) + np.repeat(swing - swing.mean(), hours))
    return compare(challenger, champion, day, park, same_recipe=same_recipe)


def test_another_recipe_that_is_clearly_better_is_promoted() -> None:
    outcome = verdict(0.2)
    assert (outcome.verdict, outcome.promotes) == ("promote", True)
    assert outcome.interval[0] <= outcome.difference <= outcome.interval[1] < 0
    assert outcome.challenger < outcome.champion
    assert outcome.difference == pytest.approx(outcome.challenger - outcome.champion)
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


def test_a_gain_that_is_sure_but_too_small_keeps_the_champion() -> None:
    outcome = verdict(0.005, noise=0.001)
    assert outcome.interval[1] < 0
    assert (outcome.verdict, outcome.promotes) == ("keep", False)
    assert "better, but by less than 1%" in outcome.reason


def test_better_overall_but_harmful_to_one_park_is_rejected_and_names_it() -> None:
    outcome = verdict({"a": 0.5, "b": -0.2})
    assert (outcome.verdict, outcome.harmed, outcome.worst_park) == ("reject", ("b",), "b")
    assert "better overall, but harms b (+2" in outcome.reason
    assert outcome.interval[1] < 0
    assert verdict({"a": 0.5, "b": -0.02}).verdict == "promote"  # within the tolerance


def test_of_many_harmed_parks_the_worst_are_named_and_the_rest_counted() -> None:
    outcome = verdict({"good": 0.9, "fair": 0.9} | {f"p{n}": -0.15 - n / 50 for n in range(8)}, noise=0.02)
    assert outcome.harmed == tuple(f"p{n}" for n in reversed(range(8)))
    assert "p7 (+" in outcome.reason
    assert "and 3 more" in outcome.reason
    assert "p0" not in outcome.reason


def test_a_park_with_too_few_days_is_not_judged_and_said_to_be() -> None:
    random = np.random.default_rng(0)
    day = np.datetime64("2013-07-01") + np.arange(DAYS)
    young = MIN_DAYS - 1
    champion = np.concatenate([random.gamma(9.0, 0.01, DAYS), random.gamma(9.0, 0.01, young)])
    challenger = champion * np.concatenate([np.full(DAYS, 0.6), np.full(young, 1.5)])
    park = np.array(["old"] * DAYS + ["young"] * young, object)
    outcome = compare(challenger, champion, np.concatenate([day, day[:young]]), park, same_recipe=False)
    assert (outcome.verdict, outcome.harmed, outcome.unjudged) == ("promote", (), ("young",))
    assert dict(outcome.parks)["young"].days == young
    assert "too few days to judge" in pages.verdict(outcome)


def test_a_refresh_takes_over_unless_it_is_significantly_worse() -> None:
    for share in (0.2, 0.0, -0.01):
        outcome = verdict(share, same_recipe=True)
        assert (outcome.verdict, outcome.promotes) == ("refresh", True)
    worse = verdict(-0.2, same_recipe=True)
    assert (worse.verdict, worse.promotes) == ("keep", False)
    assert "significantly worse" in worse.reason


def test_a_refresh_that_harms_one_park_is_not_taken() -> None:
    outcome = verdict({"a": 0.3, "b": -0.3}, same_recipe=True)
    assert (outcome.verdict, outcome.harmed) == ("keep", ("b",))
    assert "refresh harms b" in outcome.reason


@pytest.mark.parametrize(("same_recipe", "needed"), [(True, 3), (False, 14)])
def test_too_few_days_decide_nothing_and_that_is_said(same_recipe: bool, needed: int) -> None:
    for days in (1, needed - 1):
        outcome = verdict(0.5, days=days, same_recipe=same_recipe)
        assert (outcome.verdict, outcome.days) == ("keep", days)
        assert f"too little data: {days} metered days to compare on, at least {needed} are needed" == outcome.reason
    assert verdict(0.5, days=needed, same_recipe=same_recipe).promotes


def test_hours_that_one_model_did_not_forecast_are_left_out_of_both() -> None:
    day = np.repeat(np.datetime64("2013-07-01") + np.arange(DAYS), 2)
    champion = np.tile([0.02, 0.9], DAYS)
    challenger = np.tile([0.01, np.nan], DAYS)
    outcome = compare(challenger, champion, day, np.full(len(day), "a", object), same_recipe=False)
    assert (outcome.champion, outcome.challenger) == (pytest.approx(0.02), pytest.approx(0.01))


def test_a_park_at_a_standstill_harms_nobody() -> None:
    """Both foresee nothing, and are right: 0 / 0 is no change."""
    random = np.random.default_rng(0)
    day = np.tile(np.datetime64("2013-07-01") + np.arange(DAYS), 2)
    champion = np.concatenate([random.gamma(9.0, 0.01, DAYS), np.zeros(DAYS)])
    park = np.repeat(np.array(["runs", "stands"], object), DAYS)
    outcome = compare(champion * 0.8, champion, day, park, same_recipe=False)
    assert (outcome.verdict, outcome.worst_park, outcome.harmed) == ("promote", "runs", ())
    assert "stands" in pages.verdict(outcome)


def test_the_first_model_must_beat_smart_persistence() -> None:
    assert first(0.069, 0.164).verdict == "promote"
    assert first(0.164, 0.164).verdict == "reject"
    assert first(float("nan"), 0.164).verdict == "reject"
    assert first(0.069, 0.164).reason.startswith("first model: daylight nMAE 0.0690 against 0.1640")
    assert first(0.069, 0.164, "the champion is lost").reason.startswith("the champion is lost: daylight nMAE")


def test_days_count_not_hours() -> None:
    """A hundred rows of one bad day are one bad day: few noisy days must not look significant."""
    outcomes = [verdict(0.05, days=MIN_DAYS, noise=0.5, seed=seed) for seed in range(20)]
    widths = [high - low for low, high in (outcome.interval for outcome in outcomes)]
    assert np.median(widths) > 0.01
    assert sum(outcome.promotes for outcome in outcomes) <= 3


def test_the_same_losses_give_the_same_verdict() -> None:
    assert verdict(0.05).as_dict() == verdict(0.05).as_dict()
    assert (comparing.PARK_TOLERANCE, comparing.ALPHA, comparing.MIN_GAIN) == (0.05, 0.025, 0.01)


def test_the_report_says_the_verdict_first() -> None:
    outcome = verdict(0.2)
    text = report.comparison(outcome)
    assert text.startswith("# Verdict: promote\n")
    assert f"| champion | {outcome.champion:.3%} |" in text
    assert "pinball" not in report.comparison(verdict(0.5, days=1))


def test_the_page_shows_every_park_and_needs_nothing_from_outside() -> None:
    page = pages.verdict(verdict({"north <1>": 0.5, "south": -0.2}))
    assert "<h1>Verdict: reject</h1>" in page
    assert page.index("<td>south</td>") < page.index("north &lt;1&gt;")  # worst first, and escaped
    assert page.count("<svg") == 2
    assert "harmed" in page
    assert not any(word in page for word in ("<script", "http", "src=", "@import"))
    assert "<table" not in pages.verdict(verdict(0.5, days=1))
