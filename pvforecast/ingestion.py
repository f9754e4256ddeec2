"""Loading one park: source -> raw -> validated -> processed. Each step is safe to repeat."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

import pandas as pd

from pvforecast import processing, validation
from pvforecast.clock import ClockReport
from pvforecast.errors import InvalidInput
from pvforecast.lake import Lake
from pvforecast.lake.tables import CLOCKS, GENERATION, PARKS, QUARANTINE, RAW_GENERATION, RAW_WEATHER, WEATHER, Table
from pvforecast.parks import Park
from pvforecast.sources.base import Source

_TICK = pd.Timedelta(microseconds=1)


@dataclass(frozen=True)
class IngestReport:
    """What one load of one park added."""

    park_id: str
    generation_rows: int
    weather_rows: int
    clock: ClockReport

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class ValidationReport:
    """What validation passed on and what it set aside."""

    park_id: str
    generation_hours: int
    weather_rows: int
    quarantined: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def register(lake: Lake, park: Park) -> None:
    """Add the park's facts to the registry; the same facts twice are stored once.

    Raises
    ------
    InvalidInput
        other facts of this park are stored under the same `valid_from`.
    """
    facts = park.model_dump_json()
    for stored in lake.read(PARKS, park_id=park.id).to_pylist():
        if stored["valid_from"] == park.valid_from and Park.model_validate_json(stored["facts"]) != park:
            raise InvalidInput(
                f"park {park.id!r} has other facts from {park.valid_from.isoformat()} on",
                field="valid_from",
                hint="state when the new facts began to hold",
            )
    row = {"park_id": park.id, "valid_from": _utc(park.valid_from), "facts": facts}
    lake.append_new(PARKS, pd.DataFrame([row]))


def registered(lake: Lake) -> list[Park]:
    """The newest facts of every park, by id."""
    rows = sorted(lake.read(PARKS).to_pylist(), key=lambda row: row["valid_from"])
    newest = {row["park_id"]: Park.model_validate_json(row["facts"]) for row in rows}
    return [newest[park_id] for park_id in sorted(newest)]


def clock_reports(lake: Lake) -> dict[str, ClockReport]:
    """The newest finding about each park's clock."""
    rows = sorted(lake.read(CLOCKS).to_pylist(), key=lambda row: row["as_of"])
    return {row["park_id"]: ClockReport.from_dict(json.loads(row["report"])) for row in rows}


def ingest(lake: Lake, source: Source, park: Park, since: datetime, until: datetime) -> IngestReport:
    """Load what `source` has of `park` in [since, until) into the raw tables, as delivered.

    Parameters
    ----------
    since, until : UTC; nothing measured or issued at or after `until` is read.
    """
    generation = source.generation(park, since, until)
    weather = source.weather(park, since, until)
    clock = source.clock_report(park, until)
    report = {"park_id": park.id, "report": json.dumps(clock.as_dict(), sort_keys=True), "as_of": _utc(until)}
    lake.append_new(CLOCKS, pd.DataFrame([report]))
    return IngestReport(
        park.id, lake.append_new(RAW_GENERATION, generation), lake.append_new(RAW_WEATHER, weather), clock
    )


def validate(lake: Lake, park: Park, since: datetime, until: datetime) -> ValidationReport:
    """Check raw rows of [since, until), set bad ones aside, and store the good ones hourly."""
    begin, end = _utc(since).floor("h"), _utc(until)
    raw = _frame(lake, RAW_GENERATION, park.id, "measured_at", begin, end)
    good, bad = validation.split(raw, validation.generation_contract(park))
    hourly = processing.hourly_generation(good)
    stored = _frame(lake, GENERATION, park.id, "valid_at", begin, end)
    hours = lake.append_new(GENERATION, processing.changed_hours(hourly, stored))
    weather, bad_weather = validation.split(
        _frame(lake, RAW_WEATHER, park.id, "available_at", begin, end + _TICK), validation.WEATHER_CONTRACT
    )
    rows = lake.append_new(WEATHER, weather)
    set_aside = pd.concat(
        [_quarantine(RAW_GENERATION.name, bad, until), _quarantine(RAW_WEATHER.name, bad_weather, until)]
    )
    lake.append_new(QUARANTINE, set_aside)
    return ValidationReport(park.id, hours, rows, len(set_aside))


def _frame(lake: Lake, table: Table, park_id: str, column: str, begin: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    return lake.read(table, park_id=park_id, during=(column, begin, end)).to_pandas(use_threads=False)


def _quarantine(table: str, bad: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    payload = [row.to_json(date_format="iso") for _, row in bad.drop(columns="reason").iterrows()]
    return pd.DataFrame({"table": table, "reason": bad.reason.to_numpy(), "payload": payload, "as_of": _utc(as_of)})


def _utc(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment).tz_convert("UTC")
