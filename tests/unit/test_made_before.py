"""A forecast is taken from memory where, and only where, making it anew would give the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.deployed import Deployment
from inference.transformer.client import Inference
from inference.transformer.forecast import Question
from inference.transformer.made import LOOKED_UP, Made, MadeBefore
from inference.transformer.request import parse
from inference.transformer.snapshots import Snapshot
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR
from tests.bundles import NOW, record, site

KNOWN = record(site()).known_at(NOW)
DEPLOYED = Deployment("s3://pvf/models/bundles/bundle", "bundle", "3")


def question(at: np.datetime64 = NOW, hours: int = 6, snapshot: str = "snapshot", **fields: object) -> Question:
    [instance] = parse({"instances": [{"park_id": "sim-a", "horizon_hours": hours, **fields}]})
    return Question.ask("instances[0]", instance, Snapshot(snapshot, KNOWN), at, 48)


def made(asked: Question, bundle_id: str = "bundle") -> Made:
    n = len(asked.hours)
    inference = Inference(np.full((n, 3), 0.5, np.float32), (0.1, 0.5, 0.9), bundle_id, "3", "spec", NOW - HOUR)
    return Made(asked, np.zeros((n, len(DEFAULT_SPEC)), np.float32), inference, np.zeros(n, np.int64))


def test_the_same_question_gets_the_same_forecast_and_it_is_counted() -> None:
    memory, one = MadeBefore(100), made(question())
    before = LOOKED_UP.labels("hit")._value.get()
    memory.keep([one], DEPLOYED)
    assert memory.find(question(), DEPLOYED) is one
    assert one.told is one.told
    assert LOOKED_UP.labels("hit")._value.get() == before + 1


def test_what_a_rung_does_to_the_band_is_null_where_the_model_was_not_measured() -> None:
    one = made(question())
    assert one.told[0]["band_width"] is None
    told = replace(
        one, inference=replace(one.inference, band_width={"full": 1.0, "no weather": 1.9}), rungs=one.rungs + 2
    )
    assert told.told[0]["band_width"] == {"no weather": 1.9}


@pytest.mark.parametrize(
    ("asked", "deployment"),
    [
        (question(NOW + HOUR), DEPLOYED),
        (question(hours=5), DEPLOYED),
        (question(snapshot="newer"), DEPLOYED),
        (question(quantiles=[0.5]), DEPLOYED),
        (question(explain=True), DEPLOYED),
        (question(weather={"valid_at": [f"{NOW}Z"], "ghi": [500.0]}), DEPLOYED),
        (question(), replace(DEPLOYED, model_version="4")),
        (question(), replace(DEPLOYED, bundle_uri="s3://pvf/models/bundles/next", bundle_id="next")),
    ],
    ids=["time", "horizon", "snapshot", "levels", "explained", "own weather", "version", "bundle"],
)
def test_another_question_or_model_does_not(asked: Question, deployment: Deployment) -> None:
    memory = MadeBefore(100)
    memory.keep([made(question())], DEPLOYED)
    assert memory.find(asked, deployment) is None


def test_what_another_model_gave_while_it_was_replaced_is_not_kept() -> None:
    memory = MadeBefore(100)
    memory.keep([made(question(), "earlier")], DEPLOYED)
    assert memory.find(question(), DEPLOYED) is None


def test_it_is_bounded_by_intervals_and_forgets_what_was_not_asked_for_longest() -> None:
    memory = MadeBefore(12)
    memory.keep([made(question(hours=hours)) for hours in (4, 5)], DEPLOYED)
    assert memory.find(question(hours=4), DEPLOYED) is not None
    memory.keep([made(question(hours=6))], DEPLOYED)
    assert [memory.find(question(hours=hours), DEPLOYED) is not None for hours in (4, 5, 6)] == [True, False, True]


def test_as_time_goes_on_it_does_not_grow() -> None:
    memory = MadeBefore(100)
    for minute in range(50):
        memory.keep([made(question(NOW + np.timedelta64(60 * minute, "s")))], DEPLOYED)
    assert (len(memory._kept), memory._rows) == (1, 6)


def test_the_past_is_not_kept_and_does_not_displace_the_present() -> None:
    memory, past = MadeBefore(100), question(NOW - HOUR, issued_at=f"{NOW - HOUR}Z")
    memory.keep([made(question()), made(past)], DEPLOYED)
    assert memory.find(past, DEPLOYED) is None
    assert memory.find(question(), DEPLOYED) is not None


def test_without_room_nothing_is_kept() -> None:
    memory = MadeBefore(0)
    memory.keep([made(question())], DEPLOYED)
    assert memory.find(question(), DEPLOYED) is None
