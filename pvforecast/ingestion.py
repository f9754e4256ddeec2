"""Loading parks: source -> raw, as delivered. Safe to repeat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd

from pvforecast.errors import DataError
from pvforecast.lake import Lake
from pvforecast.lake.store import of_parks
from pvforecast.lake.tables import RAW_GENERATION, RAW_WEATHER
from pvforecast.parks import Park
from pvforecast.sources.base import GenerationSource, RunKey, WeatherSource
from pvforecast.validation import accept


@dataclass(frozen=True)
class WeatherReport:
    """What one load of weather added.

    Attributes
    ----------
    rows : park id -> rows of runs that were not stored before.
    failed : park id -> why something that should have come did not; it keeps the runs it has.
    notes : what else is worth knowing.
    attribution : the credit that the source's licence asks for.
    """

    source: str
    rows: dict[str, int]
    failed: dict[str, str]
    notes: tuple[str, ...]
    attribution: str


@dataclass(frozen=True)
class IngestReport:
    """What one load of one park added."""

    park_id: str
    generation_rows: int
    weather_rows: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class GenerationReport:
    """What one load of one park's generation added."""

    park_id: str
    rows: int


class Source(GenerationSource, WeatherSource, Protocol):
    """One that delivers both."""


def ingest_weather(
    lake: Lake, source: WeatherSource, parks: Sequence[Park], since: datetime, until: datetime
) -> WeatherReport:
    """Load what `source` has for some parks, runs available in [since, until], into ``raw/weather``: in one commit.

    A run that is stored is not asked for again, so that an hourly load of an unchanged run adds nothing.

    Parameters
    ----------
    since, until : UTC.
    """
    stored = stored_runs(lake, [park.id for park in parks], since, until)
    delivery = source.weather(parks, since, until, stored)
    rows = delivery.rows
    if stored and len(rows):
        runs = pd.MultiIndex.from_frame(rows[["park_id", "source", "run_at"]])
        rows = rows[~runs.isin(pd.MultiIndex.from_tuples(stored))]
    lake.append_new(RAW_WEATHER, rows)
    counts = rows["park_id"].value_counts()
    return WeatherReport(
        source.name,
        {park.id: int(counts.get(park.id, 0)) for park in parks},
        dict(delivery.failed),
        delivery.notes,
        source.attribution,
    )


def stored_runs(lake: Lake, park_ids: Sequence[str], since: datetime, until: datetime) -> set[RunKey]:
    """Runs of these parks in ``raw/weather`` that became available in [since, until]. A run is stored whole or not."""
    begin, end = (pd.Timestamp(moment).tz_convert("UTC").isoformat() for moment in (since, until))
    rows = lake.query(
        RAW_WEATHER,
        f"SELECT DISTINCT park_id, source, run_at FROM t WHERE {of_parks(park_ids)} "
        f"AND available_at >= TIMESTAMP '{begin}' AND available_at <= TIMESTAMP '{end}'",
    )
    return set() if rows is None else {(row["park_id"], row["source"], row["run_at"]) for row in rows.to_pylist()}


def ingest_generation(
    lake: Lake, source: GenerationSource, park: Park, since: datetime, until: datetime
) -> GenerationReport:
    """Load what `source` measured of `park` in [since, until) into ``raw/generation``, as delivered.

    Parameters
    ----------
    since, until : UTC.
    """
    generation = source.generation(park, since, until)
    accept(RAW_GENERATION, generation)
    return GenerationReport(park.id, lake.append_new(RAW_GENERATION, generation))


def ingest(lake: Lake, source: Source, park: Park, since: datetime, until: datetime) -> IngestReport:
    """Both of one park from one source; see `ingest_weather` and `ingest_generation`.

    Raises
    ------
    DataError
        its weather did not come.
    """
    generation = ingest_generation(lake, source, park, since, until)
    weather = ingest_weather(lake, source, [park], since, until)
    if park.id in weather.failed:
        raise DataError(weather.failed[park.id], field=park.id)
    return IngestReport(park.id, generation.rows, weather.rows[park.id])
