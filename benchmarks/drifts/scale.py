"""One daily check of 100 parks out of a lake by the command itself, timed, with the memory it took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drifts import climates, simulator
from benchmarks.drifts.memory import Peak
from benchmarks.drifts.trial import REFERENCE_DAYS
from inference.drift.days import check_time
from inference.drift.tests.lakes import fill
from pvforecast.lake import Lake

PARKS, DISTINCT, WATCHED_DAYS = 100, 4, 60


def measure(data: Path, seed: int) -> dict[str, Any]:
    """References of 100 parks, then one check of all, each a process of its own on a lake in a folder.

    The parks repeat 4 distinct ones under other names: what is read, computed and stored is each park's own.
    """
    uri = str(data / "lake")
    lake = Lake(uri)
    skies = climates.load(data / "pvdaq-50.npz")
    days = REFERENCE_DAYS + WATCHED_DAYS
    distinct = [simulator.park(number, skies, years=2, seed=seed) for number in range(DISTINCT)]
    records = []
    last = np.datetime64("2000-01-01", "s")
    for number in range(PARKS):
        park = distinct[number % DISTINCT]
        site = replace(park.site, park_id=f"park-{number:03d}")
        kept = park.runs_at < park.hours[days * 24]
        records.append(replace(park, site=site, hours=park.hours[: days * 24], power=park.power[: days * 24],
                         runs_at=park.runs_at[kept], ghi=park.ghi[kept], air=park.air[kept]).record())  # fmt: skip
        last = max(last, check_time(site, (park.hours[0]).astype("datetime64[D]") + days - 1))
    fill(lake, *records)
    until = last - np.timedelta64(WATCHED_DAYS, "D")
    made = _timed("reference", "--lake-uri", uri, "--all", "--until", f"{until}Z", "--jobs", "2")
    checked = _timed("check", "--lake-uri", uri, "--all", "--as-of", f"{last}Z", "--json", "--jobs", "2")
    lines = [json.loads(line) for line in checked["out"].splitlines()]
    return {
        "calibrate_100_parks_seconds": made["seconds"],
        "check_100_parks_seconds": checked["seconds"],
        "check_100_parks_checked": sum(line["status"] in ("ok", "drift") for line in lines),
        "calibrate_100_parks_peak_gib": made["peak_gib"],
        "check_100_parks_peak_gib": checked["peak_gib"],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _timed(*words: str) -> dict[str, Any]:
    begun = time.perf_counter()
    words = (sys.executable, "-m", "inference.drift", *words)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = Peak(process.pid)
        out, problems = process.communicate()
    found = {"seconds": round(time.perf_counter() - begun, 1), "peak_gib": peak.stop(), "out": out}
    if process.returncode:
        raise RuntimeError(problems[-2_000:])
    return found
