"""What each check measured, kept for dashboards: table ``drift/scores``, a row for each park, day and measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from pvforecast.lake import Lake
from pvforecast.lake.tables import DRIFT_SCORES

if TYPE_CHECKING:
    from inference.drift.job import Line

PSI_LIMIT = 0.2


def keep(lake: Lake, lines: Sequence[Line]) -> int:
    """Store what is new of some checks; a check that is repeated adds nothing. Returns how many rows were."""
    rows = [row for line in lines for row in _rows(line)]
    return lake.append_new(DRIFT_SCORES, pd.DataFrame(rows)) if rows else 0


def _rows(line: Line) -> list[dict[str, object]]:
    known = {
        "park_id": line.park_id,
        "day": line.day,
        "checked_at": pd.Timestamp(line.checked_at),
        "reference_id": line.reference_id,
    }
    alarmed = {alarm["detector"] for alarm in (line.event or {"data": {"alarms": []}})["data"]["alarms"]}
    rows: list[dict[str, object]] = [
        {**known, "kind": "detector", "name": name, "value": score, "limit": limit, "alarm": name in alarmed}
        for name, (score, limit) in line.scores.items()
    ]
    rows += [
        {**known, "kind": "psi", "name": psi["feature"], "value": round(psi["psi"] - psi["bias"], 4),
         "limit": PSI_LIMIT, "alarm": psi["exceeds"]}
        for psi in line.psi
    ]  # fmt: skip
    return rows
