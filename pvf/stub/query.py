"""The question as Open-Meteo reads it: parameters to places, models and labels, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from pvf.stub.sky import Ints
from pvforecast.sources.open_meteo_models import BY_NAME, MODELS, Model

MOST_PLACES = 1000
_PAST_DAYS, _FORECAST_DAYS = 93, 16
_SECTIONS = {"hourly": ("hour", 3600), "minutely_15": ("minutely_15", 900)}
# Model -> grid in degrees, how far a run reaches in hours, and its area: south, west, north, east.
GRIDS: dict[str, tuple[float, int, tuple[float, float, float, float]]] = {
    "icon_eu": (0.0625, 120, (29.5, -23.5, 70.5, 62.5)),
    "icon_d2": (0.02, 48, (43.2, -3.9, 58.1, 20.3)),
    "ecmwf_ifs025": (0.25, 240, (-90.0, -180.0, 90.0, 180.0)),
}
_GRID = (0.125, 180, (-90.0, -180.0, 90.0, 180.0))


class WrongError(Exception):
    """The question can't be answered; the text is the reason given."""


@dataclass(frozen=True)
class Section:
    """What is asked for in one time step: variable as asked -> variable and days before; labels in epoch seconds."""

    name: str
    step_s: int
    labels: Ints
    variables: Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Query:
    """One understood question."""

    places: tuple[tuple[float, float], ...]
    models: tuple[str, ...]
    sections: tuple[Section, ...]
    unix: bool
    zone: ZoneInfo
    offset_s: int
    wind: tuple[str, float]
    run: datetime | None
    days: float

    @property
    def weight(self) -> float:
        """What it counts for: see `pvforecast.sources.open_meteo_models.weight`."""
        asked = sum(len(section.variables) for section in self.sections) * len(self.models)
        each = asked / 10.0
        return len(self.places) * max(1.0, each, each * self.days / 14.0)


def understand(params: Mapping[str, str], service: str, now: datetime) -> Query:
    """Raises WrongError with the reason that the real server gives (where one is known)."""
    places = _places(params)
    zone = _zone(params.get("timezone", "GMT"))
    offset = int((now.astimezone(zone).utcoffset() or timedelta()).total_seconds())
    models = tuple(params.get("models", "best_match").split(","))
    for model in models:
        if model not in MODELS and model != "best_match":
            raise WrongError(_invalid("MultiDomains", model))
    run = _run(params, service)
    days = _int(params, "forecast_days", 7, 0, _FORECAST_DAYS)
    first = run.date() if run else (now + timedelta(seconds=offset)).date()
    allowed = (
        (date(2012, 1, 1) if service == "previous-runs-api" or run else first - timedelta(days=_PAST_DAYS)),
        first + timedelta(days=_FORECAST_DAYS),
    )
    sections = []
    for name, (suffix, step) in _SECTIONS.items():
        if params.get(name):
            asked = {one: _variable(one, service) for one in params[name].split(",")}
            default = 3 if name == "minutely_15" and "forecast_days" not in params else days
            labels = _labels(params, suffix, step, run or now, offset, default, allowed)
            sections.append(Section(name, step, labels, asked))
    spans = [len(section.labels) * section.step_s / 86_400.0 for section in sections]
    units = {"kmh": ("km/h", 3.6), "ms": ("m/s", 1.0), "mph": ("mp/h", 2.23694), "kn": ("kn", 1.94384)}
    wind = params.get("wind_speed_unit", "kmh")
    if wind not in units:
        raise WrongError(_invalid("WindspeedUnit", wind))
    unix = params.get("timeformat", "iso8601") == "unixtime"
    return Query(places, models, tuple(sections), unix, zone, offset, units[wind], run, max(spans, default=0.0))


def model_named(name: str) -> Model:
    return MODELS["icon_global" if name == "best_match" else name]


def grid_of(name: str) -> tuple[float, int, tuple[float, float, float, float]]:
    return GRIDS.get(name, _GRID)


def _places(params: Mapping[str, str]) -> tuple[tuple[float, float], ...]:
    columns = []
    for name, most in (("latitude", 90.0), ("longitude", 180.0)):
        if not params.get(name):
            raise WrongError(f"Value of type 'String' required for key '{name}'.")
        try:
            values = [float(text) for text in params[name].split(",")]
        except ValueError:
            raise WrongError(_invalid("Float", params[name])) from None
        for value in values:
            if not abs(value) <= most:
                raise WrongError(f"{name.title()} must be in range of -{most:g} to {most:g}°. Given: {value}.")
        columns.append(values)
    if len(columns[0]) != len(columns[1]):
        raise WrongError("Parameter 'latitude' and 'longitude' must have the same number of elements")
    if len(columns[0]) > MOST_PLACES:
        raise WrongError(f"Too many locations. A maximum of {MOST_PLACES} locations is allowed.")
    return tuple(zip(*columns, strict=True))


def _run(params: Mapping[str, str], service: str) -> datetime | None:
    text = params.get("run", "")
    if service != "single-runs-api":
        if text:
            raise WrongError("Parameter 'run' is only supported by the single runs API")
        return None
    if not text:
        raise WrongError("Parameter 'run' is required")
    return _moment(text, "run").replace(tzinfo=UTC)


def _labels(
    params: Mapping[str, str], suffix: str, step: int, now: datetime, offset: int, days: int, allowed: tuple[date, date]
) -> Ints:
    """By start and end if they are given, else by counts from now, else by whole local days."""
    local = int(now.timestamp()) + offset
    midnight = local // 86_400 * 86_400
    if f"start_{suffix}" in params or "start_date" in params:
        hourly = f"start_{suffix}" in params
        first, last = (
            (_moment if hourly else _day)(params.get(name, ""), name)
            for name in ((f"start_{suffix}", f"end_{suffix}") if hourly else ("start_date", "end_date"))
        )
        for name, at in (("start_date", first), ("end_date", last)):
            if not allowed[0] <= at.date() <= allowed[1]:
                raise WrongError(f"Parameter '{name}' is out of allowed range from {allowed[0]} to {allowed[1]}")
        if last < first:
            raise WrongError("End-date must be larger or equals than start-date")
        begin = int(first.replace(tzinfo=UTC).timestamp())
        end = int(last.replace(tzinfo=UTC).timestamp()) + (step if hourly else 86_400)
    elif f"forecast_{suffix}s" in params or f"forecast_{suffix}" in params:
        count = _int(params, f"forecast_{suffix}s" if step == 3600 else f"forecast_{suffix}", 0, 0, 10_000)
        begin = local // step * step
        end = begin + count * step
    else:
        begin, end = midnight - _int(params, "past_days", 0, 0, _PAST_DAYS) * 86_400, midnight + days * 86_400
    return np.arange(begin // step * step, end, step, dtype=np.int64) - offset


def _variable(name: str, service: str) -> tuple[str, int]:
    plain, _, day = name.partition("_previous_day")
    if plain not in BY_NAME or (day and (service != "previous-runs-api" or day not in "01234567")):
        raise WrongError(_invalid("VariableOrSpread<ForecastVariable>", name))
    return plain, int(day or 0)


def _zone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo("UTC" if text in ("GMT", "UTC", "auto") else text)
    except (ZoneInfoNotFoundError, ValueError):
        raise WrongError("Invalid timezone") from None


def _moment(text: str, name: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M")  # noqa: DTZ007 - local to the zone asked for
    except ValueError:
        raise WrongError(f"Invalid date format. Make sure to use 'YYYY-MM-DDTHH:MM' for '{name}'") from None


def _day(text: str, _name: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - local to the zone asked for
    except ValueError:
        raise WrongError("Invalid date format. Make sure to use 'YYYY-MM-DD'") from None


def _int(params: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = params.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        raise WrongError(_invalid("Int", text)) from None
    if not low <= value <= high:
        raise WrongError(f"Parameter '{name}' is invalid. Allowed range {low} to {high}. Given {value}.")
    return value


def _invalid(kind: str, text: str) -> str:
    return f"Data corrupted at path ''. Cannot initialize {kind} from invalid String value {text}."
