"""What a challenger is judged on, and where a run comes from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pvforecast import provenance
from pvforecast.errors import InvalidInput
from pvforecast.evaluation import holdout, pages
from pvforecast.evaluation.backtest import Scores
from pvforecast.learning import FIRST_DAYS, HOLDOUT_DAYS, REFRESH_DAYS, window
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe

NOW = np.datetime64("2013-08-10T06:00:00", "s")
DAY = np.timedelta64(86400, "s")
LONG_AGO = NOW - 900 * DAY


def champion(trained: np.timedelta64, recipe: str = Recipe().hash) -> Bundle:
    info = {"trained_until": str(NOW - trained), "recipe_hash": recipe}
    return cast(Bundle, SimpleNamespace(info=info))


def days(judged_on: Any) -> int:
    return int((judged_on.as_of - judged_on.holdout_from) / DAY)


def test_a_first_model_is_judged_on_four_weeks_and_never_on_more_than_half_of_its_days() -> None:
    assert days(window(NOW, None, Recipe(), LONG_AGO)) == FIRST_DAYS == 28
    assert days(window(NOW, None, Recipe(), NOW - 40 * DAY)) == 20
    assert days(window(NOW, None, Recipe(), NOW - 1 * DAY)) == 1


def test_another_recipe_is_judged_on_a_window_that_can_tell_and_never_on_more_than_a_third() -> None:
    other = champion(7 * DAY, "another recipe")
    assert days(window(NOW, other, Recipe(), LONG_AGO)) == HOLDOUT_DAYS == 120
    assert days(window(NOW, other, Recipe(), NOW - 90 * DAY)) == 30


def test_a_refresh_is_judged_on_the_later_half_of_the_days_that_the_champion_has_not_seen() -> None:
    for unseen, judged in ((8, 4), (28, 14), (365, REFRESH_DAYS)):
        assert days(window(NOW, champion(unseen * DAY), Recipe(), LONG_AGO)) == judged


def test_drift_that_was_found_within_days_is_judged_on_as_many_days_as_the_verdict_needs() -> None:
    for unseen, judged in ((6, 4), (4, 4), (1, 1)):
        assert days(window(NOW, champion(unseen * DAY), Recipe(), LONG_AGO)) == judged


def test_a_training_into_the_champions_past_is_refused() -> None:
    with pytest.raises(InvalidInput, match="up to which the champion has learned"):
        window(NOW, champion(-1 * DAY), Recipe(), LONG_AGO)


@pytest.mark.parametrize(
    ("reason", "event_id", "trigger"),
    [
        ("weekly", "e-1", "drift"),
        ("schedule weekly", "", "schedule"),
        ("Schedule", "", "schedule"),
        ("why not", "", "manual"),
    ],
)
def test_what_started_a_run_is_one_word(reason: str, event_id: str, trigger: str) -> None:
    assert provenance.trigger(reason, event_id) == trigger


def test_equal_environments_have_equal_hashes() -> None:
    text = provenance.environment()
    assert provenance.environment() == text
    assert "\nnumpy==" in text
    assert text.splitlines()[2:] == sorted(text.splitlines()[2:])
    changed = text.replace("\nnumpy==", "\nnumpy==9")
    assert provenance.environment_hash(text) != provenance.environment_hash(changed)
    assert len(provenance.environment_hash(text)) == 16


def test_scores_are_pooled_over_parks_and_told_apart_by_lead() -> None:
    lead = np.arange(48.0)
    right = holdout.Scored(np.full(48, 0.5), np.full((48, 3), 0.5, np.float32), np.ones(48, bool), lead)
    wrong = holdout.Scored(np.full(48, 0.5), np.full((48, 3), 0.7, np.float32), lead < 30, lead)
    scores = holdout.by_lead([right, wrong], (0.1, 0.5, 0.9))
    assert list(scores) == ["overall", "lead 1-6", "lead 7-12", "lead 13-24", "lead 25-48"]
    assert scores["overall"]["daylight_nmae"] == pytest.approx(0.1)
    assert scores["lead 25-48"]["daylight_nmae"] == pytest.approx(0.2 * 6 / 30)
    assert scores["lead 1-6"]["daylight_hours"] == 12
    night = holdout.Scored(right.target, right.quantiles, lead >= 24, lead)
    assert list(holdout.by_lead([night], (0.1, 0.5, 0.9))) == ["lead 25-48"]


def test_the_page_of_a_hold_out_says_first_that_weather_was_observed() -> None:
    leads = holdout.by_lead(
        [holdout.Scored(np.full(48, 0.5), np.full((48, 3), 0.4, np.float32), np.ones(48, bool), np.arange(48.0))],
        (0.1, 0.5, 0.9),
    )
    scores = [Scores(f"park {n}", "", "", leads["overall"], {"smart_persistence": 0.2}, n == 1) for n in range(2)]
    page = pages.holdout(scores, leads)
    assert page.index("Observed weather: optimistic") < page.index("<table")
    assert "<td>lead 25-48</td><td>10.00%</td>" in page
    assert "<td>park 1</td>" in page
    assert not any(word in page for word in ("<script", "http", "src="))
    assert "optimistic" not in pages.holdout(scores[:1], leads)
