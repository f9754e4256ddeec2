"""Lasting changes of parks' levels that the drift job told of: rows of the kind `LEVEL` in ``drift/scores``.

`day` is since when, on the park's solar calendar, `value` the metered power over the expected one since then, and
`checked_at` when it was found: a training knows of what was found before its `as_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from pvforecast.lake.store import Lake
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
    frame = lake.read(DRIFT_SCORES, park_ids=parks, version=version).to_pandas(use_threads=False)
    known_by = datetime.fromtimestamp(int(as_of.astype("datetime64[s]").astype(np.int64)), UTC)
    found = frame[(frame.kind == LEVEL) & (frame.checked_at <= known_by)].sort_values(["checked_at", "day"])
    return {
        str(row.park_id): Change(np.datetime64(str(row.day), "s"), float(row.value))
        for row in found[found.value > 0.0].itertuples()
    }
