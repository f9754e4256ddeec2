"""Numbers and instants out of a payload that may be anything. Each fault is one sentence that names its field."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pvforecast.telemetry.mapping import Energy, Power, Time, _Number

SECOND = 1_000_000  # µs, the lake's resolution
_FAR = 253_402_300_799 * SECOND  # the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Number = Callable[[Any], float | None]
Instant = Callable[[Any, int], int]


class FaultError(Exception):
    """A payload that can't be used; its text names the field and what is wrong with it."""


def getter(path: str) -> Callable[[Any], Any]:
    """What stands at a dotted path of decoded JSON; None where nothing does."""
    if not path:
        return lambda content: content
    keys = path.split(".")
    if len(keys) == 1:
        return lambda content: content.get(path) if type(content) is dict else None

    def get(content: Any) -> Any:
        for key in keys:
            if type(content) is dict:
                content = content.get(key)
            elif type(content) is list and key.isdecimal() and int(key) < len(content):
                content = content[int(key)]
            else:
                return None
        return content

    return get


def number(spec: _Number | None, factor: float, limit: float) -> Number:
    """A reader of a number, times `factor`; None where it is absent or null.

    It raises FaultError for text, booleans, NaN, infinities, and what exceeds `limit`.
    """
    if spec is None:
        return lambda _content: None
    get, name = getter(spec.path), spec.path or "the payload"
    exponent = getter(spec.exponent) if spec.exponent else None

    def read(content: Any) -> float | None:
        value = get(content)
        if type(value) is str and spec.text:
            value = _number_of(value, name)
        if value is None:
            return None
        if type(value) is not float and type(value) is not int:
            raise FaultError(f"{name} is {_kind(value)}, not a number")
        scale = factor
        if exponent is not None:
            power = exponent(content)
            if type(power) is not int or not -10 <= power <= 10:
                raise FaultError(f"{spec.exponent} is {_shown(power)}, not a power of ten from -10 to 10")
            scale = factor * 10.0**power
        try:
            result = value * scale
        except OverflowError:
            result = math.inf
        if not -limit <= result <= limit:  # NaN too
            raise FaultError(f"{name} is {_shown(value)}: beyond all that a park can be")
        return result

    return read


def factor_of(spec: Power | Energy | _Number | None) -> float:
    """To kW or kWh."""
    return 1.0 if spec is None else spec.factor if isinstance(spec, Power | Energy) else spec.scale


def flag(path: str | None) -> Callable[[Any], bool | None]:
    """A reader of true or false; None where it is absent or null."""
    if path is None:
        return lambda _content: None
    get = getter(path)

    def read(content: Any) -> bool | None:
        value = get(content)
        if value is not None and type(value) is not bool:
            raise FaultError(f"{path} is {_kind(value)}, not true or false")
        return value

    return read


def instant(spec: Time) -> Instant:
    """A reader of an instant as µs since 1970 UTC; it raises FaultError for what is no instant."""
    if spec.path is None:
        return lambda _content, arrival: arrival
    get, path = getter(spec.path), spec.path
    if spec.unit == "iso":
        zone = ZoneInfo(spec.timezone) if spec.timezone else None
        return lambda content, _arrival: _iso(get(content), path, zone)
    factor = SECOND if spec.unit == "s" else 1_000

    def read(content: Any, _arrival: int) -> int:
        value = get(content)
        if type(value) is float and value == value and abs(value) < _FAR:
            return round(value * factor)
        if type(value) is not int:
            raise FaultError(f"{path} is {_shown(value)}, not a number of {spec.unit} since 1970")
        if not 0 <= value * factor <= _FAR:
            raise FaultError(f"{path} is {_shown(value)}: no instant in {spec.unit} since 1970")
        return value * factor

    return read


def _iso(value: Any, path: str, zone: ZoneInfo | None) -> int:
    if type(value) is not str or len(value) > 40:
        raise FaultError(f"{path} is {_shown(value)}, not an ISO 8601 time")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise FaultError(f"{path} is {_shown(value)}, not an ISO 8601 time") from None
    if moment.tzinfo is None:
        if zone is None:
            raise FaultError(f"{path} is {_shown(value)}, without an offset: give the rule's time.timezone")
        moment = _at(moment, zone, path)
    try:
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except OverflowError:
        raise FaultError(f"{path} is {_shown(value)}: no instant") from None


def _at(local: datetime, zone: ZoneInfo, path: str) -> datetime:
    """A local time as an instant, where it is just one."""
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    exists = first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local
    said = "occurs twice" if exists else "does not exist"
    raise FaultError(f"{path} is {local.isoformat()}, which {said} in {zone.key}: send an offset")


def _number_of(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise FaultError(f"{name} is {_shown(text)}, not a number") from None


def _kind(value: Any) -> str:
    return {str: "text", bool: "a boolean", list: "a list", dict: "an object"}.get(type(value), "null")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}..."
