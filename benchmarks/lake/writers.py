"""Ten writers at once on one table on SeaweedFS, beside readers and maintenance: every row once, no error.

    python -m benchmarks.lake.writers [--commits 8]

Each writer is a process; half of each commit are rows of its own, half are rows that all ten try to store. Two
processes read the whole table again and again, one maintains it all the while. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.lake import place
from pvforecast import wiring
from pvforecast.lake.maintenance import maintain
from pvforecast.lake.tables import GENERATION
from pvforecast.settings import Settings

WRITERS, READERS = 10, 2
ROWS = 100


def measure(commits: int = 8) -> dict[str, Any]:
    """Rows that should be there and are, and every error that a writer, reader or maintenance saw."""
    with place.seaweedfs() as (settings, folder):
        begun = time.monotonic()
        stop = folder / "stop"
        writers = [_fork(folder / f"w{n}", _writer(settings, n, commits)) for n in range(WRITERS)]
        others = [_fork(folder / f"r{n}", _reader(settings, stop)) for n in range(READERS)]
        others.append(_fork(folder / "m", _maintainer(settings, stop)))
        for child in writers:
            os.waitpid(child, 0)
        seconds = time.monotonic() - begun
        stop.touch()
        for child in others:
            os.waitpid(child, 0)
        told = [_told(folder / f"w{n}") for n in range(WRITERS)]
        read = [_told(folder / f"r{n}") for n in range(READERS)]
        kept = _told(folder / "m")
        checked = os.waitstatus_to_exitcode(os.waitpid(_fork(folder / "c", lambda: _check(settings)), 0)[1])
        found = _told(folder / "c") if checked == 0 else {"rows": 0, "doubled": 0, "files": 0}
    return {
        "writers": WRITERS,
        "writers_commits": WRITERS * commits,
        "writers_rows_expected": (WRITERS + 1) * commits * ROWS,
        "writers_rows": found["rows"],
        "writers_doubled": found["doubled"],
        "writers_said_stored": sum(each.get("stored", 0) for each in told),
        "writers_errors": sum(each["errors"] for each in (*told, *read, kept)),
        "writers_seconds": round(seconds, 1),
        "writers_slowest_commit_s": max(each.get("slowest", 0.0) for each in told),
        "readers_reads": sum(each.get("done", 0) for each in read),
        "readers_errors": sum(each["errors"] for each in read),
        "maintenance_runs": kept.get("done", 0),
        "writers_files": found["files"],
    }


def _writer(settings: Settings, writer: int, commits: int) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        lake, stored, slowest = wiring.lake(settings), 0, 0.0
        for commit in range(commits):
            begun = time.monotonic()
            both = pd.concat([_rows(f"park-{writer}", commit), _rows("shared", commit)])
            stored += lake.append_new(GENERATION, both)
            slowest = max(slowest, time.monotonic() - begun)
        return {"stored": stored, "slowest": round(slowest, 2)}

    return work


def _rows(park: str, commit: int) -> pd.DataFrame:
    at = pd.date_range("2025-01-01", periods=ROWS, freq="h", tz="UTC") + pd.Timedelta(hours=ROWS * commit)
    rows = {"park_id": park, "valid_at": at, "available_at": at, "period_s": np.int32(3600), "power_kw": 1.0}
    return pd.DataFrame({**rows, "completeness": 1.0})


def _reader(settings: Settings, stop: Path) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        lake, done, before = wiring.lake(settings), 0, 0
        while not stop.exists():
            rows = len(lake.read(GENERATION))
            if rows < before:
                raise RuntimeError(f"{before} rows, then {rows}")
            before, done = rows, done + 1
        return {"done": done}

    return work


def _maintainer(settings: Settings, stop: Path) -> Callable[[], dict[str, Any]]:
    def work() -> dict[str, Any]:
        lake, done = wiring.lake(settings), 0
        while not stop.exists():
            notes = [row["note"] for row in maintain(lake, {}, datetime.now(UTC)) if row["note"]]
            if notes:
                raise RuntimeError("; ".join(notes))
            done += 1
            time.sleep(0.5)
        return {"done": done}

    return work


def _check(settings: Settings) -> dict[str, Any]:
    rows = wiring.lake(settings).read(GENERATION).to_pandas(use_threads=False)
    files = maintain(wiring.lake(settings), {}, datetime.now(UTC))[0]["files_after"]
    return {"rows": len(rows), "doubled": int(rows.duplicated(list(GENERATION.key)).sum()), "files": files}


def _fork(told: Path, work: Callable[[], dict[str, Any]]) -> int:
    """A child before anything here has threads; it leaves what it found in the file `told`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        told.write_text(json.dumps({"errors": 0, **work()}))
    except BaseException as error:  # noqa: BLE001 - any is the finding
        told.write_text(json.dumps({"errors": 1, "error": repr(error)}))
        print(repr(error), file=sys.stderr, flush=True)
    os._exit(0)


def _told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"errors": 1}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=8)
    print(json.dumps(measure(parser.parse_args().commits)))
