"""How old what is known of each park is: its newest weather run, and its newest metered interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from pvforecast.errors import InvalidInput
from pvforecast.lake import Lake
from pvforecast.lake.store import among
from pvforecast.lake.tables import RAW_GENERATION, WEATHER, Table
from pvforecast.site import Site

LOOK_BACK = timedelta(days=14)
"""What is older than this is as good as none."""
_RECENT = timedelta(hours=2)
_ROWS_A_QUERY = 500  # parks that are named in one query


@dataclass(frozen=True)
class Limits:
    """NF4, in minutes.

    Attributes
    ----------
    weather : since the newest run could be had.
    generation : after its end by which an interval must be readable, while the sun is up.
    """

    weather: int
    generation: int


@dataclass(frozen=True)
class Freshness:
    """What is newest of one park; None where there is nothing of the last `LOOK_BACK`.

    Attributes
    ----------
    weather_run_at, weather_available_at : start of the newest processed run, and when it could be had.
    generation_until : end of the newest delivered interval.
    generation_received_at : when the newest row was received.
    period_minutes : of the newest rows.
    stale : ``weather``, ``generation``: which limit is broken.
    """

    park_id: str
    weather_run_at: datetime | None
    weather_available_at: datetime | None
    weather_age_minutes: int | None
    weather_available_age_minutes: int | None
    generation_until: datetime | None
    generation_received_at: datetime | None
    generation_age_minutes: int | None
    period_minutes: int | None
    stale: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else list(value) if name == "stale" else value
            for name, value in vars(self).items()
        }


def of_parks(lake: Lake, sites: Sequence[Site], now: datetime, limits: Limits) -> list[Freshness]:
    """Freshness of each park, in the order of `sites`.

    `weather_age_minutes` is counted from the start of the run, as a forecast's answer does; the limit holds for
    `weather_available_age_minutes`, since a run that can't be had yet is nobody's delay. `generation_age_minutes` is
    counted from the end of the newest interval; the limit, from the end of the interval that should have come next.
    At night, when many loggers sleep, nothing is late.

    Parameters
    ----------
    now : with offset; nothing available or received later is seen.
    """
    now = now.astimezone(UTC)
    parks = [site.park_id for site in sites]
    weather, generation = _weather(lake, parks, now), _generation(lake, parks, now)
    return [_of(site, weather.get(site.park_id), generation.get(site.park_id), now, limits) for site in sites]


def _of(
    site: Site, weather: Mapping[str, Any] | None, generation: Mapping[str, Any] | None, now: datetime, limits: Limits
) -> Freshness:
    run_at, available_at = (weather[name] if weather else None for name in ("run_at", "available_at"))
    until, received_at = (generation[name] if generation else None for name in ("until", "received_at"))
    period = timedelta(seconds=int(generation["period_s"])) if generation else timedelta(0)
    stale = []
    if available_at is None or now - available_at > timedelta(minutes=limits.weather):
        stale.append("weather")
    if until is None or now - until - period > timedelta(minutes=limits.generation):
        due = now - timedelta(minutes=limits.generation) - max(period, timedelta(hours=1))
        stale += ["generation"] if _sun_was_up(site, due, now) else []
    return Freshness(
        site.park_id,
        run_at,
        available_at,
        _minutes(now, run_at),
        _minutes(now, available_at),
        until,
        received_at,
        _minutes(now, until),
        int(period.total_seconds() // 60) if generation else None,
        tuple(stale),
    )


def _sun_was_up(site: Site, since: datetime, until: datetime) -> bool:
    """Whether the sun was up all the time."""
    from pvforecast import features  # pvlib takes a second to import, and most calls do without

    instants = np.array([int(moment.timestamp()) for moment in (since, until)]).astype("datetime64[s]")
    hours = instants.astype("datetime64[h]").astype("datetime64[s]")
    return bool(features.daylight(site, hours).all())


def _weather(lake: Lake, parks: Sequence[str], now: datetime) -> dict[str, dict[str, Any]]:
    select = "SELECT park_id, max(run_at) AS run_at, max(available_at) AS available_at"
    seen = f"available_at <= TIMESTAMP '{now.isoformat()}'"
    # A run that can be used reaches this hour: of all rows of the last days, few are about it.
    hour = now.replace(minute=0, second=0, microsecond=0)
    found = _newest(lake, WEATHER, select, seen, parks, "valid_at", hour, hour + timedelta(hours=1))
    rest = [park for park in parks if park not in found]
    return found | _newest(lake, WEATHER, select, seen, rest, "valid_at", now - LOOK_BACK, now + LOOK_BACK)


def _generation(lake: Lake, parks: Sequence[str], now: datetime) -> dict[str, dict[str, Any]]:
    select = (
        "SELECT park_id, to_timestamp_seconds(max(to_unixtime(measured_at) + period_s)) AS until,"
        " max(received_at) AS received_at, max(period_s) AS period_s"
    )
    seen = f"received_at <= TIMESTAMP '{now.isoformat()}'"
    found = _newest(lake, RAW_GENERATION, select, seen, parks, "measured_at", now - _RECENT, now)
    rest = [park for park in parks if park not in found]
    return found | _newest(lake, RAW_GENERATION, select, seen, rest, "measured_at", now - LOOK_BACK, now)


def _newest(
    lake: Lake,
    table: Table,
    select: str,
    seen: str,
    parks: Sequence[str],
    column: str,
    begin: datetime,
    end: datetime,
) -> dict[str, dict[str, Any]]:
    if not parks:
        return {}
    named = f" AND {among('park_id', parks)}" if len(parks) <= _ROWS_A_QUERY else ""
    rows: pa.Table | None = lake.query(
        table,
        f"{select} FROM t WHERE {seen}{named} AND {among('month', _months(begin, end))}"
        f" AND {column} >= TIMESTAMP '{begin.isoformat()}' AND {column} < TIMESTAMP '{end.isoformat()}'"
        " GROUP BY park_id",
    )
    return {} if rows is None else {row["park_id"]: _in_utc(row) for row in rows.to_pylist()}


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    """DataFusion gives computed instants without a zone."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in row.items()
    }


def _months(begin: datetime, end: datetime) -> list[str]:
    days = range((end - begin).days + 2)
    return sorted({f"{begin + timedelta(days=day):%Y-%m}" for day in days})


def _minutes(now: datetime, then: datetime | None) -> int | None:
    return None if then is None else int((now - then) / timedelta(minutes=1))


def worst(found: Iterable[Freshness], what: str) -> int | None:
    """The greatest age, of ``weather`` or ``generation``, among parks that have any."""
    if what not in ("weather", "generation"):
        raise InvalidInput(f"{what!r} has no age", field="what", hint="weather or generation")
    ages = [age for item in found if (age := getattr(item, f"{what}_age_minutes")) is not None]
    return max(ages, default=None)
