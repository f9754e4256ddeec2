"""A year of hourly weather loads for a hundred parks, with daily maintenance, on SeaweedFS.

    python -m benchmarks.lake.year [--parks 100] [--days 365] [--hourly-days 5]

Simulated and time-lapsed: a new 48-hour run of each park every hour (8,760 runs a park and year), and its generation in
quarter hours. The first days are laid down several at a time (`CHUNK_DAYS` a commit, into raw and processed); the last
`--hourly-days` of weather are loaded as in production, 24 times a day through validation, with maintenance each night.
Files of a month that is over do not depend on how often it was written, because maintenance merges them; the hourly
days show the number between two runs of it. Generation is laid down throughout. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.lake import place, simulated
from pvforecast import refining, wiring
from pvforecast.lake import Lake, layout, records
from pvforecast.lake.maintenance import Policy, maintain
from pvforecast.lake.tables import GENERATION, RAW_GENERATION, RAW_WEATHER, WEATHER
from pvforecast.parks import Park

CHUNK_DAYS = 5
_DAY, _HOUR = pd.Timedelta(days=1), pd.Timedelta(hours=1)
_TABLES = (RAW_WEATHER, WEATHER, RAW_GENERATION, GENERATION)


def measure(number: int = 100, days: int = 365, hourly_days: int = 5) -> dict[str, Any]:
    """File counts and their bound, how long reads of a training window take, bytes a park and year."""
    parks = simulated.fleet(number)
    with place.seaweedfs() as (settings, _):
        lake = wiring.lake(settings)
        simulated.register(lake, parks)
        begun = time.monotonic()
        whole = (days - hourly_days) // CHUNK_DAYS * CHUNK_DAYS
        for day in range(0, whole, CHUNK_DAYS):
            first = simulated.BEGIN + day * _DAY
            weather = simulated.weather(parks, first, 24 * CHUNK_DAYS)
            lake.append_new(RAW_WEATHER, weather)
            lake.append_new(WEATHER, weather)
            _generation(lake, parks, first, CHUNK_DAYS)
            if day % (6 * CHUNK_DAYS) == 0:
                _maintain(lake)
                print(f"  day {day}: {time.monotonic() - begun:.0f} s, {_files(lake)}", file=sys.stderr, flush=True)
        _maintain(lake)
        most, loads, nights = dict.fromkeys(_files(lake), 0), [], []
        for day in range(whole, days):
            for hour in range(24):
                at, started = simulated.BEGIN + day * _DAY + hour * _HOUR, time.monotonic()
                lake.append_new(RAW_WEATHER, simulated.weather(parks, at, 1))
                until = (at + pd.Timedelta(minutes=10)).to_pydatetime()
                refining.validate(lake, parks, until - timedelta(hours=2), until)
                loads.append(time.monotonic() - started)
                most = {name: max(count, most[name]) for name, count in _files(lake).items()}
            nights.append(_maintain(lake))
            print(f"  day {day}: a load takes {np.median(loads):.2f} s; {_files(lake)}", file=sys.stderr, flush=True)
        _generation(lake, parks, simulated.BEGIN + whole * _DAY, days - whole)
        _maintain(lake)
        return {
            "year_parks": number,
            "year_days": days,
            "year_days_loaded_hourly": days - whole,
            "year_weather_rows": _rows(lake, WEATHER),
            "year_generation_rows": _rows(lake, GENERATION),
            "year_files": sum(_files(lake).values()),
            "year_files_by_table": _files(lake),
            "year_files_most_between_maintenance": most,
            "year_files_bound_by_table": {table.name: _bound(lake, table) for table in _TABLES},
            "year_hourly_load_median_s": round(float(np.median(loads)), 2),
            "year_maintenance_median_s": round(float(np.median(nights)), 2),
            **_reads(lake, parks, days),
            **{
                f"year_mb_per_park_year_{table.name.replace('/', '_')}":
                round(_bytes(lake, table) / 1e6 / number / days * 365, 3)
                for table in _TABLES
            },
            "year_seconds": round(time.monotonic() - begun),
        }  # fmt: skip


def _generation(lake: Lake, parks: list[Park], first: pd.Timestamp, days: int) -> None:
    """Quarter hours into raw, and their hours into processed."""
    raw = simulated.generation(parks, first, 96 * days)
    lake.append_new(RAW_GENERATION, raw)
    hours = raw.assign(valid_at=raw["measured_at"].dt.floor("h")).groupby(["park_id", "valid_at"], as_index=False)
    hourly = hours.agg(power_kw=("power_kw", "mean"), available_at=("received_at", "max"))
    lake.append_new(GENERATION, hourly.assign(period_s=np.int32(3600), completeness=1.0, flags=""))


def _reads(lake: Lake, parks: list[Park], days: int) -> dict[str, float]:
    """What training reads of one park, and the newest run of every park for each issue time of a month."""
    begun = time.monotonic()
    record = records.load(lake, parks[len(parks) // 2].id)
    one_park = time.monotonic() - begun
    end = simulated.BEGIN + days * _DAY
    issues = pd.date_range(end - min(30, days - 2) * _DAY, end - _DAY, freq="D")
    begun, rows = time.monotonic(), 0
    for issued_at in issues:
        known = records.known(lake, [park.id for park in parks], np.datetime64(issued_at.tz_localize(None), "s"))
        rows += sum(len(park.weather.valid_at) for park in known.values() if park.weather is not None)
    if rows != len(parks) * len(issues) * simulated.LEADS:
        raise RuntimeError(f"{rows} rows of {len(parks) * len(issues) * simulated.LEADS}")
    return {
        "year_read_one_park_whole_s": round(one_park, 2),
        "year_read_one_park_runs": len(record.runs),
        "year_read_month_all_parks_as_of_s": round(time.monotonic() - begun, 2),
    }


def _bound(lake: Lake, table: Any) -> int:
    """What `pvforecast.lake.layout` promises, for the partitions and bytes that are there."""
    delta = lake.delta(table)
    partitions = len(delta.partitions()) if delta else 0
    return partitions * (layout.MOST_SMALL + 2) + 2 * _bytes(lake, table) // layout.SMALL_BYTES


def _maintain(lake: Lake) -> float:
    begun = time.monotonic()
    failed = [
        row["note"] for row in maintain(lake, {}, datetime.now(UTC) + timedelta(seconds=5), Policy(0, 0)) if row["note"]
    ]
    if failed:
        raise RuntimeError("; ".join(failed))
    return time.monotonic() - begun


def _files(lake: Lake) -> dict[str, int]:
    return {table.name: layout.size(delta)[0] for table in _TABLES if (delta := lake.delta(table)) is not None}


def _bytes(lake: Lake, table: Any) -> int:
    delta = lake.delta(table)
    return layout.size(delta)[1] if delta is not None else 0


def _rows(lake: Lake, table: Any) -> int:
    rows = lake.query(table, "SELECT count(*) AS n FROM t")
    return 0 if rows is None else int(rows["n"][0].as_py())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parks", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--hourly-days", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measure(given.parks, given.days, given.hourly_days)))
