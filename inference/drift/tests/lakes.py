"""A lake in a folder, filled with a simulated park's record."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from pvforecast.known import WEATHER_VARIABLES, ParkRecord
from pvforecast.lake import Lake
from pvforecast.lake.tables import GENERATION, PARKS, WEATHER

BEGAN = pd.Timestamp("2020-01-01", tz="UTC")


def fill(lake: Lake, record: ParkRecord) -> None:
    """Register the park and store its record, as ingestion would have."""
    park_id = record.site.park_id
    facts = {"id": park_id, **{name: value for name, value in record.site.as_dict().items() if name != "park_id"}}
    row = {"park_id": park_id, "valid_from": BEGAN, "recorded_at": BEGAN, "facts": json.dumps(facts)}
    lake.append_new(PARKS, pd.DataFrame([row]))
    generation = {"park_id": park_id, "power_kw": record.power_kw, "completeness": 1.0, "period_s": np.int32(3600)}
    times = {"valid_at": _utc(record.valid_at), "available_at": _utc(record.available_at)}
    lake.append_new(GENERATION, pd.DataFrame({**times, **generation}))
    runs = [
        pd.DataFrame(
            {
                "park_id": park_id,
                "source": run.source,
                "run_at": _utc(np.repeat(run.run_at, len(run.valid_at))),
                "available_at": _utc(np.repeat(run.available_at, len(run.valid_at))),
                "valid_at": _utc(run.valid_at),
                "period_s": np.int32(3600),
                **{name: run.variables.get(name, np.full(len(run.valid_at), np.nan)) for name in WEATHER_VARIABLES},
            }
        )
        for run in record.runs
    ]
    lake.append_new(WEATHER, pd.concat(runs, ignore_index=True))


def _utc(times: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_localize("UTC")
