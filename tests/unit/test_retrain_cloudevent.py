"""What the trigger takes as a drift event, and what it says of everything else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from importlib import resources
from typing import Any
from urllib.parse import quote

import pytest

from inference.retrain.cloudevent import UnsupportedType, event_time, parse
from pvforecast.errors import InvalidInput

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
EXAMPLE: dict[str, Any] = json.loads((resources.files("inference.drift") / "event.example.json").read_text())


def _binary(event: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    headers = {f"ce-{name}": quote(str(value), safe=" ") for name, value in event.items() if name != "data"}
    headers.pop("ce-datacontenttype")
    return {**headers, "content-type": "application/json"}, json.dumps(event["data"]).encode()


def test_structured_and_binary_mode_give_the_same_event() -> None:
    assert parse(STRUCTURED, json.dumps(EXAMPLE).encode()) == EXAMPLE
    assert parse(*_binary(EXAMPLE)) == EXAMPLE


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        json.dumps(EXAMPLE)[:-1].encode() + b', "x": NaN}',
        json.dumps(EXAMPLE)[:-1].encode() + b', "x": "\\ud800"}',
        json.dumps({**EXAMPLE, "time": "9999-12-31T23:59:59-23:00"}).encode(),
        json.dumps({**EXAMPLE, "time": "0001-01-01T00:00:00+23:00"}).encode(),
    ],
)
def test_what_python_reads_and_nobody_can_keep_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse(STRUCTURED, body)


def test_the_time_of_an_event_is_utc() -> None:
    assert event_time({**EXAMPLE, "time": "2013-09-21T06:00:00-06:00"}).isoformat() == "2013-09-21T12:00:00+00:00"


def _without(path: str) -> Callable[[dict[str, Any]], None]:
    def change(event: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            event = event[name]
        del event[last]

    return change


def _with(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(event: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            event = event[name]
        event[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_without("id"), "id"),
        (_without("subject"), "subject"),
        (_without("type"), "type"),
        (_without("data"), "data"),
        (_without("data.park_id"), "data.park_id"),
        (_without("data.cause.likely"), "data.cause.likely"),
        (_with("specversion", "0.3"), "specversion"),
        (_with("source", "/elsewhere"), "source"),
        (_with("type", 7), "type"),
        (_with("id", ""), "id"),
        (_with("data.advice", "panic"), "data.advice"),
        (_with("data.alarms", []), "data.alarms"),
        (_with("data.provisional", "no"), "data.provisional"),
        (_with("data.park_id", "another"), "data.park_id"),
        (_with("time", "yesterday"), "time"),
        (_with("time", "2013-09-21T12:00:00"), "time"),
        (_with("data.cause.likely", "gremlins"), "data.cause.likely"),
    ],
)
def test_a_wrong_event_is_refused_and_the_field_named(change: Callable[[dict[str, Any]], None], field: str) -> None:
    event = copy.deepcopy(EXAMPLE)
    change(event)
    with pytest.raises(InvalidInput) as refused:
        parse(STRUCTURED, json.dumps(event).encode())
    assert not isinstance(refused.value, UnsupportedType)
    assert refused.value.field == field
    assert refused.value.hint


@pytest.mark.parametrize(
    ("headers", "body", "field"),
    [
        (STRUCTURED, b"{", "body"),
        (STRUCTURED, b"[]", "body"),
        (STRUCTURED, b"\xff\xfe", "body"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", "content-type"),
        ({"content-type": "application/json"}, b"{}", "ce-specversion"),
        ({}, b"", "ce-specversion"),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x"}, b"{}", "ce-type"),
        ({**_binary(EXAMPLE)[0], "content-type": "text/xml"}, b"<a/>", "content-type"),
        (_binary(EXAMPLE)[0], b"nothing", "data"),
    ],
)
def test_a_request_that_is_no_event_is_refused(headers: dict[str, str], body: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(headers, body)
    assert refused.value.field == field


def test_an_event_of_another_type_is_told_apart_from_a_broken_one() -> None:
    other = {**EXAMPLE, "type": "org.kubeflow.serving.inference.request", "data": {}}
    with pytest.raises(UnsupportedType, match="not handled here"):
        parse(STRUCTURED, json.dumps(other).encode())
