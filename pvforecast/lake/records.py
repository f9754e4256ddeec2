"""One park's whole record out of the lake, with when each row became available."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pvforecast import holds
from pvforecast.errors import UnknownPark
from pvforecast.known import HISTORY_DAYS, PAST, WEATHER_VARIABLES, Floats, Known, ParkRecord, Times, WeatherRun, Words
from pvforecast.lake.store import Lake, of_parks
from pvforecast.lake.tables import GENERATION, PARKS, WEATHER
from pvforecast.site import Limit, Plane, Site

_RECENT = timedelta(days=3)
_HOUR_S = 3600
_TICK = timedelta(microseconds=1)


def load(lake: Lake, park_id: str, *, versions: dict[str, int] | None = None, hourly: bool = False) -> ParkRecord:
    """Everything processed about a park.

    Parameters
    ----------
    versions : table name -> version to read; the current one where not named.
    hourly : in whole hours, also of a park of another resolution.

    Raises
    ------
    UnknownPark
        the park is not registered in the lake.
    """
    version = (versions or {}).get
    generation = lake.read(GENERATION, park_id=park_id, version=version(GENERATION.name))
    weather = lake.read(WEATHER, park_id=park_id, version=version(WEATHER.name))
    facts = sites(lake, park_id)
    held = holds.read(lake, [park_id])
    if hourly:
        facts = [(begin, replace(site, resolution="PT1H")) for begin, site in facts]
    return _record(facts, generation, weather, held)


def known(lake: Lake, park_ids: Sequence[str], as_of: np.datetime64) -> dict[str, Known]:
    """What was known of each park at `as_of`: ``load(lake, park_id).known_at(as_of)``, with one read for many parks.

    Only the last days of generation are read, each park's newest run, and its run of a day ago.

    Raises
    ------
    UnknownPark
        a park is not registered in the lake.
    """
    facts = _facts(lake, park_ids)
    now = _moment(as_of)
    held = holds.read(lake, park_ids)
    generation = lake.read(
        GENERATION, park_ids=park_ids, during=("valid_at", now - timedelta(days=HISTORY_DAYS), now + _TICK)
    )
    newest = _newest_runs(lake, park_ids, now, now - _RECENT)
    late = [park_id for park_id in park_ids if park_id not in newest]
    newest |= _newest_runs(lake, late, now) if late else {}
    day = timedelta(seconds=int(PAST / np.timedelta64(1, "s")))
    past = _newest_runs(lake, park_ids, now, now - 3 * day, now - day)
    wanted: dict[datetime, list[str]] = {}
    for park, at in sorted({*newest.items(), *past.items()}):
        wanted.setdefault(at, []).append(park)
    weather = [lake.read(WEATHER, park_ids=wanted[at], during=("run_at", at, at + _TICK)) for at in sorted(wanted)]
    rows = pa.concat_tables(weather) if weather else lake.read(WEATHER, park_ids=[])
    return {
        park_id: _record(
            facts[park_id],
            generation.filter(pc.equal(generation["park_id"], park_id)),
            rows.filter(pc.equal(rows["park_id"], park_id)),
            [hold for hold in held if hold.park_id == park_id],
        ).known_at(as_of)
        for park_id in park_ids
    }


def _newest_runs(
    lake: Lake, park_ids: Sequence[str], now: datetime, since: datetime | None = None, until: datetime | None = None
) -> dict[str, datetime]:
    """Start of each park's newest hourly run that was available at `now`, of those in [since, until] where given."""
    recent = f"AND run_at >= TIMESTAMP '{since.isoformat()}' " if since else ""
    recent += f"AND run_at <= TIMESTAMP '{until.isoformat()}' " if until else ""
    rows = lake.query(
        WEATHER,
        f"SELECT park_id, max(run_at) AS run_at FROM t WHERE period_s = 3600 AND {of_parks(park_ids)} "
        f"{recent}AND available_at <= TIMESTAMP '{now.isoformat()}' GROUP BY park_id",
    )
    return {} if rows is None else {row["park_id"]: row["run_at"] for row in rows.to_pylist()}


def _record(
    facts: Sequence[tuple[np.datetime64, Site]],
    generation: pa.Table,
    weather: pa.Table,
    held: Sequence[holds.Hold] = (),
) -> ParkRecord:
    """Of one park's rows."""
    period_s = int(facts[-1][1].period / np.timedelta64(1, "s"))
    generation = generation.filter(pc.equal(generation["period_s"], period_s))
    hours, available, power = (
        _times(generation, "valid_at"),
        _times(generation, "available_at"),
        _floats(generation, "power_kw"),
    )
    flags = _words(generation, "flags")
    if held:
        rows, available, flags = holds.apply(held, hours, available, flags)
        hours, power = hours[rows], power[rows]
    order = np.lexsort((available, hours))
    flags = flags[order]
    runs = _runs(_hourly(weather))
    if period_s != _HOUR_S:
        runs = _finest(runs, _runs(weather.filter(pc.equal(weather["period_s"], period_s))))
    return ParkRecord(facts[-1][1], runs, hours[order], available[order], power[order], tuple(facts), flags)


def sites(lake: Lake, park_id: str) -> list[tuple[np.datetime64, Site]]:
    """A park's facts with when each began to hold, ascending; of two written for the same time, the later written.

    Raises
    ------
    UnknownPark
        the park is not registered in the lake.
    """
    return _facts(lake, [park_id])[park_id]


def _facts(lake: Lake, park_ids: Sequence[str]) -> dict[str, list[tuple[np.datetime64, Site]]]:
    """`sites` of some parks."""
    facts: dict[str, dict[datetime, str]] = {}
    for row in sorted(lake.read(PARKS, park_ids=park_ids).to_pylist(), key=lambda row: row["recorded_at"]):
        facts.setdefault(row["park_id"], {})[row["valid_from"]] = row["facts"]
    missing = [park_id for park_id in park_ids if park_id not in facts]
    if missing:
        raise UnknownPark(f"no park {missing[0]!r} in the lake", field="park_id", hint="list them: pvf park list")
    return {
        park_id: [(np.datetime64(int(begin.timestamp()), "s"), _site(json.loads(own[begin]))) for begin in sorted(own)]
        for park_id, own in facts.items()
    }


def _site(facts: dict[str, Any]) -> Site:
    """Of the facts as `pvforecast.parks` writes them: read here without pydantic, which the drift job lacks."""
    apart = ("park_id", "arrays", "export_limit_kw", "availability", "resolution")
    named = {name: facts[name] for name in Site.__dataclass_fields__ if name not in apart}
    arrays = facts.get("arrays") or []
    total = sum(array["dc_capacity_kw"] for array in arrays)
    planes = tuple(
        Plane(array["surface_tilt"], array["surface_azimuth"], array["dc_capacity_kw"] / total) for array in arrays
    )
    limits = tuple(
        Limit.between(
            datetime.fromisoformat(item["begin"]),
            datetime.fromisoformat(item["end"]) if item["end"] else None,
            item["available_fraction"],
            item["export_limit_kw"],
        )
        for item in facts.get("availability") or []
    )
    export_limit_kw = facts.get("export_limit_kw")
    return Site(
        park_id=facts["id"],
        **named,
        arrays=planes,
        export_limit_kw=export_limit_kw,
        availability=limits,
        resolution=facts.get("resolution", "PT1H"),
    )


def _hourly(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.equal(rows["period_s"], _HOUR_S))


def _finest(hourly: Sequence[WeatherRun], finer: Sequence[WeatherRun]) -> tuple[WeatherRun, ...]:
    """Each run in short intervals where it was delivered so; features interpolate the others."""
    better = {(run.source, run.run_at, run.available_at): run for run in finer}
    return tuple(better.get((run.source, run.run_at, run.available_at), run) for run in hourly)


def _runs(weather: pa.Table) -> tuple[WeatherRun, ...]:
    if len(weather) == 0:
        return ()
    source = np.asarray(weather["source"].to_pylist(), dtype=object)
    run_at, available_at, valid_at = (_times(weather, name) for name in ("run_at", "available_at", "valid_at"))
    variables = {name: _floats(weather, name) for name in WEATHER_VARIABLES} | _extra(weather)
    order = np.lexsort((valid_at, source.astype(str), run_at, available_at))
    keys = np.array([f"{available_at[i]}|{run_at[i]}|{source[i]}" for i in order])
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    runs = []
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = order[begin:end]
        runs.append(
            WeatherRun(
                str(source[rows[0]]),
                run_at[rows[0]],
                available_at[rows[0]],
                valid_at[rows],
                {
                    name: values[rows]
                    for name, values in variables.items()
                    if name in WEATHER_VARIABLES or not np.all(np.isnan(values[rows]))
                },
            )
        )
    return tuple(runs)


def _extra(weather: pa.Table) -> dict[str, Floats]:
    """The free columns of all rows, NaN where a row lacks one."""
    rows = weather["extra"].combine_chunks()
    if len(rows) == rows.null_count:
        return {}
    counts = np.diff(rows.offsets.to_numpy())
    of_row = np.repeat(np.arange(len(rows)), counts)
    first, last = rows.offsets[0].as_py(), rows.offsets[-1].as_py()
    names = np.asarray(rows.keys[first:last].to_pylist(), dtype=object)
    values = rows.items[first:last].to_numpy(zero_copy_only=False).astype(np.float64)
    columns = {}
    for name in sorted(set(names)):
        column = np.full(len(rows), np.nan)
        column[of_row[names == name]] = values[names == name]
        columns[str(name)] = column
    return columns


def _moment(instant: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(instant.astype("datetime64[s]").astype(np.int64)), UTC)


def _times(table: pa.Table, name: str) -> Times:
    times: Times = table[name].to_numpy().astype("datetime64[s]")
    return times


def _floats(table: pa.Table, name: str) -> Floats:
    floats: Floats = table[name].to_numpy().astype(np.float64)
    return floats


def _words(table: pa.Table, name: str) -> Words:
    words: Words = np.asarray(table[name].fill_null("").to_pylist(), dtype=np.str_)
    return words
