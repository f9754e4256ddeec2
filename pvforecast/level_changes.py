"""Lasting changes of parks' levels that the drift job told of: rows of the kind `LEVEL` in ``drift/scores``.

`day` is since when, on the park's solar calendar, `value` the metered power over the expected one since then, and
`checked_at` when it was found: a training knows of what was found before its `as_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from pvforecast.lake.store import Lake, among
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.model.levels import Change

LEVEL = "level"


def told(lake: Lake, parks: Sequence[str], as_of: np.datetime64, version: int) -> dict[str, Change]:
    """Park -> since when its level is another, and what it is of that before, as it was found last.

    Parameters
    ----------
    version : of ``drift/scores``; negative where it was not there.
    """
    if version < 0:
        return {}
    known_by = datetime.fromtimestamp(int(as_of.astype("datetime64[s]").astype(np.int64)), UTC)
    found = lake.query(  # few of very many rows
        DRIFT_SCORES,
        f"SELECT park_id, day, value, checked_at FROM t WHERE kind = '{LEVEL}' AND value > 0"
        f" AND {among('park_id', parks)} ORDER BY checked_at, day",
        version=version,
    )
    rows = [] if found is None else found.to_pylist()
    return {
        row["park_id"]: Change(np.datetime64(row["day"], "s"), row["value"])
        for row in rows
        if row["checked_at"] <= known_by
    }
