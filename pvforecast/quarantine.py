"""What was delivered and could not be used: kept with its reason and origin, listed, replayed, never dropped.

Every way in uses `rejected` and `hold`: a bad row neither stops the good rows nor disappears.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from pvforecast.lake import Lake
from pvforecast.lake.tables import QUARANTINE

PAYLOAD_LIMIT = 4_000  # characters kept of one payload
HELD, REPLAYED, DISMISSED = "held", "replayed", "dismissed"


@dataclass(frozen=True)
class Rejected:
    """One row or payload that was set aside.

    Attributes
    ----------
    table : where it would have gone, e.g. ``raw/generation``.
    park_id : as delivered; empty where it could not be read.
    source : who delivered it.
    origin : where it stood: file and row, topic, address.
    reason : which field is wrong, and what to do about it.
    payload : the row as JSON, or what was delivered; cut at `PAYLOAD_LIMIT` characters.
    """

    table: str
    park_id: str
    source: str
    origin: str
    reason: str
    payload: str

    @property
    def id(self) -> str:
        """The same delivery, set aside for the same table, has the same id: it is held once."""
        named = "\0".join((self.table, self.park_id, self.source, self.payload))
        return hashlib.sha256(named.encode()).hexdigest()[:16]


def hold(lake: Lake, rejected: Iterable[Rejected], at: datetime) -> int:
    """Set rows aside; what is held already is not held twice. Returns how many are new."""
    return _add(lake, [(item, HELD) for item in rejected], at)


def held(lake: Lake, *, park_id: str | None = None, table: str | None = None) -> list[dict[str, Any]]:
    """What is held and was neither replayed nor dismissed, oldest first."""
    rows = lake.read(QUARANTINE, park_id=park_id).to_pylist()
    settled = {row["id"] for row in rows if row["state"] != HELD}
    waiting = [row for row in rows if row["id"] not in settled and table in (None, row["table"])]
    return sorted(waiting, key=lambda row: (row["at"], row["id"]))


def settle(lake: Lake, rows: Iterable[Mapping[str, Any]], state: str, at: datetime) -> int:
    """Say of held rows (as `held` gives them) that they were `REPLAYED` or `DISMISSED`; their entries stay."""
    fields = ("table", "park_id", "source", "origin", "reason", "payload")
    entries = [{**{name: row[name] for name in fields}, "id": row["id"], "state": state} for row in rows]
    return lake.append_new(QUARANTINE, pd.DataFrame(entries).assign(at=pd.Timestamp(at))) if entries else 0


def _add(lake: Lake, items: Iterable[tuple[Rejected, str]], at: datetime) -> int:
    rows = [
        {**vars(item), "id": item.id, "payload": item.payload[:PAYLOAD_LIMIT], "state": state} for item, state in items
    ]
    return lake.append_new(QUARANTINE, pd.DataFrame(rows).assign(at=pd.Timestamp(at))) if rows else 0
