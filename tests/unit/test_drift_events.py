"""Events of the drift job that no alarm of the data raises follow their schemas."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.drift import events
from inference.drift.accuracy import Score, Stale
from inference.drift.served import Promise
from inference.retrain import cloudevent

AT = np.datetime64("2026-06-21T12:00:00")
SCORE = Score(
    "a", "2026-06-20", "7", 14, 0.08, 0.12, 0.01, 0.7, True, Promise(0.05, 0.8, 0.6, "2026-04-01", "2026-04-29")
)


def _parsed(event: dict[str, Any]) -> dict[str, Any]:
    return cloudevent.parse({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())


def test_a_stale_model_and_its_end_are_events_that_the_trigger_takes() -> None:
    stale = _parsed(events.model_stale(SCORE, Stale("2026-06-01", 20, 0.7, 0.6, 0.4), AT))
    fresh = _parsed(events.model_fresh(replace(SCORE, day="2026-06-29", model_version="8"), "2026-06-20", AT))
    assert stale["data"]["alarms"][0]["threshold"] == pytest.approx(0.5)
    assert stale["data"]["windows"]["reference"] == {"first": "2026-04-01", "last": "2026-04-29"}
    assert fresh["data"]["opened_by"] == stale["id"]


def test_without_a_hold_out_there_is_nothing_to_fall_short_of() -> None:
    with pytest.raises(ValueError, match="nothing was promised"):
        events.model_stale(replace(SCORE, promise=None), Stale("2026-06-01", 20, 0.7, 0.6, 0.4), AT)
