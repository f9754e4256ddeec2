"""The chain of an event, from what is stored to steps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pvf.tracing import chain
from pvforecast.registry import Promotion
from tests.retrain_trigger import EXAMPLE

AT = datetime(2013, 9, 21, 12, tzinfo=UTC)
CLEARED = "io.pvforecast.drift.cleared.v1"
QUARANTINED = "io.pvforecast.data.quarantined.v1"


def _event(**more: Any) -> dict[str, Any]:
    return {"id": EXAMPLE["id"], "event_time": AT, "event": EXAMPLE, "status": "attached", "reason": "", **more}


def _run(**more: Any) -> dict[str, Any]:
    return {
        "id": 3, "started_at": AT, "finished_at": AT, "status": "succeeded", "error": None, "reason": "drift of a",
        "pipeline_run_id": "p1", "mlflow_run_id": "m1", "verdict": "refresh", **more,
    }  # fmt: skip


def _later(kind: str, number: int, **data: Any) -> dict[str, Any]:
    return {"id": f"later-{number}", "event_time": AT, "type": kind, "reason": "", "event": {"data": data}}


PROMOTION = Promotion(5, 4, 7, "s3://b", "b7", "refresh", "fresh data", "drift", "m1", EXAMPLE["id"], AT)


def test_event_run_verdict_mlflow_promotion_and_clearance_follow_each_other() -> None:
    other = _later(CLEARED, 1, reason="recovered", opened_by="another")
    own = _later(CLEARED, 2, reason="recovered", opened_by=EXAMPLE["id"])
    steps = chain(_event(), _run(), "names event", PROMOTION, "delivered", [other, own])
    assert [(step.name, step.id) for step in steps if step.name != "announced"] == [
        ("event", EXAMPLE["id"]), ("run", "3"), ("verdict", "p1"), ("mlflow", "m1"), ("promotion", "5"),
        ("cleared", "later-2"),
    ]  # fmt: skip
    assert [step.says for step in steps if step.name == "announced"] == ["delivered"]


def test_an_event_that_starts_nothing_shows_why_and_what_was_kept_from_training() -> None:
    held = _later(QUARANTINED, 1, event_id=EXAMPLE["id"])
    foreign = _later(QUARANTINED, 2, event_id="another")
    event = _event(status="ignored", reason="the advice is fix_data, not retrain")
    steps = chain(event, None, "", None, "", [held, foreign])
    assert [(step.name, step.id, step.says) for step in steps[1:]] == [
        ("quarantined", "later-1", ""),
        ("run", "", "ignored: the advice is fix_data, not retrain"),
        ("cleared", "", "not yet"),
    ]


def test_a_failed_run_ends_the_chain_with_its_error() -> None:
    run = _run(status="failed", error="no data", mlflow_run_id=None, verdict=None)
    assert [step.says for step in chain(_event(), run, "", None, "", [])][1:] == ["failed, no data", "not yet"]
