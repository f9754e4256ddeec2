"""The drift job: daily checks of parks out of the lake with their events, and the making of references."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from inference.drift import accuracy, events, fleet, history, quarantining, store
from inference.drift.accuracy import Score
from inference.drift.check import Check, check, today
from inference.drift.days import DAY, DayCutter, check_time, last_checkable, starts
from inference.drift.reference import PROVISIONAL, Budget, Reference, make
from inference.drift.reference import accept as accepted_reference
from inference.drift.served import Log
from inference.drift.tabular import Tabular
from pvforecast.errors import NotEnoughData, PvForecastError
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import GENERATION, WEATHER
from pvforecast.site import Site

Post = Callable[[Sequence[dict[str, Any]]], dict[str, int | str]]
"""Events in, what became of each out, by its id."""

OK, DRIFT, SKIPPED, FAILED = "ok", "drift", "skipped", "failed"
WAITING = "waiting"  # for enough days of a reference


@dataclass(frozen=True)
class Line:
    """What became of one check.

    Attributes
    ----------
    status : ok, drift, skipped (nothing of that day was metered) or failed; `reason` says why.
    scores : detector -> (score, threshold).
    event : the CloudEvent of a drift; that of the fleet where many parks share it (`events.py`, `fleet.py`).
    also : other events of this check: cleared, quarantined.
    open_since : the day whose alarm opened the episode that this day is part of.
    weather : how far the features of the last days lie from the reference, together (`tabular.py`).
    accuracy : how good that day's served forecast was, where one was logged.
    delivered : what became of `event`: the sink's HTTP status, or of an outbox delivered, refused or waiting.
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
    also: tuple[dict[str, Any], ...] = ()
    delivered: int | str | None = None
    psi: tuple[dict[str, Any], ...] = ()
    weather: Tabular | None = None
    open_since: str | None = None
    accuracy: Score | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"accuracy": self.accuracy.as_dict() if self.accuracy else None}


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
    post: Post | None = None,
    dry_run: bool = False,
    keep_going: bool = False,
    jobs: int = 1,
    served: Log | None = None,
) -> Iterator[Line]:
    """Check each park at `as_of`; with `until`, at each of its daily check times in [as_of, until], in time's order.

    A replay ends after the first moment that raised an event, unless `keep_going`. Every check sees only what was
    available at its own time. A park that fails is reported, left out from then on, and does not stop the others.

    Parameters
    ----------
    post : takes the events of one moment, in order, and says what became of each by its id; None: nobody is told.
    dry_run : leave no trace in the lake: neither scores nor hours held.
    jobs : processes that share the parks of a single moment.
    served : where what was forecast is logged; None: accuracy is not watched.
    """
    if until is None and jobs > 1 and len(park_ids) > 1:
        parts = [(lake, park_ids[first::jobs], as_of, served) for first in range(jobs)]
        with _pool(jobs) as pool:
            lines = sorted(itertools.chain(*pool.map(_all_at, parts)), key=lambda line: line.park_id)
        yield from _told(lake, lines, post, dry_run)
        return
    parks, failed = _loaded(lake, park_ids, as_of)
    due = sorted((moment, name) for name, park in parks.items() for moment in _moments(park.cutter.site, as_of, until))
    yield from failed
    for moment, group in itertools.groupby(due, key=lambda item: item[0]):
        here = [park_id for _, park_id in group if park_id in parks]
        lines = [line for park_id in here for line in _check(parks[park_id], moment, served, within_day=until is None)]
        for line in lines:
            if line.status == FAILED:
                del parks[line.park_id]
        drifted = False
        for line in _told(lake, lines, post, dry_run):
            drifted |= line.event is not None
            yield line
        if drifted and not keep_going:
            return


def accept(
    lake: Lake, park_id: str, change_at: np.datetime64, as_of: np.datetime64, stored_at: datetime
) -> tuple[Reference, dict[str, Any]]:
    """Make a lasting change the new normal; returns the new reference and the event that says so."""
    cutter = DayCutter(records.load(lake, park_id, hourly=True))
    old = store.choose(store.load(lake, park_id), park_id, last_checkable(cutter.site, as_of))
    day = last_checkable(cutter.site, as_of)
    opened = check(cutter, old, as_of).opened
    reference = accepted_reference(cutter, old, change_at, as_of)
    store.save(lake, reference, stored_at)
    began = str(opened if opened is not None else change_at)
    opened_by = events.event_id(park_id, began)
    return reference, events.accepted(park_id, str(day), began, opened_by, reference.reference_id, as_of)


def make_references(
    lake: Lake,
    park_ids: Sequence[str],
    until: np.datetime64,
    stored_at: datetime,
    *,
    budget: Budget | None = None,
    replace_old: bool = False,
    jobs: int = 1,
) -> Iterator[dict[str, Any]]:
    """Make and store the reference of each park from what was known at `until`.

    A park that has one keeps it unless `replace_old`; one with too few days waits, and is asked again the next time. A
    young park borrows seasons from all others in the lake. The pages of `budget` are shared by all parks that are
    registered now.
    """
    everyone = store.park_ids(lake)
    shared = replace(budget or Budget(), parks=len(everyone))
    parts = [(lake, park_id, until, stored_at, replace_old, everyone, shared) for park_id in park_ids]
    if jobs == 1 or len(parts) == 1:
        yield from map(_reference, parts)
        return
    with _pool(jobs) as pool:
        yield from pool.map(_reference, parts)


def _pool(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes: the lake's reader runs threads, and a fork of them panics at its first read."""
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _reference(part: tuple[Lake, str, np.datetime64, datetime, bool, list[str], Budget]) -> dict[str, Any]:
    lake, park_id, until, stored_at, replace_old, everyone, budget = part
    existing = store.load(lake, park_id)
    if existing and not replace_old:
        return _described(existing[0], "kept")
    versions = {table.name: delta.version() for table in (GENERATION, WEATHER) if (delta := lake.delta(table))}
    record = records.load(lake, park_id, hourly=True)
    try:
        reference = make(record, until, budget=budget, data_versions=versions)
        if reference.kind == PROVISIONAL:
            others = [records.load(lake, other, hourly=True) for other in everyone if other != park_id]
            reference = make(record, until, others, budget=budget, data_versions=versions)
    except NotEnoughData as error:
        return {"park_id": park_id, "status": WAITING, "reason": str(error)}
    store.save(lake, reference, stored_at)
    return _described(reference, "made")


def _moments(site: Site, as_of: np.datetime64, until: np.datetime64 | None) -> list[np.datetime64]:
    if until is None:
        return [as_of]
    first = check_time(site, last_checkable(site, as_of))
    if first < as_of:
        first += DAY
    return list(np.arange(first, until + np.timedelta64(1, "s"), DAY))


def _all_at(part: tuple[Lake, Sequence[str], np.datetime64, Log | None]) -> list[Line]:
    """The checks of some parks at one moment; in a process of its own."""
    lake, park_ids, as_of, served = part
    lines = []
    for park_id in park_ids:  # one record in memory at a time
        parks, failed = _loaded(lake, [park_id], as_of)
        lines += failed or _check(parks[park_id], as_of, served, within_day=True)
    return lines


def _loaded(lake: Lake, park_ids: Sequence[str], as_of: np.datetime64) -> tuple[dict[str, _Park], list[Line]]:
    parks, failed = {}, []
    for park_id in park_ids:
        try:
            parks[park_id] = _Park(DayCutter(records.load(lake, park_id, hourly=True)), store.load(lake, park_id))
        except PvForecastError as error:
            failed.append(Line(park_id, "", _text(as_of), FAILED, str(error)))
    return parks, failed


def _check(park: _Park, moment: np.datetime64, served: Log | None, *, within_day: bool) -> list[Line]:
    """Of the newest day that is over, and of each later one on which a rule has fired already."""
    site = park.cutter.site
    day = last_checkable(site, moment)
    common: dict[str, Any] = {"park_id": site.park_id, "day": str(day), "checked_at": _text(moment)}
    try:
        reference = store.choose(park.references, site.park_id, day)
        # Of days that are not over nothing is kept but the event: their scores are not final.
        begun = today(park.cutter, reference, moment) if within_day else ()
        early = [replace(_line(one), scores={}, psi=(), weather=None) for one in begun]
        try:
            outcome = check(park.cutter, reference, moment)
            sound = outcome.opened is None and not outcome.alarms
            return [replace(_line(outcome), accuracy=_scored(park, day, moment, served, sound=sound)), *early]
        except NotEnoughData as error:
            return [Line(**common, status=SKIPPED, reason=str(error)), *early]
    except PvForecastError as error:
        return [Line(**common, status=FAILED, reason=str(error))]


def _line(outcome: Check) -> Line:
    event = events.event(outcome) if outcome.alarms else None
    return Line(
        park_id=outcome.park_id,
        day=str(outcome.day),
        checked_at=_text(outcome.checked_at),
        status=DRIFT if event else OK,
        reference_id=outcome.reference.reference_id,
        provisional=outcome.provisional,
        scores={name: (round(score, 4), threshold) for name, (score, threshold) in outcome.scores.items()},
        event_id=event["id"] if event else None,
        event=event,
        also=(events.cleared(outcome),) if outcome.cleared else (),
        psi=outcome.psi,
        weather=outcome.weather,
        open_since=str(outcome.opened) if outcome.opened is not None else None,
    )


def _scored(park: _Park, day: np.datetime64, moment: np.datetime64, served: Log | None, *, sound: bool) -> Score | None:
    site = park.cutter.site
    forecast = served.ahead_of(site.park_id, starts(site, np.array([day], "datetime64[D]"))[0]) if served else None
    score = accuracy.score(park.cutter.record, day, forecast, moment) if forecast else None
    if score is None or served is None:
        return None
    return score.judged(sound=sound, promise=served.promise(site.park_id, score.model_version))


def _stale(lake: Lake, lines: Sequence[Line]) -> list[Line]:
    """The same, with the events of models that have grown stale, or are no more, where nothing else is the matter."""
    scored = [line for line in lines if line.accuracy is not None]
    if not scored:
        return list(lines)
    before = history.scores(lake, [line.park_id for line in scored], max(line.day for line in scored))
    made = []
    for line in lines:
        score = line.accuracy
        if score is None or not score.sound or line.status != OK or line.event:
            made.append(line)
            continue
        earlier = [one for one in before.get(line.park_id, ()) if one.sound and one.day < line.day]
        found, closed = accuracy.turns([*earlier, score])
        at = np.datetime64(line.checked_at.removesuffix("Z"), "s")
        if found:
            event = events.model_stale(score, found, at)
            line = replace(line, status=DRIFT, event=event, event_id=event["id"])
        elif closed is not None:
            line = replace(line, also=(*line.also, events.model_fresh(score, closed, at)))
        made.append(line)
    return made


def _told(lake: Lake, lines: Sequence[Line], post: Post | None, dry_run: bool) -> Iterator[Line]:
    """Hold what is faulty, keep the scores, and tell the world of one moment's checks."""
    lines = _stale(lake, lines)
    checked = len({line.park_id for line in lines if line.status in (OK, DRIFT)})
    common, covered = fleet.shared([line.event for line in lines if line.event], checked)
    by_cause = {event["data"]["cause"]["likely"]: event for event in common}
    told = []
    for line in lines:
        event = line.event
        if event is not None and event["id"] in covered:
            event = by_cause[event["data"]["cause"]["likely"]]
        sent_as = event["id"] if event else None
        also = line.also
        if not dry_run:
            also += _corrected(lake, line)
            also += quarantining.after(lake, line.event, also, sent_as)
        told.append(replace(line, also=also, event=event, event_id=sent_as))
    if not dry_run:
        history.keep(lake, lines)  # each with its own event, not that of the fleet
    made = {event["id"]: event for line in told for event in (line.event, *line.also) if event is not None}
    if post is None or not made:
        yield from told
        return
    try:
        outcome = post(list(made.values()))
    except PvForecastError as error:
        yield from (replace(one, status=FAILED, reason=str(error)) if one.event else one for one in told)
        return
    for line in told:
        yield replace(line, delivered=outcome.get(line.event_id)) if line.event_id else line


def _corrected(lake: Lake, line: Line) -> tuple[dict[str, Any], ...]:
    if line.status != OK or line.reference_id is None:
        return ()
    at = np.datetime64(line.checked_at.removesuffix("Z"), "s")
    return quarantining.corrected(lake, line.park_id, line.day, line.reference_id, at)


def _described(reference: Reference, status: str) -> dict[str, Any]:
    return {
        "park_id": reference.park_id,
        "status": status,
        "reference_id": reference.reference_id,
        "kind": reference.kind,
        "first": str(reference.first),
        "until": str(reference.until),
        "thresholds": reference.thresholds,
        "realised": reference.realised,
        "data_versions": reference.data_versions,
        "pool_parks": list(reference.pool_parks),
    }


def _text(moment: np.datetime64) -> str:
    return f"{moment.astype('datetime64[s]')}Z"
