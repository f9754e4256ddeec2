"""Ingest, validation, snapshots and maintenance, killed -9 at random moments, on SeaweedFS.

    python -m benchmarks.lake.kill9 [--rounds 24] [--seed 1]

A process loads hour after hour of a fleet: weather and generation into raw, the hour validated, snapshots published,
and every few hours maintenance that keeps no version but the current and the one a model names. It writes down what was
done when a call returned. It is killed at a random moment and started again, and after each kill another process looks:
every table can be read, all that was said to be done is there, nothing is there half, no snapshot is broken, and the
named version is what it was. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.lake import place, simulated
from pvforecast import preparing, refining, snapshot, wiring
from pvforecast.lake import Lake
from pvforecast.lake.maintenance import Policy, maintain
from pvforecast.lake.tables import GENERATION, MAINTENANCE, PARKS, RAW_GENERATION, RAW_WEATHER, TABLES, WEATHER
from pvforecast.settings import Settings

PARKS_NUMBER = 8
NAMED_AT = 4  # the hour after which a version is named as a model would
CYCLE = 2  # hours, of which the last ends with maintenance
PATIENCE_S = 600.0
WORK = ("ingest", "validate", "snapshot", "maintenance")
HOUR = pd.Timedelta(hours=1)


def measure(rounds: int = 24, seed: int = 1) -> dict[str, Any]:
    """Kill `rounds` times, look after each."""
    chance = random.Random(seed)
    totals: collections.Counter[str] = collections.Counter()
    killed_in: collections.Counter[str] = collections.Counter()
    hours = 0
    with place.seaweedfs() as (settings, folder):
        journal = folder / "journal"
        journal.touch()
        lasts = _warm_up(settings, journal)
        for number in range(rounds + 1):
            before = len(_entries(journal))
            worker = _fork(lambda: _work(settings, journal))
            # Each in turn; the last round goes on until maintenance ended, to finish what was left half done.
            what = WORK[number % len(WORK)] if number < rounds else "maintenance"
            _wait_for(journal, worker, before, f"begin {what}" if number < rounds else what)
            time.sleep(chance.uniform(0, lasts[what]) if number < rounds else 0)
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            doing = _doing(journal)
            killed_in[doing or "between"] += 1 if number < rounds else 0
            found = folder / f"found-{number}"
            code = os.waitstatus_to_exitcode(os.waitpid(_fork(lambda: _look(settings, journal, found)), 0)[1])  # noqa: B023
            seen = json.loads(found.read_text()) if code == 0 and found.exists() else {"unreadable": 1}
            hours = seen.pop("hours", hours)
            totals.update(seen)
            print(
                f"  round {number}: killed in {doing or 'between'}; {hours} hours; {seen}", file=sys.stderr, flush=True
            )
    return {
        "kill9_rounds": rounds,
        "kill9_lost_rows": totals["lost"],
        "kill9_half_commits": totals["half"],
        "kill9_doubled_rows": totals["doubled"],
        "kill9_unreadable_tables": totals["unreadable"],
        "kill9_broken_snapshots": totals["snapshots"],
        "kill9_named_version_changed": totals["named"],
        "kill9_hours_loaded": hours,
        "kill9_in": dict(killed_in),
    }


def _warm_up(settings: Settings, journal: Path) -> dict[str, float]:
    """How long each kind of work takes here and now, in seconds: kills are spread over that."""
    worker = _fork(lambda: _work(settings, journal))
    _wait_for(journal, worker, 0, "maintenance")
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    entries = _entries(journal)
    return {
        after["what"]: after["at"] - before["at"]
        for before, after in itertools.pairwise(entries)
        if before["what"] == f"begin {after['what']}"
    }


def _wait_for(journal: Path, worker: int, before: int, what: str) -> None:
    """Until the worker wrote `what`, after the first `before` entries."""
    until = time.monotonic() + PATIENCE_S
    while what not in [entry["what"] for entry in _entries(journal)[before:]]:
        time.sleep(0.01)
        if time.monotonic() > until or os.waitpid(worker, os.WNOHANG)[0]:
            raise RuntimeError(f"the worker did not come to {what!r}: {_doing(journal)}")


# --- the process that is killed --------------------------------------------------------------------------------------


def _work(settings: Settings, journal: Path) -> None:
    lake, store = wiring.lake(settings), wiring.objects(settings)
    parks = simulated.fleet(PARKS_NUMBER)
    if "register" not in _done(journal):
        _step(journal, "register", 0, lambda: simulated.register(lake, parks))
    hour = max(_done(journal)["ingest"], default=-1) + 1
    while True:
        at = simulated.BEGIN + hour * HOUR
        _step(journal, "ingest", hour, lambda: _ingest(lake, hour))  # noqa: B023
        until = (at + HOUR + pd.Timedelta(minutes=30)).to_pydatetime()
        _step(journal, "validate", hour, lambda: refining.validate(lake, parks, until - timedelta(hours=4), until))  # noqa: B023
        as_of = np.datetime64(until.replace(tzinfo=None), "s")
        names = [park.id for park in parks]
        _step(journal, "snapshot", hour, lambda: preparing.publish_snapshots(lake, store, names, as_of))  # noqa: B023
        if hour == NAMED_AT and not _done(journal)["name"]:
            _write(journal, "name", hour, version=lake.version(WEATHER), digest=_digest(lake.read(WEATHER)))
        if hour % CYCLE == CYCLE - 1:
            _step(journal, "maintenance", hour, lambda: _maintain(lake, journal))
        hour += 1


def _ingest(lake: Lake, hour: int) -> None:
    parks, at = simulated.fleet(PARKS_NUMBER), simulated.BEGIN + hour * HOUR
    lake.append_new(RAW_WEATHER, simulated.weather(parks, at, 1))
    lake.append_new(RAW_GENERATION, simulated.generation(parks, at, 4))


def _maintain(lake: Lake, journal: Path) -> None:
    named = [entry["version"] for entry in _entries(journal) if entry["what"] == "name"]
    rows = maintain(lake, {WEATHER.name: named}, datetime.now(UTC) + timedelta(seconds=5), Policy(0, 0))
    failed = [row["note"] for row in rows if row["note"]]
    if failed:
        raise RuntimeError("; ".join(failed))


def _step(journal: Path, what: str, hour: int, work: Callable[[], object]) -> None:
    _write(journal, f"begin {what}", hour)
    work()
    _write(journal, what, hour)


# --- the process that looks ------------------------------------------------------------------------------------------


def _look(settings: Settings, journal: Path, found: Path) -> None:
    lake, store = wiring.lake(settings), wiring.objects(settings)
    done, seen = _done(journal), collections.Counter[str]()
    tables = {}
    for table in TABLES.values():
        try:
            tables[table.name] = lake.read(table).to_pandas(use_threads=False)
        except Exception as error:  # noqa: BLE001 - any is the finding
            print(f"{table.name}: {error!r}", file=sys.stderr)
            seen["unreadable"] += 1
            continue
        if table is not MAINTENANCE:
            seen["doubled"] += int(tables[table.name].duplicated(list(table.key)).sum())
    seen["lost"] += PARKS_NUMBER * bool(done["register"]) - min(
        len(tables[PARKS.name]), PARKS_NUMBER * bool(done["register"])
    )
    for table, column, whole in ((RAW_WEATHER, "run_at", simulated.LEADS), (RAW_GENERATION, "measured_at", 4)):
        counts = tables[table.name][column].dt.floor("h").value_counts()
        for hour in range(max(done["ingest"], default=-1) + 2):
            rows = int(counts.get(simulated.BEGIN + hour * HOUR, 0))
            seen["half"] += 0 < rows < whole * PARKS_NUMBER
            seen["lost"] += (whole * PARKS_NUMBER - rows) * (hour in done["ingest"])
    runs = tables[WEATHER.name]["run_at"].value_counts()
    hourly = tables[GENERATION.name]
    metered = hourly[hourly["period_s"] == 3600].drop_duplicates(["park_id", "valid_at"])["valid_at"].value_counts()
    for hour in done["validate"]:
        at = simulated.BEGIN + hour * HOUR
        seen["lost"] += simulated.LEADS * PARKS_NUMBER - int(runs.get(at, 0))
        seen["lost"] += PARKS_NUMBER - int(metered.get(at, 0))
    for park in simulated.fleet(PARKS_NUMBER):
        seen["snapshots"] += _broken_snapshots(store, park.id, bool(done["snapshot"]))
    for entry in _entries(journal):
        if entry["what"] == "name":
            seen["named"] += _digest(lake.read(WEATHER, version=entry["version"])) != entry["digest"]
    seen["hours"] = len(done["validate"])
    found.write_text(json.dumps({name: int(number) for name, number in seen.items()}))


def _broken_snapshots(store: Any, park: str, expected: bool) -> int:
    """Entries of a park that name no whole snapshot; a pointer that is missing counts too."""
    prefix = f"snapshots/index/{park}/"
    named = [store.get_json(key)["snapshot_id"] for key in store.keys(prefix)]
    newest = snapshot.latest_entry(store, park)
    named += [newest["snapshot_id"]] if newest else []
    broken = int(expected and newest is None)
    for snapshot_id in set(named):
        try:
            snapshot.read(store, park, snapshot_id)
        except Exception as error:  # noqa: BLE001 - any is the finding
            print(f"{park} {snapshot_id}: {error!r}", file=sys.stderr)
            broken += 1
    return broken


# --- the journal -----------------------------------------------------------------------------------------------------


def _write(journal: Path, what: str, hour: int, **more: Any) -> None:
    with journal.open("a") as file:
        file.write(json.dumps({"what": what, "hour": hour, "at": time.monotonic(), **more}) + "\n")


def _entries(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]


def _done(journal: Path) -> dict[str, set[int]]:
    """Hours by what was done in them, by the last word of the process that did it."""
    done: dict[str, set[int]] = collections.defaultdict(set)
    for entry in _entries(journal):
        done[entry["what"]].add(entry["hour"])
    return done


def _doing(journal: Path) -> str:
    """What was begun and not done."""
    last = _entries(journal)[-1]["what"]
    return last.removeprefix("begin ") if last.startswith("begin ") else ""


def _digest(rows: pa.Table) -> str:
    frame = rows.drop_columns(["extra"]).to_pandas(use_threads=False)
    return hashlib.sha256(frame.to_csv(index=False).encode()).hexdigest()


def _fork(work: Callable[[], None]) -> int:
    """A child, before anything here has threads."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - any is the finding
        print(f"{error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(measure(given.rounds, given.seed)))
