"""The CloudEvent pair of a prediction, as KServe's logger writes it: binary mode, one id for request and response.

Between our emitter and our sink events travel in batches (CloudEvents' batched mode): one HTTP request for many.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from inference.prediction_log.record import REQUEST, RESPONSE, Received
from pvforecast.errors import InvalidInput

SOURCE = "/pvforecast/transformer"

_REQUIRED = (
    "ce-id", "ce-type", "ce-source", "ce-specversion",
    "ce-inferenceservicename", "ce-namespace", "ce-component", "ce-endpoint",
)  # fmt: skip
BATCH = "application/cloudevents-batch+json"
MAX_BATCH = 200

_PREFIX = "ce-"
_PARTS = {REQUEST: "instances", RESPONSE: "predictions"}
_MAX_HEADER = 256


@dataclass(frozen=True)
class Pair:
    """A request and its response, not yet encoded."""

    request: Mapping[str, Any]
    response: Mapping[str, Any]
    request_id: str
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Event:
    """One HTTP message: `ce-*` headers and a JSON body."""

    headers: dict[str, str]
    body: bytes


def encode(pair: Pair, *, inferenceservice: str, namespace: str) -> list[Event]:
    """Request event, then response event."""
    common = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": pair.event_id,
        "ce-source": SOURCE,
        "ce-time": pair.time.isoformat(),
        "ce-inferenceservicename": inferenceservice,
        "ce-namespace": namespace,
        "ce-component": "transformer",
        "ce-endpoint": "default",
        "ce-requestid": pair.request_id,
    }
    return [
        Event(common | {"ce-type": kind}, orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS))
        for kind, data in ((REQUEST, pair.request), (RESPONSE, pair.response))
    ]


def pack(events: Sequence[Event]) -> bytes:
    """The body of one batch, whose content type is `BATCH`."""
    return orjson.dumps(
        [
            {name.removeprefix(_PREFIX): value for name, value in one.headers.items() if name.startswith(_PREFIX)}
            | {"datacontenttype": one.headers.get("content-type", ""), "data": orjson.Fragment(one.body)}
            for one in events
        ]
    )


def unpack(body: bytes) -> list[Received]:
    """The checked events of one batch.

    Raises
    ------
    InvalidInput
        it is no batch, or one of its events is wrong.
    """
    try:
        batch = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"it is not JSON: {error}", field="body") from error
    if not isinstance(batch, list) or not all(isinstance(one, dict) for one in batch) or len(batch) > MAX_BATCH:
        raise InvalidInput("it is no batch", field="body", hint=f"a JSON list of up to {MAX_BATCH} CloudEvents")
    return [_received(one) for one in batch]


def _received(one: dict[str, Any]) -> Received:
    data = one.pop("data", None)
    headers = {f"{_PREFIX}{name}": value for name, value in one.items() if isinstance(value, str)}
    headers["content-type"] = headers.pop(f"{_PREFIX}datacontenttype", "")
    return _decode(headers, orjson.dumps(data).decode(), data)


def decode(headers: Mapping[str, str], body: bytes) -> Received:
    """Check an event that came in. `headers` have lower-case names.

    Raises
    ------
    InvalidInput
        naming the header, or the body, that is wrong.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"it is not JSON: {error}", field="body") from error
    return _decode(headers, body.decode(), data)


def _decode(headers: Mapping[str, str], text: str, data: object) -> Received:
    """`data` is what the JSON `text` says."""
    for name in _REQUIRED:
        value = headers.get(name, "")
        if not value or len(value) > _MAX_HEADER:
            raise InvalidInput(
                "this header is missing or too long", field=name, hint="send a CloudEvent 1.0 in binary mode"
            )
    if headers["ce-specversion"] != "1.0":
        raise InvalidInput(f"{headers['ce-specversion']} is not known", field="ce-specversion", hint="send 1.0")
    kind = headers["ce-type"]
    if kind not in _PARTS:
        raise InvalidInput(f"{kind} is not stored here", field="ce-type", hint=f"send {REQUEST} or {RESPONSE}")
    if headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise InvalidInput("it must be application/json", field="content-type", hint="send JSON")
    return Received(
        id=headers["ce-id"],
        type=kind,
        time=_time(headers.get("ce-time")),
        park_ids=_park_ids(data, _PARTS[kind]),
        inferenceservice=headers["ce-inferenceservicename"],
        namespace=headers["ce-namespace"],
        component=headers["ce-component"],
        endpoint=headers["ce-endpoint"],
        request_id=headers.get("ce-requestid"),
        data=text,
    )


def _time(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidInput(f"{text!r} is not RFC 3339", field="ce-time", hint="e.g. 2013-06-01T06:00:00Z")
    return time


def _park_ids(data: object, part: str) -> list[str]:
    entries = data.get(part) if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidInput(f"it has no list of objects named {part}", field="body", hint=f'{{"{part}": [{{...}}]}}')
    return sorted({entry["park_id"] for entry in entries if isinstance(entry.get("park_id"), str)})
