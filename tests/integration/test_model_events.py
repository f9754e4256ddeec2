"""Who is told of a promotion: the sink, in order, once each, whenever it was away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from inference.retrain.announcer import Announcer
from pvforecast.announcing import Outbox, event
from pvforecast.errors import NotReady
from pvforecast.registry import Promotion, Promotions
from pvforecast.settings import Settings
from tests.receiver import Receiver
from tests.retrain_trigger import Trigger, schema, until

pytestmark = pytest.mark.stack


@pytest.fixture
def dsn(infra: Settings) -> Iterator[str]:
    with schema(infra) as name:
        yield name


def _promote(promotions: Promotions, number: int) -> Promotion:
    return promotions.promote(
        number - 1, model_version=number, bundle_uri=f"s3://pvf/models/bundles/b{number}", bundle_id=f"b{number}",
        verdict="promote", reason="better by 3 %", actor="drift", mlflow_run_id=f"run{number}", event_id="event-0",
    )  # fmt: skip


def _events(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(posted.body) for posted in receiver.posted]


def test_each_promotion_and_rollback_is_an_event_by_its_schema(dsn: str) -> None:
    promotions = Promotions(dsn)
    _promote(promotions, 1)
    _promote(promotions, 2)
    promotions.rollback(actor="kim", reason="bias at noon")
    with Receiver() as sink:
        assert Announcer(Outbox(dsn), sink.url).send() == 3
        sent = _events(sink)
        assert {posted.headers["content-type"] for posted in sink.posted} == {
            "application/cloudevents+json; charset=utf-8"
        }
    for body in sent:
        name = body["type"].removeprefix("io.pvforecast.") + ".json"
        text = (resources.files("inference.drift") / "schemas" / name).read_text()
        Draft202012Validator(json.loads(text), format_checker=FormatChecker()).validate(body)
    assert [(body["subject"], body["type"].split(".")[-2], body["data"]["model_version"]) for body in sent] == [
        ("1", "promoted", 1), ("2", "promoted", 2), ("3", "rolled_back", 1)
    ]  # fmt: skip
    assert len({body["id"] for body in sent}) == 3


def test_a_sink_that_is_away_is_told_later_and_in_order(dsn: str) -> None:
    promotions, outbox = Promotions(dsn), Outbox(dsn)
    first, second = _promote(promotions, 1), _promote(promotions, 2)
    with Receiver(200, 503) as sink:
        announcer = Announcer(outbox, sink.url)
        with pytest.raises(NotReady, match="503"):
            announcer.send()
        assert [outbox.outcome(row.id) for row in (first, second)] == ["delivered", "waiting"]
        assert announcer.send() == 1
        assert announcer.send() == 0
        assert [body["id"] for body in _events(sink)] == [event(row)["id"] for row in (first, second, second)]


def test_what_the_sink_refuses_does_not_hold_up_the_rest(dsn: str) -> None:
    promotions, outbox = Promotions(dsn), Outbox(dsn)
    refused = _promote(promotions, 1)
    _promote(promotions, 2)
    with Receiver(400) as sink:
        assert Announcer(outbox, sink.url).send() == 1
    assert outbox.outcome(refused.id) == "refused"
    assert outbox.waiting() == []


def test_only_one_sends_at_a_time(dsn: str) -> None:
    outbox = Outbox(dsn)
    _promote(Promotions(dsn), 1)
    with Receiver() as sink, outbox.turn() as mine:
        assert mine
        assert Announcer(Outbox(dsn), sink.url).send() == 0
        assert sink.posted == []


def test_the_trigger_sends_what_was_promoted_while_it_was_down(dsn: str, tmp_path: Path) -> None:
    promotion = _promote(Promotions(dsn), 1)
    with Receiver() as sink, Trigger(dsn, tmp_path, environment={"K_SINK": sink.url}):
        until(lambda: bool(sink.posted))
        assert _events(sink)[0] == event(promotion)
