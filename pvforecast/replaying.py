"""Rows that were set aside, held against today's contracts and park facts again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from pvforecast import fleet, quarantine, refining
from pvforecast.errors import DataError
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION, RAW_WEATHER, Table
from pvforecast.quarantine import Rejected
from pvforecast.validation import accept

_TABLES = {table.name: table for table in (RAW_GENERATION, RAW_WEATHER)}
_TIME = {RAW_GENERATION.name: "measured_at", RAW_WEATHER.name: "available_at"}


def replay(
    lake: Lake, rows: Sequence[Mapping[str, Any]], now: datetime, *, correct_clocks: bool = True
) -> dict[str, list[str]]:
    """Bring held rows (as `quarantine.held` gives them) to where they belong, if they pass now.

    A row that stands in raw already is processed again there; one that never got so far is added to raw first. What
    passes is marked as replayed; its entry stays.

    Returns
    -------
    ``replayed``: ids that passed; ``still_held``: ids that did not; ``unreadable``: ids whose payload is no row of
    their table (deliver them again), or of a park that is not registered.
    """
    parks = {park.id: park for park in fleet.registered(lake)}
    outcome: dict[str, list[str]] = {"replayed": [], "still_held": [], "unreadable": []}
    for name, table in _TABLES.items():
        mine = [row for row in rows if row["table"] == name]
        read = {row["id"]: _row(table, row["payload"]) for row in mine if row["park_id"] in parks}
        good = {key: frame for key, frame in read.items() if frame is not None}
        outcome["unreadable"] += [row["id"] for row in mine if row["id"] not in good]
        if not good:
            continue
        outside = [good[row["id"]] for row in mine if row["id"] in good and row["origin"] != name]
        if outside:
            lake.append_new(table, pd.concat(outside, ignore_index=True))
        refused: list[Rejected] = []
        frames = pd.concat(good.values(), ignore_index=True)
        for park_id, part in frames.groupby("park_id"):
            times = part[_TIME[name]]
            refining.validate(
                lake, [parks[str(park_id)]], times.min(), min(times.max() + pd.Timedelta(hours=26), pd.Timestamp(now)),
                thorough=False, correct_clocks=correct_clocks, on_rejected=refused.extend,
            )  # fmt: skip
        bad = {_key(table, frame) for item in refused if (frame := _row(table, item.payload)) is not None}
        for row_id, frame in good.items():
            outcome["still_held" if _key(table, frame) in bad else "replayed"].append(row_id)
    outcome["unreadable"] += [row["id"] for row in rows if row["table"] not in _TABLES]
    passed = set(outcome["replayed"])
    quarantine.settle(lake, [row for row in rows if row["id"] in passed], quarantine.REPLAYED, now)
    return outcome


def _row(table: Table, payload: str) -> pd.DataFrame | None:
    """A payload as one row of `table`; None when it is none."""
    try:
        values = json.loads(payload)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    frame = pd.DataFrame([{name: values.get(name) for name in table.schema.names if name not in table.partitions}])
    try:
        for field in table.schema:
            if field.name in table.partitions:
                continue
            if pa.types.is_timestamp(field.type):
                frame[field.name] = pd.to_datetime(frame[field.name], utc=True)
            elif field.type == pa.float64():
                frame[field.name] = pd.to_numeric(frame[field.name])
            elif field.type == pa.int32():
                frame[field.name] = pd.to_numeric(frame[field.name]).astype("int32")
            elif pa.types.is_map(field.type):
                extra = values.get(field.name)
                frame[field.name] = [[*extra.items()] if isinstance(extra, dict) else extra]
        accept(table, frame)
    except (DataError, ValueError, TypeError):
        return None
    return frame


def _key(table: Table, row: pd.DataFrame) -> tuple[str, ...]:
    return tuple(str(row[name].iloc[0]) for name in table.key)
