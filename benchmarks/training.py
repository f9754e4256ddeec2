"""A fleet's training from ingest to verdict: `make bench NAME=training`.

Simulated parks (`benchmarks.simulated_fleet`), two years in hours with a weather run a day, on SeaweedFS, Postgres and
MLflow of its own. Each step is the component's own body in a process of its own, as `kfp.local` starts them, two shards
at a time; only the source is ours. Measured for 10, 30 and 100 parks: the time from `plan` to the verdict, and on to
the deployed champion; `growth_exponent` is the slope of log(seconds) over log(parks) by least squares. Memory is that
of everything the measurement started, servers included, each process's resident pages added up.

    ARGS="--parks 10,30"    other sizes; the last is the one reported
    ARGS="--keep"           leaves the folder with its logs

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import simulated_fleet
from pvf.stack.local import Stack
from pvforecast import fleet, wiring
from pvforecast.settings import Settings, to_env

SIZES = (10, 30, 100)
YEARS = 2
SHARDS_AT_ONCE = 2  # of kfp.local
_MOST_A_SHARD = 50
_GIB = 2**30
_VERDICT = ("plan", "ingest_weather", "ingest_generation", "validate", "featurize", "tally", "train", "evaluate",
            "compare")  # fmt: skip


@dataclass
class Measured:
    """One training. `busy` adds up what each step's processes took, two of which may run at once."""

    parks: int
    seconds: float = 0.0
    deployed_seconds: float = 0.0
    verdict: str = ""
    peak_rss: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Seconds, GiB, and shares of the time of all steps up to the verdict."""
        whole = sum(self.busy[name] for name in _VERDICT)
        return {
            "seconds": round(self.seconds, 1),
            "seconds_to_deployed": round(self.deployed_seconds, 1),
            "verdict": self.verdict,
            "peak_rss_gib": round(self.peak_rss, 2),
            "steps": {
                name: {
                    "busy_s": round(self.busy[name], 1),
                    "cpu_s": round(self.cpu[name], 1),
                    "share": round(self.busy[name] / whole, 3) if name in _VERDICT else None,
                    "peak_rss_gib": round(self.rss[name], 2),
                }
                for name in self.busy
            },
        }


class Steps:
    """Runs component bodies as child processes and keeps what they took."""

    def __init__(self, settings: Settings, source: Path, folder: Path, measured: Measured) -> None:
        self._env = {
            **os.environ, **to_env(settings), "PVF_BENCH_FLEET": str(source), "OMP_WAIT_POLICY": "PASSIVE",
        }  # fmt: skip
        self._folder = folder
        self._measured = measured
        self._lock = threading.Lock()
        self._number = 0

    def __call__(self, name: str, **arguments: Any) -> Any:
        with self._lock:
            self._number += 1
            folder = self._folder / f"{self._number:02d}-{name}"
        folder.mkdir(parents=True)
        (folder / "in.json").write_text(json.dumps(arguments))
        begun = time.perf_counter()
        with (folder / "log").open("w") as log:
            words = [sys.executable, "-m", "benchmarks.training_task", name, str(folder)]
            code = subprocess.run(words, env=self._env, stdout=log, stderr=log, check=False).returncode
        taken = time.perf_counter() - begun
        if code:
            raise RuntimeError(f"{name} failed: {(folder / 'log').read_text()[-2_000:]}")
        made = json.loads((folder / "out.json").read_text())
        with self._lock:
            self._measured.busy[name] = self._measured.busy.get(name, 0.0) + taken
            self._measured.cpu[name] = self._measured.cpu.get(name, 0.0) + made["cpu_s"]
            self._measured.rss[name] = max(self._measured.rss.get(name, 0.0), made["rss_gib"])
        return made["result"]


def measure(number: int, days: int, folder: Path) -> Measured:
    """Train once on `number` parks, on servers of its own."""
    source = folder / f"fleet-{number}"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.simulated_fleet", str(source), "--parks", str(number), "--days", str(days)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    home = Path(tempfile.mkdtemp(prefix="pvf-bench-"))
    home.chmod(0o755)  # Postgres may run as another user
    measured = Measured(number)
    try:
        with Stack(home, ["mlflow"]) as stack:
            fleet.register_all(wiring.lake(stack.settings), simulated_fleet.parks(source))
            with _watched(measured):
                _train(Steps(stack.settings, source, folder / f"steps-{number}", measured), number, days, measured)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return measured


def _train(step: Steps, number: int, days: int, measured: Measured) -> None:
    """The training pipeline's graph."""
    since, as_of = simulated_fleet.BEGIN, simulated_fleet.BEGIN + timedelta(days=days)
    begun = time.perf_counter()
    shards = step(
        "plan", parks=[], since=since.isoformat(), as_of=as_of.isoformat(), source=simulated_fleet.NAME,
        source_options={}, weather_source=simulated_fleet.NAME, weather_options={},
        parks_per_shard=min(_MOST_A_SHARD, -(-number // SHARDS_AT_ONCE)), recipe={}, publish=False, until="",
    )  # fmt: skip
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        statuses = list(pool.map(lambda shard: _prepare(step, shard), shards))
    step("tally", statuses=statuses, quorum=1.0, needs_weather=True)
    job = step("train", statuses=statuses, as_of=as_of.isoformat(), reason="benchmark", event_id="", recipe={})
    compared = step("compare", job=step("evaluate", job=job))
    job, measured.verdict, promotes = compared
    measured.seconds = time.perf_counter() - begun
    if promotes:
        step("deploy", job=job, bundle_uri=step("refit", job=job))
    measured.deployed_seconds = time.perf_counter() - begun


def _prepare(step: Steps, shard: dict[str, Any]) -> Any:
    status = step("ingest_generation", shard=shard, status=step("ingest_weather", shard=shard))
    return step("featurize", shard=shard, status=step("validate", shard=shard, status=status))


@contextmanager
def _watched(measured: Measured) -> Iterator[None]:
    """Keeps the largest sum of resident memory over all processes below this one, looked at five times a second."""
    done = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(0.2):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            measured.peak_rss = max(measured.peak_rss, total / _GIB)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _exponent(runs: list[Measured]) -> float | None:
    """Slope of log(seconds) over log(parks)."""
    if len(runs) < 2:
        return None
    parks, seconds = (np.log([getattr(run, name) for run in runs]) for name in ("parks", "seconds"))
    return round(float(np.polyfit(parks, seconds, 1)[0]), 3)


def main(argv: list[str] | None = None) -> int:
    """Measure each size; prints a line each, then the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parks", default=",".join(map(str, SIZES)))
    parser.add_argument("--days", type=int, default=YEARS * simulated_fleet.DAYS_A_YEAR)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="pvf-bench-training-"))
    runs = []
    try:
        for number in map(int, given.parks.split(",")):
            runs.append(measure(number, given.days, folder))
            print(f"SIMULATED: {number} parks: {json.dumps(runs[-1].as_dict())}", file=sys.stderr, flush=True)
    finally:
        if given.keep:
            print(folder, file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    last = runs[-1]
    result = {
        "parks": last.parks,
        "years": round(given.days / simulated_fleet.DAYS_A_YEAR, 2),
        **last.as_dict(),
        "growth_exponent": _exponent(runs),
        "seconds_by_parks": {str(run.parks): round(run.seconds, 1) for run in runs},
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
