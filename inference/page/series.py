"""One park's hours as a table: forecast, metered power, yesterday's forecast. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pvforecast.known import Known

SHOWN_HOURS = 48
"""How much of the past is shown."""


def metered(known: Known, hours: int = SHOWN_HOURS) -> dict[str, list[Any]]:
    """The metered intervals of the last hours before the snapshot, gaps left out: `valid_at` and `power_kw`."""
    history = known.history
    begin = known.as_of.astype("datetime64[s]") - hours * 3600
    kept = np.flatnonzero((history.valid_at >= begin) & ~np.isnan(history.power_kw))
    return {
        "valid_at": [f"{moment.astype('datetime64[s]')}Z" for moment in history.valid_at[kept]],
        "power_kw": np.round(history.power_kw[kept], 4).tolist(),
    }


def table(prediction: Mapping[str, Any], measured: Mapping[str, Any], yesterday: Mapping[str, Any] | None) -> pa.Table:
    """A row an interval, ascending, past and future: nulls where a column has nothing."""
    columns: dict[str, dict[str, float]] = {
        f"power_kw_{level}": dict(zip(prediction["valid_at"], power, strict=True))
        for level, power in prediction["power_kw"].items()
    }
    columns["metered_kw"] = dict(zip(measured["valid_at"], measured["power_kw"], strict=True))
    median = (yesterday or {}).get("power_kw", {}).get("0.5")
    columns["yesterdays_forecast_kw"] = (
        dict(zip(yesterday["valid_at"], median, strict=True)) if yesterday and median else {}
    )
    hours = sorted(set().union(*columns.values()))
    instants = pa.array(hours, pa.string()).cast(pa.timestamp("s", "UTC"))
    facts = {name: [str(prediction[name])] * len(hours) for name in ("park_id", "issued_at", "model_version")}
    values = {name: pa.array([of.get(hour) for hour in hours], pa.float64()) for name, of in columns.items()}
    return pa.table({"valid_at": instants, **values, **facts})


def as_csv(rows: pa.Table) -> bytes:
    """RFC 4180, instants as ISO 8601 in UTC."""
    target = io.BytesIO()
    pyarrow.csv.write_csv(rows, target)
    return target.getvalue()


def as_parquet(rows: pa.Table) -> bytes:
    target = io.BytesIO()
    pyarrow.parquet.write_table(rows, target)
    return target.getvalue()
