"""The registry of parks: who is in the fleet, and since when which facts hold. Nothing is ever overwritten.

Facts hold from `valid_from` until the next ones. Facts recorded later under the same `valid_from` correct the earlier.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
from pydantic import ValidationError

from pvforecast.errors import DataError, InvalidInput, UnknownPark
from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS
from pvforecast.parks import Park


@dataclass(frozen=True)
class Entry:
    """One row of the registry."""

    park: Park
    recorded_at: datetime


def register(lake: Lake, park: Park, *, correct: bool = False) -> bool:
    """Add the park's facts to the registry; the same facts twice are stored once. Returns whether they are new.

    Parameters
    ----------
    correct : these facts replace others of the same `valid_from`, which were wrong from the start.

    Raises
    ------
    InvalidInput
        other facts of this park are stored under the same `valid_from`, or a park's id differs in case alone.
    """
    refused = register_all(lake, [park], correct=correct)[0]
    if isinstance(refused, InvalidInput):
        raise refused
    return refused


def register_all(lake: Lake, parks: Sequence[Park], *, correct: bool = False) -> list[bool | InvalidInput]:
    """Add the facts of many parks in one commit. Returns for each whether it is new, or why it was refused."""
    outcomes, fresh = _check(lake, parks, correct)
    if fresh:
        lake.append_new(PARKS, _rows(fresh))
    return outcomes


def check_all(lake: Lake, parks: Sequence[Park], *, correct: bool = False) -> list[bool | InvalidInput]:
    """What `register_all` would return; stores nothing."""
    return _check(lake, parks, correct)[0]


def _check(lake: Lake, parks: Sequence[Park], correct: bool) -> tuple[list[bool | InvalidInput], list[Entry]]:
    entries = _entries(lake, None)
    stored = {(entry.park.id, entry.park.valid_from): entry for entry in entries}
    ids = {_alike(entry.park.id): entry.park.id for entry in entries}
    moment = datetime.now(UTC)
    outcomes: list[bool | InvalidInput] = []
    fresh = []
    for park in parks:
        held = stored.get((park.id, park.valid_from))
        alike = ids.setdefault(_alike(park.id), park.id)
        if alike != park.id:
            message = f"{park.id!r} differs from park {alike!r} in case, - and _ alone"
            outcomes.append(InvalidInput(message, field="park_id", hint="name it otherwise"))
        elif held is not None and held.park == park:
            outcomes.append(False)
        elif held is not None and not correct:
            message = f"park {park.id!r} has other facts from {park.valid_from.isoformat()} on"
            hint = "state when the new facts began to hold, or --correct the old ones"
            outcomes.append(InvalidInput(message, field="valid_from", hint=hint))
        else:
            # Never before what it corrects, also when this machine's clock was set back.
            recorded = max(moment, held.recorded_at + timedelta(microseconds=1)) if held else moment
            stored[(park.id, park.valid_from)] = Entry(park, recorded)
            fresh.append(Entry(park, recorded))
            outcomes.append(True)
    return outcomes, fresh


def registered(lake: Lake) -> list[Park]:
    """The newest facts of every park, by id; retired parks among them."""
    newest = {entry.park.id: entry.park for entry in _entries(lake, None)}
    return [newest[park_id] for park_id in sorted(newest)]


def active(lake: Lake, groups: Iterable[str] = ()) -> list[Park]:
    """As `registered`, without retired parks, of the given groups where there are any."""
    wanted = set(groups)
    return [park for park in registered(lake) if not park.retired and (not wanted or wanted & set(park.groups))]


def history(lake: Lake, park_id: str) -> list[Entry]:
    """All facts ever recorded of a park, by `valid_from`, then by when they were recorded.

    Raises
    ------
    UnknownPark
        there is no such park.
    """
    entries = _entries(lake, park_id)
    if not entries:
        raise UnknownPark(f"no park {park_id[:80]!r} is registered", field="park_id", hint="list them: pvf park list")
    return entries


def largest_capacity(lake: Lake) -> dict[str, float]:
    """Park id -> the largest `ac_capacity_kw` that ever held: what its power can be checked against at any time."""
    largest: dict[str, float] = {}
    current = {(entry.park.id, entry.park.valid_from): entry.park for entry in _entries(lake, None)}
    for park in current.values():
        largest[park.id] = max(largest.get(park.id, 0.0), park.ac_capacity_kw)
    return largest


def _entries(lake: Lake, park_id: str | None) -> list[Entry]:
    rows = sorted(
        lake.read(PARKS, park_id=park_id).to_pylist(), key=lambda row: (row["valid_from"], row["recorded_at"])
    )
    try:
        return [Entry(Park.model_validate_json(row["facts"]), row["recorded_at"]) for row in rows]
    except ValidationError as error:
        raise DataError(
            f"stored facts of a park are not readable: {error.errors()[0]['msg']}", field=PARKS.name
        ) from error


def _rows(entries: Sequence[Entry]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "park_id": [entry.park.id for entry in entries],
            "valid_from": pd.DatetimeIndex(
                [pd.Timestamp(entry.park.valid_from).tz_convert("UTC") for entry in entries]
            ),
            "recorded_at": pd.DatetimeIndex([pd.Timestamp(entry.recorded_at) for entry in entries]),
            "facts": [entry.park.model_dump_json() for entry in entries],
        }
    )


def _alike(park_id: str) -> str:
    return park_id.lower().replace("_", "-")
