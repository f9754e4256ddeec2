"""The drift job: daily checks of parks out of the lake with their events, and the making of references."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from inference.drift import events, store
from inference.drift.check import Check, check
from inference.drift.days import DAY, DayCutter, check_time, last_checkable
from inference.drift.reference import PROVISIONAL, Reference, make
from pvforecast.errors import NotEnoughData, PvForecastError
from pvforecast.lake import Lake, records
from pvforecast.site import Site

log = logging.getLogger(__name__)

OK, DRIFT, SKIPPED, FAILED = "ok", "drift", "skipped", "failed"


@dataclass(frozen=True)
class Line:
    """What became of one check.

    Attributes
    ----------
    status : ok, drift, skipped (nothing of that day was metered) or failed; `reason` says why.
    scores : detector -> (score, threshold).
    event, delivered : the CloudEvent of a drift, and the sink's HTTP status where it was posted.
    """

    park_id: str
    day: str
    checked_at: str
    status: str
    reason: str | None = None
    reference_id: str | None = None
    provisional: bool | None = None
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    event_id: str | None = None
    event: dict[str, Any] | None = None
    delivered: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Park:
    cutter: DayCutter
    references: tuple[Reference, ...]


def run(
    lake: Lake,
    park_ids: Sequence[str],
    as_of: np.datetime64,
    until: np.datetime64 | None = None,
    *,
    sink: str | None = None,
    keep_going: bool = False,
) -> Iterator[Line]:
    """Check each park at `as_of`; with `until`, at each of its daily check times in [as_of, until], in time's order.

    A replay ends after the first moment that raised an event, unless `keep_going`. Every check sees only what was
    available at its own time. A park that fails is reported, left out from then on, and does not stop the others.
    """
    parks: dict[str, _Park] = {}
    for park_id in park_ids:
        try:
            parks[park_id] = _Park(DayCutter(records.load(lake, park_id, hourly=True)), store.load(lake, park_id))
        except PvForecastError as error:
            yield Line(park_id, "", _text(as_of), FAILED, str(error))
    due = sorted((moment, name) for name, park in parks.items() for moment in _moments(park.cutter.site, as_of, until))
    for moment, group in itertools.groupby(due, key=lambda item: item[0]):
        drifted = False
        for _, park_id in group:
            if park_id not in parks:
                continue
            line = _check(parks[park_id], moment, sink)
            yield line
            drifted |= line.event is not None
            if line.status == FAILED:
                del parks[park_id]
        if drifted and not keep_going:
            return


def make_references(
    lake: Lake, park_ids: Sequence[str], until: np.datetime64, stored_at: datetime, *, replace: bool = False
) -> Iterator[dict[str, Any]]:
    """Make and store the reference of each park from what was known at `until`.

    A park that has one keeps it unless `replace`. A young park borrows seasons from all others in the lake.
    """
    everyone = store.park_ids(lake)
    for park_id in park_ids:
        existing = store.load(lake, park_id)
        if existing and not replace:
            yield _described(existing[0], "kept")
            continue
        record = records.load(lake, park_id, hourly=True)
        reference = make(record, until)
        if reference.kind == PROVISIONAL:
            others = [records.load(lake, other, hourly=True) for other in everyone if other != park_id]
            reference = make(record, until, others)
        store.save(lake, reference, stored_at)
        yield _described(reference, "made")


def _moments(site: Site, as_of: np.datetime64, until: np.datetime64 | None) -> list[np.datetime64]:
    if until is None:
        return [as_of]
    first = check_time(site, last_checkable(site, as_of))
    if first < as_of:
        first += DAY
    return list(np.arange(first, until + np.timedelta64(1, "s"), DAY))


def _check(park: _Park, moment: np.datetime64, sink: str | None) -> Line:
    site = park.cutter.site
    day = last_checkable(site, moment)
    common: dict[str, Any] = {"park_id": site.park_id, "day": str(day), "checked_at": _text(moment)}
    try:
        outcome = check(park.cutter, store.choose(park.references, site.park_id, day), moment)
    except NotEnoughData as error:
        return Line(**common, status=SKIPPED, reason=str(error))
    except PvForecastError as error:
        return Line(**common, status=FAILED, reason=str(error))
    return _line(outcome, common, sink)


def _line(outcome: Check, common: dict[str, Any], sink: str | None) -> Line:
    known: dict[str, Any] = {
        **common,
        "reference_id": outcome.reference.reference_id,
        "provisional": outcome.provisional,
        "scores": {name: (round(score, 4), threshold) for name, (score, threshold) in outcome.scores.items()},
    }
    if not outcome.alarms:
        return Line(**known, status=OK)
    event = events.event(outcome)
    known |= {"event_id": event["id"], "event": event}
    try:
        return Line(**known, status=DRIFT, delivered=events.post(sink, event) if sink else None)
    except PvForecastError as error:
        return Line(**known, status=FAILED, reason=str(error))


def _described(reference: Reference, status: str) -> dict[str, Any]:
    return {
        "park_id": reference.park_id,
        "status": status,
        "reference_id": reference.reference_id,
        "kind": reference.kind,
        "first": str(reference.first),
        "until": str(reference.until),
        "thresholds": reference.thresholds,
        "pool_parks": list(reference.pool_parks),
    }


def _text(moment: np.datetime64) -> str:
    return f"{moment.astype('datetime64[s]')}Z"
