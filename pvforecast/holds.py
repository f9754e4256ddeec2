"""Hours that the drift job found faulty: kept from training until somebody has looked.

Append-only in the table ``drift/holds``, by the drift event that found the fault. `HELD` begins it (open at its end
while the fault lasts), `ENDED` says from when on the park was itself again, `CONFIRMED` that the hours are faulty for
good, `RELEASED` that they were sound. An event of a fleet holds
hours of each of its parks. Each entry counts from its own time on: a past as-of sees what was known then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast.errors import InvalidInput
from pvforecast.flags import HELD as FLAG
from pvforecast.flags import join
from pvforecast.lake.store import Lake
from pvforecast.lake.tables import HOLDS

HELD, ENDED, CONFIRMED, RELEASED = "held", "ended", "confirmed", "released"
_ORDER = (HELD, ENDED, CONFIRMED, RELEASED)


@dataclass(frozen=True)
class Entry:
    """One row. `begin`, `end`: of the hours; only `HELD` and `ENDED` say them. `cause`: what the event called it."""

    event_id: str
    park_id: str
    state: str
    at: datetime
    begin: datetime | None = None
    end: datetime | None = None
    cause: str = ""


@dataclass(frozen=True)
class Hold:
    """All entries of one event and park; times in seconds UTC. `end`, `ended_at`, `released_at` are None until then."""

    event_id: str
    park_id: str
    cause: str
    state: str
    begin: np.datetime64
    at: np.datetime64
    end: np.datetime64 | None = None
    ended_at: np.datetime64 | None = None
    released_at: np.datetime64 | None = None


def add(lake: Lake, entry: Entry) -> bool:
    """Append; False when this event has an entry of that state for the park already."""
    rows = pd.DataFrame([asdict(entry)])
    for name in ("at", "begin", "end"):
        rows[name] = pd.to_datetime(rows[name], utc=True)
    return lake.append_new(HOLDS, rows) == 1


def settle(lake: Lake, event_id: str, state: str, at: datetime, park_id: str | None = None) -> list[Hold]:
    """Somebody has looked: `CONFIRMED` or `RELEASED`; of one park, or of all whose hours the event holds.

    Raises
    ------
    InvalidInput
        nothing is held under this event, or it was settled otherwise.
    """
    found = [hold for hold in read(lake) if hold.event_id == event_id and park_id in (None, hold.park_id)]
    if not found:
        of_park = "" if park_id is None else f" of park {park_id!r}"
        raise InvalidInput(f"nothing{of_park} is held under {event_id!r}", field="EVENT", hint="see: pvf drift holds")
    for hold in found:
        if hold.state in (CONFIRMED, RELEASED) and hold.state != state:
            hint = "what was settled stays so" + (f"; name a park: {hold.park_id} was" if len(found) > 1 else "")
            raise InvalidInput(f"it was {hold.state} already", field="EVENT", hint=hint)
    for hold in found:
        add(lake, Entry(event_id, hold.park_id, state, at))
    return found


def read(lake: Lake, park_ids: Sequence[str] | None = None) -> list[Hold]:
    """Every hold, those that were settled too, oldest first."""
    if park_ids is not None and not park_ids:
        return []
    rows = lake.read(HOLDS, park_ids=park_ids) if park_ids is not None else lake.read(HOLDS)
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault((row["event_id"], row["park_id"]), {})[row["state"]] = row
    holds = [_hold(entries) for entries in found.values() if HELD in entries]
    return sorted(holds, key=lambda hold: (hold.at, hold.event_id, hold.park_id))


def apply(
    holds: Iterable[Hold],
    hours: npt.NDArray[np.datetime64],
    available: npt.NDArray[np.datetime64],
    flags: npt.NDArray[np.str_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.datetime64], npt.NDArray[np.str_]]:
    """Rows of one park with what was held: which row each is, when it could be known, its flags.

    A row that was there before the hold stands twice, the second time flagged and available when the hold began; one
    that came later is flagged as it is; what was released or ended stands once more without.
    """
    rows = np.arange(len(hours))
    words: npt.NDArray[np.object_] = flags.astype(object)
    for hold in holds:
        inside = (hours[rows] >= hold.begin) & ((hours[rows] < hold.end) if hold.end is not None else True)
        over = [at for at in (hold.released_at,) if at is not None]
        # Of an hour after the end, the hold was true as long as the end was not known.
        late = (hours[rows] >= hold.begin) & ~inside if hold.ended_at is not None else np.zeros(len(rows), bool)
        for mask, ends in ((inside, over), (late, [min([*over, hold.ended_at])] if hold.ended_at is not None else [])):
            rows, available, words = _one(rows, available, words, mask, hold.at, ends)
    return rows, available, words.astype(np.str_)


def _one(
    rows: npt.NDArray[np.int64],
    available: npt.NDArray[np.datetime64],
    flags: npt.NDArray[np.object_],
    mask: npt.NDArray[np.bool_],
    at: np.datetime64,
    ends: Sequence[np.datetime64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.datetime64], npt.NDArray[np.object_]]:
    mask = np.append(mask, np.zeros(len(rows) - len(mask), bool))
    until = ends[0] if ends else np.datetime64("9999-01-01", "s")
    before, during = mask & (available < at), mask & (available >= at) & (available < until)
    held = np.array([join([*text.split(), FLAG]) for text in flags], dtype=object)
    clean = np.flatnonzero(before | during) if ends else np.zeros(0, np.int64)
    again = np.flatnonzero(before)
    return (
        np.concatenate([rows, rows[again], rows[clean]]),
        np.concatenate([available, np.full(len(again), at), np.full(len(clean), until)]),
        np.concatenate([np.where(during, held, flags), held[again], flags[clean]]),
    )


def _hold(entries: dict[str, dict[str, Any]]) -> Hold:
    held, ended, released = (entries.get(state) for state in (HELD, ENDED, RELEASED))
    assert held is not None
    return Hold(
        held["event_id"], held["park_id"], held["cause"], max(entries, key=_ORDER.index), _seconds(held["begin"]),
        _seconds(held["at"]), _seconds(ended["end"]) if ended else None, _seconds(ended["at"]) if ended else None,
        _seconds(released["at"]) if released else None,
    )  # fmt: skip


def _seconds(moment: datetime) -> np.datetime64:
    return np.datetime64(int(moment.timestamp()), "s")
