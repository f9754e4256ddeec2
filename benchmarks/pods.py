"""What each pod takes, for its requests and limits: `make bench NAME=pods`. The last line is JSON.

The local stack whole, with 100 parks served (simulated places, one real record), 5 of them in the lake with 2.7 years
of hours. 50 forecasts a second are asked for, two clients look at pages, 50 listen to the stream, `pvf metrics` is
read; then the jobs run one after the other as on a cluster, the drift job in its own environment. Of each: the highest
sum of its processes' proportional set sizes, MB, every 0.2 s; of what answers, the cores it took under that load.
`ARGS="--seconds 60"` is the default.
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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psutil
from websockets.sync.client import connect

from benchmarks.drifts.memory import Peak
from benchmarks.serve import clients, fleet
from inference.drift.tests import lakes
from inference.page.session import COOKIE
from inference.stream.app import PATH as STREAM
from pvf import client
from pvf.stack.local import Stack
from pvf.stack.part import ROOT
from pvforecast import clients as platform
from pvforecast import promoting, snapshot, wiring
from pvforecast.model import bundle as bundles
from pvforecast.settings import Settings, to_env

Figures = dict[str, dict[str, float]]

SERVED, STORED, LISTENERS, RATE = 100, 5, 50, 50.0
PARTS = ("predictor", "transformer", "stream", "page", "prediction-log", "trigger", "mlflow", "gateway")
_CALIBRATED, _CHECKED = "2013-08-01T12:00:00Z", "2013-09-01T12:00:00Z"
_PAGES = ("fleet", "status", "parks/{park}/export?format=csv")


def main() -> None:
    """Prints what it does on stderr, the result on stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    home = Path(tempfile.mkdtemp(prefix="pvf-pods-bench-"))
    home.chmod(0o755)  # Postgres' user walks through it
    try:
        with Stack(home, PARTS, clock="snapshot") as stack:
            parks = _fill(stack.settings)
            watched = {name: stack.pids[name] for name in PARTS}
            result = _under_load(home, stack.settings, watched, parks, seconds)
            result |= {name: {"mb": mb} for name, mb in _jobs(home, stack.settings)}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print(json.dumps(result))


def _fill(settings: Settings) -> list[str]:
    """A promoted model, snapshots of the served parks, the first of them in the lake; returns the parks' ids."""
    clients.say("training, snapshots, lake")
    every = platform.everything(settings)
    real = fleet.record()
    known = list(fleet.parks(real, SERVED))
    for one in known:
        snapshot.write(every.store, one)
    lakes.fill(wiring.lake(settings), *(replace(real, site=one.site) for one in known[:STORED]))
    run = every.tracking.start_run("training", {}, {})
    model, _ = fleet.bundles(real)
    job: dict[str, Any] = {
        "predecessor": 0,
        "bundle_uri": bundles.save(every.store, model),
        "run_id": run,
        "verdict": "promote",
    }
    promoting.deploy(every.store, every.tracking, every.promotions, reason="a measurement", actor="benchmark", **job)
    return [one.site.park_id for one in known]


def _under_load(home: Path, settings: Settings, pids: dict[str, int], parks: list[str], seconds: float) -> Figures:
    """Of each part its peak and what it took of a core."""
    key, url = client.key(settings), settings.gateway_url
    asked = [{"instances": [{"park_id": park, "horizon_hours": 48}]} for park in parks]
    bodies = clients.bodies(home / "bodies.json", asked)
    clients.until(lambda: _ask(url, key, "POST", client.PATH, json=asked[0]).is_success, 120)
    with _metrics(settings) as exporter, _listeners(url, key, parks):
        watched = pids | {"metrics": exporter.pid}
        peaks = {name: Peak(pid) for name, pid in watched.items()}
        before, began = _cpu_s(watched), time.monotonic()
        clients.say(f"under load for {seconds:g} s")
        with (
            _browsing(url, key, parks[:STORED]) as answers,
            clients.under_load(url + client.PATH, key, bodies, RATE) as load,
        ):
            time.sleep(seconds)
        wall = time.monotonic() - began
        cores = {name: (after - before[name]) / wall for name, after in _cpu_s(watched).items()}
        figures: Figures = {
            name: {"mb": round(peak.stop() * 1024), "cores": round(cores[name], 2)} for name, peak in peaks.items()
        }
    figures["load"] = {
        "requests_per_s": clients.rate(load),
        "pages": len(answers),
    }
    if load["errors"] or any(status != 200 for status in answers):
        raise RuntimeError(f"not what is to be measured: {len(load['errors'])} errors, pages {Counter(answers)}")
    return figures


def _ask(url: str, key: str, method: str, path: str, **more: Any) -> httpx.Response:
    return httpx.request(method, f"{url}{path}", headers={"x-api-key": key}, cookies={COOKIE: key}, timeout=30, **more)


@contextmanager
def _metrics(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """`pvf metrics`, scraped every two seconds."""
    command = [sys.executable, "-m", "pvf", "metrics", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(settings), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    try:
        with _repeated(lambda: httpx.get(url, timeout=60), every_s=2.0):
            yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _listeners(url: str, key: str, parks: list[str]) -> Iterator[None]:
    address = f"ws{url.removeprefix('http')}{STREAM}?park="
    with ExitStack() as opened:
        for park in parks[:LISTENERS]:
            opened.enter_context(connect(address + park, additional_headers={"x-api-key": key}, proxy=None))
        yield


@contextmanager
def _browsing(url: str, key: str, parks: list[str]) -> Iterator[list[int]]:
    """Two browsers, one page after the other; yields the statuses of the answers."""
    pages = cycle(f"/page/api/{page.format(park=park)}" for park in parks for page in _PAGES)
    answers: list[int] = []

    def look() -> None:
        answers.append(_ask(url, key, "GET", next(pages)).status_code)

    with _repeated(look), _repeated(look):
        yield answers


@contextmanager
def _repeated(call: Callable[[], object], every_s: float = 0.2) -> Iterator[None]:
    over = threading.Event()

    def work() -> None:
        while not over.wait(every_s):
            call()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _jobs(home: Path, settings: Settings) -> Iterator[tuple[str, int]]:
    """Each as its CronJob or Job calls it."""
    drift = [str(ROOT / ".venv-drift" / "bin" / "python"), "-m", "inference.drift"]
    pvf = [sys.executable, "-m", "pvf"]
    commands = {
        "drift-references": [*drift, "reference", "--all", "--until", _CALIBRATED, "--json"],
        "drift-check": [*drift, "check", "--all", "--as-of", _CHECKED, "--json"],
        "backup": [*pvf, "backup", "create", "--databases", "--at", str(home / "backups")],
        "retention": [*pvf, "data", "prune"],
        "migrate": [*pvf, "migrate"],
        "pipeline-compile": [*pvf, "pipeline", "compile", str(home / "compiled")],  # what schedules and submissions do
    }
    for name, command in commands.items():
        clients.say(name)
        process = subprocess.Popen(command, cwd=ROOT, env=_environment(settings), stdout=subprocess.DEVNULL)
        peak = Peak(process.pid)
        status = process.wait(1_800)
        if status:
            raise RuntimeError(f"{name} ended with {status}")
        yield name, round(peak.stop() * 1024)


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **to_env(settings)}


def _cpu_s(pids: dict[str, int]) -> dict[str, float]:
    spent = {}
    for name, pid in pids.items():
        leader = psutil.Process(pid)
        times = [one.cpu_times() for one in (leader, *leader.children(recursive=True))]
        spent[name] = sum(one.user + one.system for one in times)
    return spent


if __name__ == "__main__":
    main()
