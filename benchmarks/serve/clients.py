"""The load of the benchmark: client processes (`benchmarks/serve/load.py`), what they saw, and waiting for servers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pvf.stack.part import ROOT

_DEADLINE_S = 60.0


def bodies(file: Path, bodies: Sequence[dict[str, Any]]) -> Path:
    """The file of the bodies that clients send in turn."""
    file.write_text(json.dumps([json.dumps(body) for body in bodies]))
    return file


def client(url: str, bodies: Path, clients: int, seconds: float, rate: float = 0.0) -> subprocess.Popen[str]:
    """Reads the key from its standard input."""
    words = [url, "--rate", str(rate), "--clients", str(clients), "--seconds", str(seconds), "--bodies", str(bodies)]
    command = [sys.executable, "-m", "benchmarks.serve.load", *words]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def load(url: str, key: str, bodies: Path, clients: int, seconds: float) -> dict[str, Any]:
    """What so many clients saw in so many seconds: ms, errors, seconds."""
    process = client(url, bodies, clients, seconds)
    out, _ = process.communicate(f"{key}\n", timeout=seconds + 60)
    result: dict[str, Any] = json.loads(out)
    return result


@contextmanager
def under_load(url: str, key: str, bodies: Path, rate: float = 0.0) -> Iterator[dict[str, Any]]:
    """16 clients while the block runs; what they saw is in the dict afterwards."""
    process = client(url, bodies, 16, 0, rate)
    assert process.stdin is not None
    process.stdin.write(f"{key}\n")
    process.stdin.flush()
    seen: dict[str, Any] = {}
    try:
        yield seen
    finally:
        out, _ = process.communicate(timeout=120)
        seen |= json.loads(out)


def rate(run: dict[str, Any]) -> float:
    """Requests a second."""
    return round(len(run["ms"]) / float(run["seconds"]), 1)


def percentile(ms: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(ms, percent)), 1)


def until(condition: Any, seconds: float = _DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass  # not yet
        if time.monotonic() > deadline:
            raise TimeoutError("the servers did not get there in time")
        time.sleep(0.05)


def tell(runs: dict[int, dict[str, Any]], name: str) -> None:
    for clients, run in runs.items():
        errors = dict(Counter(run["errors"]).most_common(5))
        say(f"{name}, {clients} clients: {rate(run):.0f}/s, p95 {percentile(run['ms'], 95)} ms, errors {errors}")


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
