"""The last good forecast stands in where the caller allows it, and only for what it was made for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.transformer import forecast
from inference.transformer.client import Inference
from inference.transformer.forecast import Question
from inference.transformer.last_good import LastGood
from inference.transformer.made import Made
from inference.transformer.request import parse
from inference.transformer.snapshots import Snapshot
from pvforecast.errors import NotReady
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR
from tests.bundles import NOW, record, site

KNOWN = record(site()).known_at(NOW)
GONE = NotReady("the predictor is not ready")


def question(at: np.datetime64 = NOW, hours: int = 6, **fields: object) -> Question:
    [instance] = parse({"instances": [{"park_id": "sim-a", "horizon_hours": hours, **fields}]})
    return Question.ask("instances[0]", instance, Snapshot("snapshot", KNOWN), at, 48)


def made(asked: Question, level: float = 0.5) -> Made:
    n = len(asked.hours)
    fractions = np.full((n, 3), level, np.float32)
    inference = Inference(fractions, (0.1, 0.5, 0.9), "bundle", "3", "spec", NOW - 1000 * HOUR)
    return Made(asked, np.zeros((n, len(DEFAULT_SPEC)), np.float32), inference, np.zeros(n, np.int64))


def test_it_is_cut_to_the_hours_asked_for_and_says_when_it_was_issued() -> None:
    kept = LastGood()
    kept.keep(made(question(hours=6)))
    found = kept.instead_of(question(NOW + 2 * HOUR, hours=3, quantiles=[0.5]), GONE)
    assert found.stale
    told = forecast.answer(
        found.question, found.inference, forecast.power_kw(found.question, found.inference.fractions)
    )
    assert told["issued_at"] == f"{NOW}Z"
    assert told["valid_at"] == [f"{NOW + lead * HOUR}Z" for lead in (2, 3, 4)]
    assert list(told["power_kw"]) == ["0.5"]
    assert len(found.rows) == 3


def test_that_the_park_is_new_to_the_model_is_said_and_kept() -> None:
    fresh = replace(made(question(hours=6)), new_park=True)
    assert fresh.told[0]["degraded"] == ["new_park"]
    assert made(question(hours=6)).told[0]["degraded"] == []
    kept = LastGood()
    kept.keep(fresh)
    assert kept.instead_of(question(hours=3), GONE).told[0]["degraded"] == ["new_park", "stale_forecast"]


def test_the_newest_is_kept_and_of_the_same_time_the_longest() -> None:
    kept = LastGood()
    for asked in (question(hours=12), question(hours=3), question(NOW - HOUR, hours=24)):
        kept.keep(made(asked))
    found = kept.instead_of(question(hours=48), GONE)
    assert (found.question.issued_at, len(found.question.hours)) == (NOW, 12)


@pytest.mark.parametrize(
    "asked",
    [
        question(hours=6, issued_at=f"{NOW}Z"),
        question(hours=6, explain=True),
        question(hours=6, weather={"valid_at": [f"{NOW}Z"], "ghi": [1.0]}),
        question(NOW + 100 * HOUR),
    ],
)
def test_another_time_weather_or_explanation_is_not_answered_with_it(asked: Question) -> None:
    kept = LastGood()
    kept.keep(made(question(hours=6)))
    with pytest.raises(NotReady, match="not ready"):
        kept.instead_of(asked, GONE)


def test_a_park_that_was_never_forecast_has_none() -> None:
    with pytest.raises(NotReady):
        LastGood().instead_of(question(), GONE)
