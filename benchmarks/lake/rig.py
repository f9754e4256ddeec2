"""Real servers for the telemetry benchmark, each of which can be killed and started again by itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from pvf.stack import catalogue, keyring, mosquitto
from pvf.stack.part import ROOT, Part, python_env
from pvf.stack.ports import Ports
from pvf.stack.supervisor import Supervisor
from pvforecast import wiring
from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS
from pvforecast.objects import ObjectStore
from pvforecast.parks import Park
from pvforecast.settings import Settings

PARTS = ("seaweedfs", "mosquitto", "telemetry")


class Rig:
    """SeaweedFS, mosquitto and the telemetry service on a folder of their own.

    Parameters
    ----------
    options : `PVF_MQTT_*` variables of the service.
    message_bytes : what the broker lets through; 0: everything.
    """

    def __init__(self, home: Path, options: Mapping[str, str], message_bytes: int = mosquitto.MESSAGE_BYTES) -> None:
        self.home = home
        for folder in ("run", "log"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        ports = Ports(home / "run" / "ports.json", {})
        plan = catalogue.Plan(home, home / "run" / "sock", ports, keyring.load(home / "secrets"), PARTS)
        self.settings: Settings = plan.settings()
        before = dict(os.environ)
        os.environ.update(options)  # the part takes its options from there
        self._parts: dict[str, Part] = {part.name: part for part in plan.parts(self.settings)}
        os.environ.clear()
        os.environ.update(before)
        self._running: dict[str, Supervisor] = {}
        self.port = ports.get("mosquitto")
        self._parts["mosquitto"] = mosquitto.part(home, self.port, message_bytes=message_bytes)
        self.lake: Lake = wiring.lake(self.settings)
        self.store: ObjectStore = wiring.objects(self.settings)

    def start(self, name: str) -> None:
        part = self._parts[name]
        run = self.home / "run" / name
        run.mkdir(exist_ok=True)
        alone = Part(**{**vars(part), "needs": ()})
        supervisor = self._running[name] = Supervisor([alone], run, self.home / "log", lambda _line: None)
        supervisor.start()

    def stop(self, name: str) -> None:
        if name in self._running:
            self._running.pop(name).stop()

    def kill(self, name: str) -> None:
        """SIGKILL to the whole session: the process had no say in it."""
        os.killpg(self.pid(name), signal.SIGKILL)
        self.stop(name)

    def pid(self, name: str) -> int:
        return self._running[name].pids[name]

    def stop_all(self) -> None:
        for name in reversed(PARTS):
            self.stop(name)

    def plant(self, share: int, of: int, rate: float, steps: int, start_ms: int, **more: Any) -> subprocess.Popen[str]:
        """One publisher process; prints one line of JSON when the broker has everything."""
        given = {
            "port": self.port,
            "share": share,
            "of": of,
            "rate": rate,
            "steps": steps,
            "start-ms": start_ms,
            **more,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.lake.plant", *words],
            cwd=ROOT,
            env=python_env(PLANT_PASSWORD=mosquitto.passwords(self.home).plant),
            stdout=subprocess.PIPE,
            text=True,
        )


@contextmanager
def rig(options: Mapping[str, str], message_bytes: int = mosquitto.MESSAGE_BYTES) -> Iterator[Rig]:
    """Started, and at the end stopped and removed."""
    home = Path(tempfile.mkdtemp(prefix="pvf-mqtt-"))
    made = Rig(home, options, message_bytes)
    try:
        yield made
    finally:
        made.stop_all()
        if not os.environ.get("KEEP"):
            shutil.rmtree(home, ignore_errors=True)


def fleet_of(parks: int, now: float) -> list[Park]:
    """Simulated parks where the sun stood highest three hours ago, so that six hours of power are plausible."""
    noon = datetime.fromtimestamp(now - 3 * 3600, UTC)
    longitude = ((12 - noon.hour - noon.minute / 60) * 15 + 180) % 360 - 180
    return [
        Park(
            id=f"sim-{number:03d}",
            name=f"simulated {number}",
            latitude=-10 + 0.1 * number,
            longitude=round(longitude, 3),
            elevation_m=10,
            timezone="UTC",
            ac_capacity_kw=100,
            surface_tilt=10,
            surface_azimuth=180,
            source="mqtt",
        )
        for number in range(parks)
    ]


def register(lake: Lake, parks: list[Park]) -> None:
    """In one commit."""
    at = pd.Timestamp(datetime.now(UTC))
    rows = [
        {"park_id": p.id, "valid_from": pd.Timestamp(p.valid_from), "recorded_at": at, "facts": p.model_dump_json()}
        for p in parks
    ]
    lake.append_new(PARKS, pd.DataFrame(rows))


class Memory(threading.Thread):
    """Peak resident memory of a part and its children, MB; looks twice a second."""

    def __init__(self, rig: Rig, name: str) -> None:
        super().__init__(daemon=True)
        self._rig, self._name = rig, name
        self._over = threading.Event()
        self.peak_mb: dict[str, float] = {}

    def run(self) -> None:
        while not self._over.wait(0.5):
            try:
                main = psutil.Process(self._rig.pid(self._name))
                self._see("service", main)
                for child in main.children(recursive=True):
                    self._see("refresh", child)
            except (psutil.Error, KeyError):
                continue

    def stop(self) -> dict[str, float]:
        self._over.set()
        self.join()
        return {name: round(value) for name, value in self.peak_mb.items()}

    def _see(self, name: str, process: psutil.Process) -> None:
        self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), process.memory_info().rss / 2**20)
