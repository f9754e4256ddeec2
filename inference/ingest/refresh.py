"""The child process: rolls up what came in, and publishes snapshots. `python -m inference.ingest.refresh`.

A process of its own, because hours of rows in pandas would keep the interpreter from reading messages. It takes one
JSON line a job on stdin and answers with one on stdout; it ends when stdin does, so that it never outlives the service.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from inference import web
from inference.ingest import options
from inference.ingest.agenda import Agenda, Hours
from inference.ingest.poller import Poller
from pvforecast import fleet, preparing, refining, settings, wiring
from pvforecast.errors import NotReady, PvForecastError
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.objects import ObjectStore
from pvforecast.parks import Park
from pvforecast.refining import ValidationReport

log = logging.getLogger("inference.ingest.refresh")

WATERMARK = "telemetry/refreshed.json"
_SLACK = timedelta(hours=2)  # what was received before and waited for its hour's end is rolled up again
_WAIT = timedelta(hours=1)  # longer than an interval that is not whole is waited for
_FIRST_LOOK = timedelta(days=1)
_HOURS_A_DAY = 24

Spans = dict[tuple[int, int], list[str]]


def main() -> int:
    web.configure_logging()
    known, asked = settings.load(), options.load()
    lake, store = wiring.lake(known), wiring.objects(known)
    poller = Poller.load(asked.rest_file) if asked.rest_file else None
    agenda = Agenda()
    for line in sys.stdin:
        job = json.loads(line)
        try:
            max_age = timedelta(days=asked.max_age_days)
            answer = run(lake, store, job, poller, agenda, max_age, correct_clocks=known.correct_clocks)
        except PvForecastError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    return 0


def run(
    lake: Lake,
    store: ObjectStore,
    job: Mapping[str, Any],
    poller: Poller | None,
    agenda: Agenda,
    max_age: timedelta,
    *,
    correct_clocks: bool = True,
) -> dict[str, Any]:
    """One job: ``{"hours": {park: [hours since 1970]}, "settled": unix seconds, "recover": bool}``.

    Returns
    -------
    Numbers for the metrics: parks, hours, snapshots, polled rows, parks that could not be polled, hours due later.
    """
    began = datetime.now(UTC)
    hours = {park: set(some) for park, some in job["hours"].items()}
    if job["recover"]:
        _join(hours, missed(lake, _watermark(store, began), max_age))
    parks = {park.id: park for park in fleet.registered(lake)}
    polled = poller.poll(lake, list(parks.values()), began) if poller else None
    if polled:
        _join(hours, polled.hours)
    quarters = {park.id for park in parks.values() if park.resolution != "PT1H"}
    due = agenda.plan(hours, began.timestamp(), quarters)
    try:
        rolled, changed, failed = _roll_up(lake, parks, due, correct_clocks)
        # A killed service may have rolled up and not published: the first job publishes whatever it looks at.
        agenda.unpublished |= (changed | set(due)) & set(parks) if job["recover"] else changed
        published = {}
        if agenda.unpublished:
            as_of = np.datetime64(int(datetime.now(UTC).timestamp()), "s")
            published = preparing.publish_snapshots(lake, store, sorted(agenda.unpublished), as_of)
            agenda.unpublished.clear()
    except PvForecastError:
        agenda.again(due)
        raise
    settled = min(job["settled"], began.timestamp())
    store.put_json(WATERMARK, {"until": settled})
    return {
        "parks": len(due),
        "failed": len(failed),
        "hours": rolled,
        "snapshots": len(published),
        "polled_rows": polled.rows if polled else 0,
        "poll_failures": len(polled.failed) if polled else 0,
        "waiting": len(agenda),
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 3),
    }


def _roll_up(
    lake: Lake, parks: Mapping[str, Park], hours: Hours, correct_clocks: bool
) -> tuple[int, set[str], set[str]]:
    """How many intervals are new or changed, of which parks, and the parks that failed."""
    rolled, changed, failed = 0, set[str](), set[str]()
    for (first, last), some in sorted(spans(hours).items()):
        # An interval that is not whole is waited for; `until` says until when, and bounds what is read.
        until = min(max(datetime.now(UTC), _at(last + 1)), _at(last + 1) + _WAIT)
        reports, bad = _validate(lake, [parks[p] for p in some if p in parks], _at(first), until, correct_clocks)
        rolled += sum(report.generation_hours for report in reports)
        changed |= {report.park_id for report in reports if report.generation_hours}
        failed |= bad
    return rolled, changed, failed


def _validate(
    lake: Lake, parks: Sequence[Park], since: datetime, until: datetime, correct_clocks: bool
) -> tuple[list[ValidationReport], set[str]]:
    """All parks at once; where that fails, each for itself, so that one park's data do not stop the others."""
    try:
        done = refining.validate(lake, parks, since, until, thorough=False, correct_clocks=correct_clocks)
        return done, set()
    except NotReady:
        raise
    except Exception:
        if len(parks) == 1:
            log.exception("refresh: park %s failed", parks[0].id)
            return [], {parks[0].id}
    halves = parks[: len(parks) // 2], parks[len(parks) // 2 :]
    results = [_validate(lake, half, since, until, correct_clocks) for half in halves]
    return [report for reports, _ in results for report in reports], results[0][1] | results[1][1]


def spans(hours: Mapping[str, set[int]]) -> Spans:
    """Hours of parks as few reads: (first, last) hour of one UTC day -> the parks that have hours in it.

    A late row of last week is a span of its own: it does not make the whole week be read.
    """
    of_day: dict[int, tuple[int, int, list[str]]] = {}
    for park in sorted(hours):
        for day in {hour // _HOURS_A_DAY for hour in hours[park]}:
            some = [hour for hour in hours[park] if hour // _HOURS_A_DAY == day]
            first, last, parks = of_day.get(day, (min(some), max(some), []))
            of_day[day] = (min(first, *some), max(last, *some), [*parks, park])
    return {(first, last): parks for first, last, parks in of_day.values()}


def missed(lake: Lake, since: datetime, max_age: timedelta) -> dict[str, set[int]]:
    """Park -> hours of the rows received since then: what a killed service had not rolled up."""
    found = lake.query(
        RAW_GENERATION,
        "SELECT park_id, date_trunc('hour', measured_at) AS hour FROM t "
        f"WHERE received_at >= TIMESTAMP '{since.isoformat()}' AND measured_at >= TIMESTAMP "
        f"'{(since - max_age).isoformat()}' AND month >= '{(since - max_age):%Y-%m}' GROUP BY 1, 2",
    )
    hours: dict[str, set[int]] = {}
    for row in [] if found is None else found.to_pylist():
        hours.setdefault(row["park_id"], set()).add(int(row["hour"].timestamp()) // 3600)
    return hours


def _watermark(store: ObjectStore, now: datetime) -> datetime:
    try:
        return datetime.fromtimestamp(store.get_json(WATERMARK)["until"], UTC) - _SLACK
    except (KeyError, TypeError, ValueError):
        return now - _FIRST_LOOK


def _join(hours: dict[str, set[int]], more: Mapping[str, set[int]]) -> None:
    for park, some in more.items():
        hours.setdefault(park, set()).update(some)


def _at(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * 3600, UTC)


if __name__ == "__main__":
    web.run("telemetry refresh", main)
