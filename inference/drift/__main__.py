"""Command line of the drift job; see docs/drift.md. Secrets come from the environment, everything else as arguments."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from inference.drift import events, job, outbox, planting, series, store
from inference.drift.reference import Budget
from inference.drift.served import Log
from pvforecast import pod_identity
from pvforecast.errors import InvalidInput, PvForecastError
from pvforecast.lake import Lake, records
from pvforecast.lake.store import s3_options

_MOST_ALARMS = 20.0


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Returns the exit code: 0 it ran (drift or not), 1 something failed, 2 the call is wrong."""
    environment = os.environ if environment is None else environment
    options = _parser(environment).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        lake = _lake(options.lake_uri, environment)
        if options.command == "accept":
            return _accept(options, lake)
        if options.command == "series":
            return _series(options, lake)
        parks = store.park_ids(lake) if options.all else [options.park]
        if not parks:
            raise InvalidInput("the lake has no parks", field="lake_uri", hint="load data first, or check the URI")
        return _check(options, lake, parks) if options.command == "check" else _reference(options, lake, parks)
    except PvForecastError as error:
        print(f"drift: {_one_line(error)}", file=sys.stderr)
        return 1


def _check(options: argparse.Namespace, lake: Lake, parks: list[str]) -> int:
    failed = False
    for line in job.run(
        lake, parks, options.as_of, options.until, post=_post(options), dry_run=options.dry_run,
        keep_going=options.keep_going, jobs=options.jobs,
        served=Log(options.postgres_dsn, options.mlflow_uri or "") if options.postgres_dsn else None,
    ):  # fmt: skip
        print(json.dumps(line.as_dict(), sort_keys=True) if options.json else _readable(line), flush=True)
        if line.status == job.FAILED:
            failed = True
            print(f"drift: {line.park_id} {line.day}: {_one_line(line.reason)}", file=sys.stderr)
    return 1 if failed else 0


def _post(options: argparse.Namespace) -> job.Post | None:
    """By the outbox where there is a Postgres; else straight to the sink, and what it does not take is lost."""
    if options.postgres_dsn and not options.dry_run:
        box = outbox.Outbox(options.postgres_dsn)

        def keep(made: Sequence[dict[str, Any]]) -> dict[str, int | str]:
            box.put(made)
            return dict(box.flush(options.sink)) if options.sink else {}

        return keep
    if options.sink and not options.dry_run:
        return lambda made: {event["id"]: events.post(options.sink, event) for event in made}
    return None


def _series(options: argparse.Namespace, lake: Lake) -> int:
    record = records.load(lake, options.park, hourly=True)
    if (options.fault is None) != (options.at is None):
        raise InvalidInput("a fault needs both", field="--fault, --at", hint="when does it begin?")
    fault = None if options.fault is None else (options.fault, options.at, options.size)
    print(json.dumps(series.of(record, store.load(lake, options.park), options.as_of, fault)))
    return 0


def _accept(options: argparse.Namespace, lake: Lake) -> int:
    reference, event = job.accept(lake, options.park, options.change_at, options.as_of, datetime.now(UTC))
    post = _post(options)
    told = post([event]) if post else {}
    print(
        json.dumps({
            "park_id": reference.park_id, "reference_id": reference.reference_id, "scale": reference.scale,
            "until": str(reference.until), "event_id": event["id"], "delivered": told.get(event["id"]),
        }, sort_keys=True)
    )  # fmt: skip
    return 0


def _reference(options: argparse.Namespace, lake: Lake, parks: list[str]) -> int:
    stored_at = datetime.now(UTC)
    for made in job.make_references(
        lake, parks, options.until, stored_at, replace_old=options.replace, jobs=options.jobs,
        budget=Budget(options.warnings_a_year, options.fleet_pages_a_year),
    ):  # fmt: skip
        if made["status"] == job.WAITING:
            if options.json:
                print(json.dumps(made, sort_keys=True), flush=True)
            print(f"drift: {_one_line(made['reason'])}", file=sys.stderr)
            if not options.all:
                return 1
            continue
        summary = "{park_id}  {status}  {reference_id}  {kind}, {first} ... {until}".format(**made)
        print(json.dumps(made, sort_keys=True) if options.json else summary, flush=True)
    return 0


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())


def _readable(line: job.Line) -> str:
    text = f"{line.day}  {line.park_id:<12} {line.status}"
    if line.event is None:
        return text + (f"  {line.reason}" if line.reason else "")
    data = line.event["data"]
    alarms = ", ".join(f"{a['detector']} {a['score']:.1f} > {a['threshold']:.1f}" for a in data["alarms"])
    return f"{text}  {alarms}; {data['cause']['likely']} -> {data['advice']}; event {line.event_id}"


def _lake(uri: str, environment: Mapping[str, str]) -> Lake:
    if not uri.startswith("s3://"):
        return Lake(uri)
    names = ("PVF_S3_ENDPOINT", "PVF_S3_ACCESS_KEY", "PVF_S3_SECRET_KEY")
    needed = names[:1] if pod_identity.offered(environment) else names
    missing = [name for name in needed if not environment.get(name)]
    if missing:
        hint = "export them, or start `pvf up`"
        raise InvalidInput(f"not set, and {uri} is on S3", field=", ".join(missing), hint=hint)
    endpoint, access, secret = (environment.get(name, "") for name in names)
    return Lake(uri, s3_options(endpoint, access, secret, environment.get("PVF_S3_REGION", "us-east-1")))


def _instant(text: str) -> np.datetime64:
    """ISO 8601 with an offset or Z -> UTC seconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO 8601 time, e.g. 2013-09-05T12:00:00Z") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text!r} has no time zone: end it in Z or an offset")
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")


def _day(text: str) -> np.datetime64:
    try:
        return np.datetime64(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date(), "D")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date, e.g. 2013-09-05") from None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0.0 < rate <= _MOST_ALARMS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of alarms a year: above 0, at most {_MOST_ALARMS}")
    return rate


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m inference.drift", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("check", "check parks, once or day by day"),
        ("reference", "make frozen references, thresholds with them"),
        ("accept", "make a lasting change the new normal"),
        ("series", "all that a report of a park shows, as JSON; with a fault planted on demand"),
    ):
        command = commands.add_parser(name, help=text)
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("--park", metavar="ID")
        if name in ("check", "reference"):
            which.add_argument("--all", action="store_true", help="every park of the lake")
            command.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that share the parks")
        uri = environment.get("PVF_LAKE_URI")
        command.add_argument("--lake-uri", default=uri, required=uri is None, help="s3://... or a folder; PVF_LAKE_URI")
        command.add_argument("--json", action="store_true", help="one JSON object a line")
    check, reference, accept, told = (commands.choices[name] for name in ("check", "reference", "accept", "series"))
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None), "s")
    for command in (check, accept, told):
        command.add_argument("--as-of", type=_instant, default=now, metavar="ISO", help="its clock; default: now")
    told.add_argument("--fault", choices=list(planting.FAULTS), help="plant it into the record")
    told.add_argument("--at", type=_instant, metavar="ISO", help="when it begins")
    told.add_argument("--size", type=float, help="its size, see inference/drift/planting.py")
    for command in (check, accept):
        command.add_argument("--sink", default=environment.get("K_SINK"), metavar="URL", help="for events; K_SINK")
        dsn = environment.get("PVF_POSTGRES_DSN")
        command.add_argument("--postgres-dsn", default=dsn, metavar="DSN", help="of outbox and log; PVF_POSTGRES_DSN")
        command.add_argument("--dry-run", action="store_true", help="send nothing, hold nothing")
    accept.add_argument("--change-at", type=_day, required=True, metavar="DATE", help="the first day of the change")
    uri = environment.get("PVF_MLFLOW_URI")
    check.add_argument("--mlflow-uri", default=uri, metavar="URL", help="of the models' hold-outs; PVF_MLFLOW_URI")
    check.add_argument("--until", type=_instant, metavar="ISO", help="replay the daily checks from --as-of to here")
    check.add_argument("--keep-going", action="store_true", help="a replay goes on after an event")
    reference.add_argument("--until", type=_instant, default=now, metavar="ISO", help="use what was known by then; now")
    usual = Budget()
    for option, default, text in (
        ("--warnings-a-year", usual.warnings, "false ones wanted of each park at most"),
        ("--fleet-pages-a-year", usual.fleet_pages, "false ones wanted of all parks together at most"),
    ):
        reference.add_argument(option, type=_rate, default=default, metavar="N", help=f"{text}; default {default}")
    reference.add_argument("--replace", action="store_true", help="make a new one where a park has one already")
    return parser


if __name__ == "__main__":
    sys.exit(main())
