"""Real servers: two replicas of transformer and predictor behind Envoy, and the prediction log; each restarts alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from pvf.stack import api_keys, gateway, services
from pvf.stack.gateway_config import Upstreams
from pvf.stack.gateway_options import Options
from pvf.stack.local import Stack
from pvf.stack.part import Part, answers, python_env, python_module
from pvf.stack.ports import Ports
from pvf.stack.supervisor import Supervisor
from pvforecast.settings import Settings

REPLICAS = (1, 2)
BASELINE = "baseline"
_NO_LIMIT = 1_000_000


class Rig:
    """The parts by name: predictor-1, transformer-1, ..., prediction-log, gateway, baseline.

    `uncached-1` is transformer-1 without its memory of forecasts, in its place.
    """

    def __init__(self, home: Path, settings: Settings) -> None:
        self.home = home
        ports = Ports(home / "run" / "serve-ports.json", {})
        port = ports.get
        log_url = f"http://127.0.0.1:{port('prediction-log')}"
        self.parts: dict[str, Part] = {
            "prediction-log": services.prediction_log(home, port("prediction-log"), settings)
        }
        for number in REPLICAS:
            folder = home / f"replica-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            grpc = port(f"predictor-grpc-{number}")
            own = settings.model_copy(
                update={
                    "home": folder,
                    "predictor_grpc": f"127.0.0.1:{grpc}",
                    "prediction_log_url": log_url,
                    "park_access_file": gateway.access_file(home),
                    "clock": "snapshot",
                }
            )
            predictor = services.predictor(folder, port(f"predictor-{number}"), grpc, own)
            transformer = services.transformer(folder, port(f"transformer-{number}"), own)
            self.parts[f"predictor-{number}"] = replace(predictor, name=f"predictor-{number}")
            self.parts[f"transformer-{number}"] = replace(transformer, name=f"transformer-{number}")
            self.parts[f"uncached-{number}"] = replace(
                transformer,
                name=f"uncached-{number}",
                env={**transformer.env, "PVF_FORECAST_CACHE_ROWS": "0"},
            )
        replicas = [("127.0.0.1", port(f"transformer-{number}")) for number in REPLICAS]
        options = Options(requests_per_second=_NO_LIMIT, burst=_NO_LIMIT)
        self.parts["gateway"] = gateway.part(home, port("gateway"), port("admin"), Upstreams(replicas), options)
        baseline = python_module("benchmarks.serve.baseline", "--port", str(port(BASELINE)))
        url = f"http://127.0.0.1:{port(BASELINE)}"
        env = python_env(PVF_BASELINE_FOLDER=str(home))
        self.parts[BASELINE] = Part(BASELINE, baseline, answers(url), url=url, env=env, cwd=home)
        self._running: dict[str, Supervisor] = {}
        self.start_s: dict[str, float] = {}

    @property
    def key(self) -> str:
        return api_keys.load(gateway.keys_file(self.home))[api_keys.DEFAULT_CLIENT][-1].key

    def start(self, *names: str) -> None:
        """One after the other, so that the time to health of each is its own."""
        for name in names:
            folder = self.home / "run" / name
            folder.mkdir(parents=True, exist_ok=True)
            begun = time.perf_counter()
            one = Supervisor([self.parts[name]], folder, self.home / "log", lambda _line: None)
            self._running[name] = one
            one.start()
            self.start_s[name] = time.perf_counter() - begun

    def start_missing(self, *names: str) -> None:
        self.start(*(name for name in names if name not in self._running))

    def stop(self, *names: str) -> None:
        """SIGTERM; returns when they are gone."""
        for name in names:
            self._running.pop(name).stop()

    def rss_mb(self, name: str) -> float:
        """Resident memory of the part's processes."""
        return sum(one.memory_info().rss for one in self._processes(name)) / 2**20

    def cpu_s(self) -> dict[str, float]:
        """Processor time of each running part so far, replicas together."""
        found: dict[str, float] = {}
        for name in self._running:
            times = [one.cpu_times() for one in self._processes(name)]
            kind = name.removesuffix("-1").removesuffix("-2")
            found[kind] = found.get(kind, 0.0) + sum(one.user + one.system for one in times)
        return found

    def _processes(self, name: str) -> list[psutil.Process]:
        leader = psutil.Process(self._running[name].pids[name])
        return [leader, *leader.children(recursive=True)]

    def metric(self, name: str, sample: str) -> float:
        """The sum over a part's series that begin with `sample`; 0 without any."""
        lines = httpx.get(f"{self.parts[name].url}/metrics", timeout=10).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(sample))

    def cache_hit_share(self) -> float:
        """Of the forecasts so far, how many were taken from memory."""
        counts = {
            outcome: sum(
                self.metric(f"transformer-{n}", f'pvf_forecast_cache_total{{outcome="{outcome}"') for n in REPLICAS
            )
            for outcome in ("hit", "miss")
        }
        return round(counts["hit"] / max(1.0, sum(counts.values())), 3)

    def close(self) -> None:
        self.stop(*reversed(list(self._running)))


@contextmanager
def rig(home: Path) -> Iterator[tuple[Rig, Settings]]:
    """SeaweedFS and Postgres run, the rest is started by the caller; at the end all is stopped."""
    with Stack(home, ["seaweedfs", "postgres"]) as stack:
        made = Rig(home, stack.settings)
        gateway.write_access(home, now=datetime.now(UTC))
        try:
            yield made, stack.settings
        finally:
            made.close()
