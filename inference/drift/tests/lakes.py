"""A lake in a folder, filled with a simulated park's record."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from pvforecast.known import WEATHER_VARIABLES, ParkRecord
from pvforecast.lake import Lake
from pvforecast.lake.tables import GENERATION, PARKS, WEATHER

BEGAN = pd.Timestamp("2020-01-01", tz="UTC")


def fill(lake: Lake, *records: ParkRecord) -> None:
    """Register the parks and store their records, as ingestion would have."""
    lake.append_new(PARKS, pd.DataFrame([_facts(record) for record in records]))
    lake.append_new(GENERATION, pd.concat([_generation(record) for record in records], ignore_index=True))
    lake.append_new(WEATHER, pd.concat([_weather(record) for record in records], ignore_index=True))


def _facts(record: ParkRecord) -> dict[str, object]:
    park_id = record.site.park_id
    site = {key: value for key, value in record.site.as_dict().items() if key != "park_id"}
    facts = {"id": park_id, "name": park_id, "source": "simulated", **site}
    return {"park_id": park_id, "valid_from": BEGAN, "recorded_at": BEGAN, "facts": json.dumps(facts)}


def _generation(record: ParkRecord) -> pd.DataFrame:
    facts = {"park_id": record.site.park_id, "power_kw": record.power_kw, "completeness": 1.0}
    times = {"valid_at": _utc(record.valid_at), "available_at": _utc(record.available_at)}
    return pd.DataFrame({**times, **facts, "period_s": np.int32(3600)})


def _weather(record: ParkRecord) -> pd.DataFrame:
    lengths = [len(run.valid_at) for run in record.runs]
    columns: dict[str, object] = {
        "park_id": record.site.park_id,
        "source": np.repeat([run.source for run in record.runs], lengths),
        "run_at": _utc(np.repeat([run.run_at for run in record.runs], lengths)),
        "available_at": _utc(np.repeat([run.available_at for run in record.runs], lengths)),
        "valid_at": _utc(np.concatenate([run.valid_at for run in record.runs])),
        "period_s": np.int32(3600),
    }
    for name in WEATHER_VARIABLES:
        parts = [run.variables.get(name, np.full(len(run.valid_at), np.nan)) for run in record.runs]
        columns[name] = np.concatenate(parts)
    return pd.DataFrame(columns)


def _utc(times: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_localize("UTC")
