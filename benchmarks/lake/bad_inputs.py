"""Bad files against the import: each must be named or set aside, and harm nothing.

`python -m benchmarks.lake.bad_inputs`. The corpus (see `corpus`) is imported file by file, as `pvf import` does, into
one lake that holds a witness. A file is harmful when it ends in anything but an error of ours in one line or a row in
quarantine that names row and field, when a value that is bad by construction is loaded, or when what was stored before
is no longer what it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.lake import corpus
from benchmarks.lake.corpus import Case
from pvforecast import quarantine
from pvforecast.errors import PvForecastError
from pvforecast.importing import fleets, load
from pvforecast.importing.mapping import Mapping
from pvforecast.importing.report import Report
from pvforecast.lake import Lake
from pvforecast.lake.tables import GENERATION, PARKS, RAW_GENERATION, RAW_WEATHER, WEATHER

MAX_MESSAGE = 1_200
_TABLES = (PARKS, RAW_GENERATION, RAW_WEATHER, GENERATION, WEATHER)


def witness(folder: Path) -> Lake:
    """A lake with one park and a day of its generation and weather."""
    lake = Lake(str(folder / "lake"))
    park = {**corpus.GOOD["parks"][0], "park_id": corpus.PARK}
    for kind, rows in (
        ("parks", [park]),
        ("generation", corpus.GOOD["generation"]),
        ("weather", corpus.GOOD["weather"]),
    ):
        path = folder / f"{kind}.csv"
        path.write_text(corpus.table(rows))
        bring_in(lake, kind, path)
    # The parks of the good file are there from the start, so that nothing that is stored has to change.
    path = folder / "parks.csv"
    path.write_text(corpus.table(corpus.GOOD["parks"]))
    bring_in(lake, "parks", path)
    return lake


def bring_in(lake: Lake, kind: str, path: Path) -> Report:
    """Import a file without any option."""
    if kind == "parks":
        return fleets.run(lake, path, Mapping())[0]
    return load.run(lake, kind, path, Mapping(), load.Options())[0]


def judge(lake: Lake, case: Case, path: Path) -> str:
    """What is wrong with how a file was taken; empty when nothing is."""
    case.make(path)
    try:
        report = bring_in(lake, case.kind, path)
    except PvForecastError as error:
        said = str(error)
        if case.fine:
            return f"refused though it can be read: {said}"
        if "\n" in said or len(said) > MAX_MESSAGE:
            return f"a message of {len(said)} characters, {said.count(chr(10)) + 1} lines"
        return f"the whole file was refused: {said}" if case.rows else ""
    except Exception as error:  # noqa: BLE001 - what the corpus is there to find
        return f"ended in {type(error).__name__}: {error}"
    if case.fine:
        return "" if not report.bad and report.good == corpus.ROWS else f"{report.bad} bad rows of one that can be read"
    if not case.rows:
        return "" if report.bad or report.empty or report.quarantined else "was loaded"
    told = {
        row["origin"].rpartition(" ")[2]: row["reason"] for row in quarantine.held(lake) if path.name in row["origin"]
    }
    loaded = [row for row in case.rows if str(row) not in told]
    if loaded:
        return f"bad rows {loaded} were loaded"
    elsewhere = [why for row in case.rows if case.field not in (why := told[str(row)])]
    return f"another field is named: {elsewhere[:3]}" if elsewhere else ""


def stored(lake: Lake) -> dict[str, str]:
    """A fingerprint of every table but the quarantine."""
    prints = {}
    for table in _TABLES:
        rows = lake.read(table)
        columns = [name for name in rows.schema.names if name != "recorded_at"]
        prints[table.name] = f"{len(rows)} {hashlib.sha256(str(rows.select(columns).to_pylist()).encode()).hexdigest()}"
    return prints


def run(cases: Iterable[Case], folder: Path) -> dict[str, object]:
    """Import every case; see the module."""
    lake = witness(folder)
    before = stored(lake)
    around = sorted(path.name for path in folder.iterdir())
    harmful: dict[str, str] = {}
    began, count, slowest = time.perf_counter(), 0, 0.0
    for number, case in enumerate(cases):
        path = folder / f"input-{number}.csv"
        started = time.perf_counter()
        wrong = judge(lake, case, path)
        slowest = max(slowest, time.perf_counter() - started)
        if wrong:
            harmful[case.name] = wrong
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        count += case.inputs
        if sorted(p.name for p in folder.iterdir()) != around:
            harmful[case.name] = "a file appeared beside the lake"
    after = stored(lake)
    harmful |= {name: "what was stored has changed" for name in before if before[name] != after[name]}
    return {
        "bad_inputs": count,
        "bad_inputs_harmful": len(harmful),
        "bad_inputs_quarantined": len(quarantine.held(lake)),
        "bad_inputs_peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bad_inputs_slowest_seconds": round(slowest, 1),
        "bad_inputs_seconds": round(time.perf_counter() - began, 1),
        "harmful": harmful,
    }


def measure(*, big: bool = True) -> dict[str, object]:
    """The whole corpus in a process of its own, so that the peak of memory is that of the import alone."""
    words = [sys.executable, "-m", "benchmarks.lake.bad_inputs", *([] if big else ["--small"])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bad_inputs ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="without the bombs and the files of 100 MB")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    options = parser.parse_args()
    chosen = [case for case in corpus.cases(big=not options.small) if options.only in case.name]
    with tempfile.TemporaryDirectory(prefix="pvf-bad-") as folder:
        print(json.dumps(run(chosen, Path(folder))))


if __name__ == "__main__":
    main()
