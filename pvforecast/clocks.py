"""What is known of each park's clock: looked at from its own raw rows, kept in ``raw/clocks``, applied to rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pvforecast.clock import MIN_DAYS, ClockReport, correct, find_faults
from pvforecast.lake import Lake
from pvforecast.lake.store import of_parks
from pvforecast.lake.tables import CLOCKS, RAW_GENERATION
from pvforecast.parks import Park

LOOK_BACK = pd.Timedelta(days=400)  # two changes of daylight-saving time at least
AGAIN = pd.Timedelta(days=7)  # how long a finding stands before the park is looked at again
_SOON = pd.Timedelta(days=1)  # the same while there are too few days


def reports(lake: Lake) -> dict[str, ClockReport]:
    """The newest finding about each park's clock."""
    return {park_id: ClockReport.from_dict(json.loads(row["report"])) for park_id, row in _newest(lake).items()}


def review(lake: Lake, parks: Sequence[Park], now: pd.Timestamp) -> list[str]:
    """Look at clocks that were not looked at for `AGAIN`, and store what was found.

    Only rows before `now` are looked at. A park with less than `MIN_DAYS` producing days keeps its clock.

    Returns
    -------
    Parks whose correction is another one than before: their stored span must be processed again.
    """
    known = _newest(lake)
    due = [park for park in parks if park.id not in known or _due(known[park.id], now)]
    if not due:
        return []
    power = _power(lake, due, now)
    changed, rows = [], []
    for park in due:
        if park.id not in power:
            continue
        found = find_faults(power[park.id], park.site())
        before = ClockReport.from_dict(json.loads(known[park.id]["report"])) if park.id in known else None
        if before is not None and before.corrected and found.days < MIN_DAYS:
            continue  # too little to take back what was found
        if found.correction != (before.correction if before else (False, 0)):
            changed.append(park.id)
        finding = json.dumps(found.as_dict(), sort_keys=True)
        rows.append({"park_id": park.id, "report": finding, "as_of": now})
    if rows:
        lake.append_new(CLOCKS, pd.DataFrame(rows))
    return changed


def apply(index: pd.DatetimeIndex, park: Park, known: Mapping[str, ClockReport]) -> pd.DatetimeIndex:
    """True UTC of labels as delivered; NaT where a label can't exist. As they are where nothing was found."""
    report = known.get(park.id)
    return correct(index, park.site(), report) if report is not None and report.corrected else index


def reach(known: Mapping[str, ClockReport], parks: Sequence[Park]) -> tuple[pd.Timedelta, pd.Timedelta]:
    """How far labels may lie before and after the true times of some parks."""
    found = [known[park.id] for park in parks if park.id in known]
    offsets = [report.offset_minutes + (60 if report.follows_dst else 0) for report in found] + [0]
    return pd.Timedelta(minutes=-min(offsets)), pd.Timedelta(minutes=max(offsets))


def _due(row: Mapping[str, Any], now: pd.Timestamp) -> bool:
    days = json.loads(str(row["report"])).get("days", MIN_DAYS)
    waited = now - pd.Timestamp(row["as_of"])
    return bool(waited >= (AGAIN if days >= MIN_DAYS else _SOON))


def _newest(lake: Lake) -> dict[str, dict[str, Any]]:
    rows = sorted(lake.read(CLOCKS).to_pylist(), key=lambda row: row["as_of"])
    return {row["park_id"]: row for row in rows}


def _power(lake: Lake, parks: Sequence[Park], now: pd.Timestamp) -> dict[str, pd.Series]:
    """By park, kW in quarter hours as labelled; rows of longer intervals stand at their label."""
    found = lake.query(
        RAW_GENERATION,
        f"SELECT park_id, at, sum(kw) AS kw FROM (SELECT park_id, inverter_id, date_bin(INTERVAL '15' MINUTE, "
        f"measured_at) AS at, avg(power_kw) AS kw FROM t WHERE {of_parks([park.id for park in parks])} AND "
        f"measured_at >= TIMESTAMP '{(now - LOOK_BACK).isoformat()}' AND measured_at < TIMESTAMP '{now.isoformat()}' "
        f"AND power_kw = power_kw GROUP BY park_id, inverter_id, date_bin(INTERVAL '15' MINUTE, measured_at)) "
        f"GROUP BY park_id, at ORDER BY park_id, at",
    )
    if found is None:
        return {}
    rows = found.to_pandas(use_threads=False)
    limits = {park.id: 1.5 * park.ac_capacity_kw for park in parks}
    rows = rows[rows.kw <= rows.park_id.map(limits)]
    return {
        str(park_id): pd.Series(part.kw.to_numpy(), index=pd.DatetimeIndex(part["at"]).tz_convert("UTC"))
        for park_id, part in rows.groupby("park_id")
    }
