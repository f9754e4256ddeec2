"""What a caller may ask, and how it is told what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from inference.transformer.errors import TooLarge
from pvforecast.errors import InvalidInput
from pvforecast.known import HOUR, Times, WeatherRun

MAX_INSTANCES = 100
MAX_HORIZON_HOURS = 168
MAX_WEATHER_HOURS = 400
CALLER_WEATHER = "request"

_REPORTED_ERRORS = 20


def _instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("not a text with date, time and UTC offset")
    try:
        if not (value.isascii() and value.isprintable()):  # Python takes any character between date and time
            raise ValueError
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value[:40]!r} is not an ISO 8601 date and time") from None
    if instant.tzinfo is None:
        raise ValueError(f"{value!r} has no UTC offset")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r} is out of range") from None


Instant = Annotated[datetime, BeforeValidator(_instant)]


def _series(low: float, high: float) -> Any:
    value = Annotated[StrictFloat, Field(ge=low, le=high, allow_inf_nan=False)]
    return Annotated[list[value | None], Field(max_length=MAX_WEATHER_HOURS)]


class Weather(BaseModel):
    """A caller's own weather: hourly means labelled by the start of the hour; null where not known."""

    model_config = ConfigDict(extra="forbid")

    valid_at: Annotated[list[Instant], Field(min_length=1, max_length=MAX_WEATHER_HOURS)]
    ghi: _series(0.0, 1_600.0)  # type: ignore[valid-type]
    temp_air: _series(-70.0, 65.0) | None = None  # type: ignore[valid-type]
    dni: _series(0.0, 1_600.0) | None = None  # type: ignore[valid-type]
    dhi: _series(0.0, 1_200.0) | None = None  # type: ignore[valid-type]
    wind_speed: _series(0.0, 90.0) | None = None  # type: ignore[valid-type]
    cloud_cover: _series(0.0, 1.0) | None = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _shape(self) -> Weather:
        hours = self.hours
        if any(instant.minute or instant.second or instant.microsecond for instant in self.valid_at):
            raise ValueError("valid_at must hold whole hours")
        if (hours[1:] - hours[:-1] != HOUR).any():
            raise ValueError("valid_at must hold consecutive hours, ascending, none twice")
        for name, values in self.columns().items():
            if len(values) != len(hours):
                raise ValueError(f"{name} has {len(values)} values for {len(hours)} hours of valid_at")
        return self

    @property
    def hours(self) -> Times:
        return np.array([to_utc64(instant) for instant in self.valid_at], "datetime64[s]")

    def columns(self) -> dict[str, list[float | None]]:
        values = self.model_dump(exclude={"valid_at"}, exclude_none=False)
        return {name: column for name, column in values.items() if column is not None}

    def as_run(self, issued_at: np.datetime64) -> WeatherRun:
        """As a weather run that became known when the question was asked."""
        variables = {name: np.array(column, np.float64) for name, column in self.columns().items()}
        return WeatherRun(CALLER_WEATHER, issued_at, issued_at, self.hours, variables)


Levels = Annotated[list[Annotated[StrictFloat, Field(gt=0.0, lt=1.0)]], Field(min_length=1, max_length=99)]


class Instance(BaseModel):
    """One forecast: of one park, from one issue time."""

    model_config = ConfigDict(extra="forbid")

    park_id: Annotated[StrictStr, Field(min_length=1, max_length=64)]
    horizon_hours: Annotated[StrictInt, Field(ge=1, le=MAX_HORIZON_HOURS)] | None = None
    issued_at: Instant | None = None
    weather: Weather | None = None
    quantiles: Levels | None = None
    explain: StrictBool = False


class Body(BaseModel):
    """Of V1 predict."""

    model_config = ConfigDict(extra="forbid")

    instances: Annotated[list[Instance], Field(min_length=1)]
    allow_stale: StrictBool = False


_HINTS = {
    "instances": f'send {{"instances": [{{"park_id": "..."}}]}}, 1 to {MAX_INSTANCES} of them',
    "allow_stale": "true for the last good forecast where none can be made now",
    "park_id": "the id of a park, a text",
    "horizon_hours": f"a whole number of hours from 1 to {MAX_HORIZON_HOURS}, or leave it out",
    "issued_at": "ISO 8601 with offset, e.g. 2013-06-01T06:00:00Z, or null for now",
    "quantiles": "a list of levels between 0 and 1 that the model has, or null for all of them",
    "explain": "true for contributions by group of features to the median, else leave it out",
    "weather": "an object with valid_at, ghi and, where known, temp_air, dni, dhi, wind_speed, cloud_cover, or null",
    "valid_at": "starts of consecutive hours, ISO 8601 with offset",
    "ghi": "W/m², 0 to 1600, one for each hour, null where not known",
    "dni": "W/m², 0 to 1600, one for each hour, null where not known",
    "dhi": "W/m², 0 to 1200, one for each hour, null where not known",
    "temp_air": "°C, -70 to 65, one for each hour, null where not known",
    "wind_speed": "m/s, 0 to 90, one for each hour, null where not known",
    "cloud_cover": "0 to 1 (not percent), one for each hour, null where not known",
}


def parse(body: object) -> list[Instance]:
    """The instances of a request body; see `read`."""
    return read(body).instances


def read(body: object) -> Body:
    """A request body.

    Parameters
    ----------
    body : decoded JSON, or bytes where the content type did not say JSON.

    Raises
    ------
    InvalidInput
        naming every field that is wrong, and the fix.
    TooLarge
        more instances than one request may have.
    """
    body = json_object(body, _HINTS["instances"])
    instances = body.get("instances")
    if isinstance(instances, list) and len(instances) > MAX_INSTANCES:
        raise TooLarge(
            f"{len(instances)} instances, at most {MAX_INSTANCES} in one request",
            field="instances",
            hint="send several requests",
        )
    try:
        return Body.model_validate(body)
    except ValidationError as error:
        raise explain(error, Body, _HINTS) from error


def json_object(body: object, hint: str) -> dict[str, Any]:
    """The object of a request body, decoded where it is bytes. Raises InvalidInput with the hint."""
    if isinstance(body, bytes):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f"the body is not JSON: {error}", field="body", hint=hint) from error
    if not isinstance(body, dict):
        raise InvalidInput("the body is not a JSON object", field="body", hint=hint)
    return body


def to_utc64(instant: datetime) -> np.datetime64:
    """UTC, whole seconds (what is below is cut off)."""
    return np.datetime64(instant.astimezone(UTC).replace(tzinfo=None, microsecond=0), "s")


def explain(error: ValidationError, owner: type[BaseModel], hints_of: Mapping[str, str]) -> InvalidInput:
    """Every field of the body `owner` that is wrong, with the hints of `hints_of` (field -> what it may hold)."""
    wrong: dict[str, str] = {}
    hints: dict[str, None] = {}
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:_REPORTED_ERRORS]:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        named = [part for part in item["loc"] if isinstance(part, str)]
        wrong.setdefault(where, item["msg"].removeprefix("Value error, "))
        known = next((part for part in reversed(named) if part in hints_of), next(iter(hints_of)))
        hint = f"{known}: {hints_of[known]}"
        if item["type"] == "extra_forbidden":
            hint = f"remove it; known here: {', '.join(_known_beside(named, owner))}"
        hints[hint] = None
    message = "; ".join(f"{where}: {reason}" for where, reason in wrong.items())
    return InvalidInput(message, field=", ".join(wrong), hint="; ".join(hints))


def _known_beside(named: list[str], owner: type[BaseModel]) -> list[str]:
    inner = Weather if "weather" in named[:-1] else Instance if "instances" in named[:-1] else owner
    return list(inner.model_fields)
