"""One park's whole record out of the lake, with when each row became available."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from pvforecast.errors import UnknownPark
from pvforecast.known import WEATHER_VARIABLES, Floats, ParkRecord, Times, WeatherRun
from pvforecast.lake.store import Lake
from pvforecast.lake.tables import GENERATION, PARKS, WEATHER
from pvforecast.site import Site


def load(lake: Lake, park_id: str, *, versions: dict[str, int] | None = None) -> ParkRecord:
    """Everything processed about a park.

    Parameters
    ----------
    versions : table name -> version to read; the current one where not named.

    Raises
    ------
    UnknownPark
        the park is not registered in the lake.
    """
    version = (versions or {}).get
    generation = lake.read(GENERATION, park_id=park_id, version=version(GENERATION.name))
    hours, available, power = (
        _times(generation, "valid_at"),
        _times(generation, "available_at"),
        _floats(generation, "power_kw"),
    )
    order = np.lexsort((available, hours))
    weather = lake.read(WEATHER, park_id=park_id, version=version(WEATHER.name))
    return ParkRecord(site(lake, park_id), _runs(weather), hours[order], available[order], power[order])


def site(lake: Lake, park_id: str) -> Site:
    """The park's newest facts."""
    rows = lake.read(PARKS, park_id=park_id)
    if len(rows) == 0:
        raise UnknownPark(f"no park {park_id!r} in the lake", field="park_id", hint="list them: pvf park list")
    newest = max(rows.to_pylist(), key=lambda row: row["valid_from"])
    facts = json.loads(newest["facts"])
    return Site(park_id=facts["id"], **{name: facts[name] for name in Site.__dataclass_fields__ if name != "park_id"})


def _runs(weather: pa.Table) -> tuple[WeatherRun, ...]:
    if len(weather) == 0:
        return ()
    source = np.asarray(weather["source"].to_pylist(), dtype=object)
    run_at, available_at, valid_at = (_times(weather, name) for name in ("run_at", "available_at", "valid_at"))
    variables = {name: _floats(weather, name) for name in WEATHER_VARIABLES}
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
                {name: values[rows] for name, values in variables.items()},
            )
        )
    return tuple(runs)


def _times(table: pa.Table, name: str) -> Times:
    times: Times = table[name].to_numpy().astype("datetime64[s]")
    return times


def _floats(table: pa.Table, name: str) -> Floats:
    floats: Floats = table[name].to_numpy().astype(np.float64)
    return floats
