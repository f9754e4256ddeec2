"""All that a report of one park shows: statistics, sums and thresholds by day, alarms with their causes, the reference.

With a fault planted it is a simulation: the same replay, on a record that has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inference.drift import causes, episodes, events, store
from inference.drift.days import DayCutter, last_checkable
from inference.drift.observe import Observed, observe
from inference.drift.planting import plant
from inference.drift.reference import PAGE, Reference
from inference.drift.statistics import TRAILING_FIRST
from pvforecast.errors import NotEnoughData
from pvforecast.known import Floats, ParkRecord

SHOWN = ("level", "clr", "tc", "cse", "csi", "temp")


def of(
    record: ParkRecord,
    references: tuple[Reference, ...],
    as_of: np.datetime64,
    fault: tuple[str, np.datetime64, float | None] | None = None,
) -> dict[str, Any]:
    """Days from the reference to `as_of`, as one JSON object.

    Parameters
    ----------
    fault : name, when it begins, its size (None: the usual one).

    Raises
    ------
    NotEnoughData
        no day after the reference is known at `as_of`.
    """
    park_id = record.site.park_id
    if fault is not None:
        record = plant(record, *fault)
    cutter = DayCutter(record)
    known = cutter.span(as_of)
    last = min(last_checkable(record.site, as_of), known[1]) if known else last_checkable(record.site, as_of)
    reference = store.choose(references, park_id, last)
    if known is None or last <= reference.until:
        raise NotEnoughData(f"{park_id}: no day after {reference.until} is known", field="as_of", hint="a later one")
    first = reference.until - np.timedelta64(TRAILING_FIRST, "D")
    observed = observe(cutter.cut(first, last, as_of), reference)
    watched = observed.park.days > reference.until
    return {
        "park_id": park_id,
        "planted": None if fault is None else {"fault": fault[0], "at": f"{fault[1]}Z", "size": fault[2]},
        "days": [str(day) for day in observed.days],
        "z": {name: _plain(observed.z[name][watched]) for name in SHOWN if name in observed.z},
        "energy_ratio": _plain(np.exp(observed.statistics["lrel"][watched])),
        "scores": {level: {n: _plain(p.score) for n, p in paths.items()} for level, paths in observed.paths.items()},
        "alarms": _alarms(observed),
        "cleared": _cleared(observed),
        "reference": {
            "reference_id": reference.reference_id, "kind": reference.kind, "first": str(reference.first),
            "until": str(reference.until), "thresholds": reference.thresholds, "realised": reference.realised,
            "data_versions": reference.data_versions, "scale": reference.scale,
        },
    }  # fmt: skip


def _alarms(observed: Observed) -> list[dict[str, Any]]:
    rows = sorted({row for found in observed.alarm_rows().values() for row in found})
    told = []
    for row in rows:
        alarms, day = observed.alarms(row), observed.days[row]
        cause = causes.likely(observed, alarms, day)
        told.append(
            {
                "day": str(day), "event_id": events.event_id(observed.park.site.park_id, str(day)),
                "detectors": [alarm.detector for alarm in alarms],
                "level": PAGE if any(alarm.level == PAGE for alarm in alarms) else "warn",
                "cause": cause.likely, "advice": cause.advice, "evidence": cause.evidence,
            }
        )  # fmt: skip
    return told


def _cleared(observed: Observed) -> list[dict[str, str]]:
    found = [episodes.closing(observed, row) for row in range(len(observed.days))]
    return [{"opened": str(one.opened), "closed": str(one.closed)} for one in found if one is not None]


def _plain(values: Floats) -> list[float | None]:
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
