"""One hourly cycle of weather for a fleet: fetched, stored, checked, published, on real SeaweedFS.

    python -m benchmarks.lake.weather [--parks 100,1000]

The whole ingestion pipeline runs under kfp.local from its compiled YAML, as in production, against a server that stands
in for Open-Meteo and fails 5 % of its answers. All variables, 48 hours and more. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from pydantic import SecretStr

from pvf import children
from pvf.stack.local import Stack
from pvf.stack.part import Part, answers, python_env, python_module
from pvf.stack.ports import Ports
from pvf.stack.supervisor import Supervisor
from pvforecast import snapshot, wiring
from pvforecast.lake.tables import PARKS, RAW_WEATHER, WEATHER
from pvforecast.parks import Park
from pvforecast.settings import Settings
from pvforecast.sources.open_meteo_models import VARIABLES

FAULTS = 0.05
LIMITS = {100: "free", 1000: "6000/50000/0/4"}  # 1,000 parks are beyond the free tier: those of a paid plan
SHARD = 250
LOCATIONS = 25  # of one request: fewer than usual, so that faults hit some of them
_FREE_DAY, _FREE_HOUR, _FREE_MINUTE = 10_000, 5_000, 600


def measure(parks: tuple[int, ...] = (100, 1000)) -> dict[str, Any]:
    """Seconds of a cycle for each size, and what it asked of the server."""
    result: dict[str, Any] = {}
    for number in parks:
        result |= _cycle(number)
    return result


def _cycle(number: int) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="pvf-weather-"))
    home.chmod(0o755)
    try:
        with Stack(home, ["seaweedfs"]) as stack:
            port = Ports(home / "run" / "stub-port.json", {}).get("stub")
            url = f"http://127.0.0.1:{port}"
            settings = stack.settings.model_copy(
                update={
                    "weather_source": "open_meteo",
                    "weather_options": {"locations": LOCATIONS},
                    "open_meteo_url": url + "/{service}",
                    "open_meteo_limits": LIMITS.get(number, "none"),
                    "open_meteo_api_key": SecretStr(""),
                }
            )
            stub = _stub(home, port, url, settings.open_meteo_limits)
            stub.start()
            try:
                return _measured(settings, url, number)
            finally:
                stub.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measured(settings: Settings, url: str, number: int) -> dict[str, Any]:
    _register(settings, number)
    now = datetime.now(UTC).replace(microsecond=0)
    arguments = {
        "as_of": now.isoformat(),
        "since": (now - timedelta(days=1)).isoformat(),
        "source": "none",
        "parks_per_shard": SHARD,
    }
    begun, burnt = time.monotonic(), _children_cpu()
    outcome = children.pipeline("ingestion", settings, arguments)
    seconds, cpu = time.monotonic() - begun, _children_cpu() - burnt
    first = httpx.get(f"{url}/stub").json()
    print(f"{number} parks: {seconds:.1f} s, {cpu:.1f} CPU s in tasks, server: {first}", file=sys.stderr)
    again = time.monotonic()
    children.pipeline("ingestion", settings, arguments)
    repeated = time.monotonic() - again
    second = httpx.get(f"{url}/stub").json()

    assert outcome["left_out"] == {}, outcome
    lake, store = wiring.lake(settings), wiring.objects(settings)
    raw, checked = lake.version(RAW_WEATHER), lake.version(WEATHER)
    rows = len(lake.read(WEATHER, columns=["park_id"]))
    published = snapshot.parks(store)
    entry = snapshot.latest_entry(store, published[0])
    assert entry is not None
    run = snapshot.read(store, published[0], entry["snapshot_id"]).weather
    assert run is not None
    ahead = float((run.valid_at[-1] - run.available_at) / pd.Timedelta(hours=1).to_timedelta64())
    weighted = first["weighted"]
    return {
        f"weather_cycle_{number}_parks_seconds": round(seconds, 1),
        f"weather_cycle_{number}_parks": {
            "cpu_seconds_of_the_tasks": round(cpu, 1),
            "snapshots": len(published),
            "without_weather": len(outcome["without_weather"]),
            "rows": rows,
            "commits": {"raw": raw, "processed": checked},
            "variables": len(VARIABLES),
            "hours_ahead": ahead,
            "requests": first["requests"],
            "weighted_calls": round(weighted, 1),
            "refused": first["refused"],
            "faults": FAULTS,
            "repeated_cycle_seconds": round(repeated, 1),
            "requests_of_an_unchanged_run": second["requests"] - first["requests"],
            "weighted_calls_a_day_if_each_hour_had_a_new_run": math.ceil(24 * weighted),
            "fits_free_tier": weighted <= _FREE_MINUTE and 24 * weighted <= min(_FREE_DAY, 24 * _FREE_HOUR),
        },
    }


def _children_cpu() -> float:
    """CPU seconds of ended child processes: what a cycle costs, however many others use the machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _register(settings: Settings, number: int) -> None:
    """Simulated parks over Europe."""
    parks = [
        Park(
            id=f"simulated-{i:04d}",
            name=f"Simulated {i}",
            latitude=37.0 + 0.017 * i % 20.0,
            longitude=-6.0 + (0.61 * i) % 28.0,
            elevation_m=100,
            timezone="UTC",
            ac_capacity_kw=1000,
            surface_tilt=25,
            surface_azimuth=180,
            source="none",
        )
        for i in range(number)
    ]
    moment = pd.Timestamp(datetime.now(UTC))
    rows = [
        {
            "park_id": park.id,
            "valid_from": pd.Timestamp(park.valid_from),
            "recorded_at": moment,
            "facts": park.model_dump_json(),
        }
        for park in parks
    ]
    wiring.lake(settings).append_new(PARKS, pd.DataFrame(rows))


def _stub(home: Path, port: int, url: str, limits: str) -> Supervisor:
    words = ("--port", str(port), "--faults", str(FAULTS), "--limits", limits)
    part = Part("weather-stub", python_module("pvf.stub", *words), answers(url + "/stub"), url=url, env=python_env())
    run = home / "run" / "stub"
    run.mkdir()
    return Supervisor([part], run, home / "log", lambda _line: None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parks", default="100,1000")
    given = parser.parse_args()
    print(json.dumps(measure(tuple(int(text) for text in given.parks.split(",")))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
