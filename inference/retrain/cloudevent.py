"""CloudEvents 1.0 over HTTP, structured and binary mode, checked against the schema of their type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

from pvforecast.errors import InvalidInput

DRIFT_TYPE = "io.pvforecast.drift.detected.v1"
CLEARED_TYPE = "io.pvforecast.drift.cleared.v1"
QUARANTINED_TYPE = "io.pvforecast.data.quarantined.v1"
_SCHEMAS = {
    DRIFT_TYPE: "event.schema.json",
    CLEARED_TYPE: "schemas/drift.cleared.v1.json",
    QUARANTINED_TYPE: "schemas/data.quarantined.v1.json",
}
MAX_BYTES = 1_000_000
_STRUCTURED = "application/cloudevents+json"
_HINT = "see inference/drift/event.schema.json and schemas/"


class UnsupportedType(InvalidInput):
    """A sound CloudEvent of a type that is not for us."""

    code = "unsupported_type"


def parse(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """One drift event in structured form, valid by the schema.

    Parameters
    ----------
    headers : names in lower case.

    Raises
    ------
    UnsupportedType
        it is an event of another type.
    InvalidInput
        anything else is wrong; `field` names where, e.g. ``data.cause.likely`` or ``ce-id``.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == _STRUCTURED:
        event = _json(body, "body")
    elif media_type.startswith("application/cloudevents"):
        raise InvalidInput(f"{media_type} is not taken", field="content-type", hint=f"one event, as {_STRUCTURED}")
    else:
        event = _binary(headers, media_type, body)
    kind = event.get("type")
    if isinstance(kind, str) and kind not in _SCHEMAS:
        raise UnsupportedType(f"{kind!r} is not handled here", field="type", hint=f"only {DRIFT_TYPE} starts training")
    _validate(event)
    return event


def parks_of(event: Mapping[str, Any]) -> list[str]:
    """The parks an event is about: its subject, or all that a fleet event names."""
    parks: list[str] = event["data"].get("parks") or [event["subject"]]
    return parks


def event_time(event: Mapping[str, Any]) -> datetime:
    """The event's `time`, UTC."""
    return datetime.fromisoformat(event["time"]).astimezone(UTC)


def _binary(headers: Mapping[str, str], media_type: str, body: bytes) -> dict[str, Any]:
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    for name in ("specversion", "id", "source", "type"):
        if name not in attributes:
            raise InvalidInput(
                "missing: this is not a CloudEvent",
                field=f"ce-{name}",
                hint=f"or send {_STRUCTURED} with all in the body",
            )
    if media_type not in ("", "application/json"):
        raise InvalidInput(f"{media_type} is not JSON", field="content-type", hint="application/json")
    return {**attributes, "datacontenttype": "application/json", "data": _json(body, "data")}


def _json(body: bytes, field: str) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=_not_json)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is text that nobody can store
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"it is not JSON: {error}", field=field, hint=_HINT) from error
    if not isinstance(value, dict):
        raise InvalidInput("it is not a JSON object", field=field, hint=_HINT)
    return value


def _not_json(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _validate(event: dict[str, Any]) -> None:
    error = best_match(_validator(_SCHEMAS.get(event.get("type", ""), "event.schema.json")).iter_errors(event))
    if error is not None:
        path = ".".join(str(part) for part in error.absolute_path)
        if error.validator == "required":  # name what is missing, not where it is missing from
            missing = next(name for name in error.validator_value if name not in error.instance)
            path = f"{path}.{missing}" if path else missing
        raise InvalidInput(error.message[:300], field=path or "body", hint=_HINT)
    try:
        when = datetime.fromisoformat(event["time"])
        if when.tzinfo is not None:
            when.astimezone(UTC)
    except (ValueError, OverflowError) as problem:
        raise InvalidInput(
            f"{event['time']!r} is not a time", field="time", hint="e.g. 2013-09-20T12:00:00Z"
        ) from problem
    if when.tzinfo is None:
        raise InvalidInput("it has no time zone", field="time", hint="end it in Z")
    if event["data"]["park_id"] != event["subject"]:
        raise InvalidInput("it is not the event's subject", field="data.park_id", hint="both name the park")


@lru_cache(maxsize=4)
def _validator(name: str) -> Draft202012Validator:
    text = (resources.files("inference.drift") / name).read_text()
    return Draft202012Validator(json.loads(text), format_checker=FormatChecker())
