"""The serving processes as tests start them: real servers on free ports, over a bucket and a schema of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import minio
import numpy as np
import psycopg

from pvforecast import snapshot
from pvforecast.known import HOUR
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings, to_env
from tests.bundles import NOW, record, site

ROOT = Path(__file__).parents[1]
PARKS = ("sim-a", "sim-b")
EARLIER = NOW - 24 * HOUR
"""When the older of the two retained snapshots of each park was taken."""

_START_S = 240.0  # imports take 6 s of a core, and a loaded machine gives little of one


@dataclass
class Service:
    """One `python -m` process. `start` again after `kill` uses the same ports."""

    module: str
    arguments: list[str]
    health: str
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start without waiting for it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                cwd=ROOT,
                env={**os.environ, **self.env, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        eventually(lambda: self._healthy(), _START_S)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _healthy(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3_000:]
        return httpx.get(self.health, timeout=2).status_code == 200


@dataclass
class Serving:
    """Predictor, transformer and log sink over one bucket and one schema."""

    settings: Settings
    store: ObjectStore
    folder: Path
    env: dict[str, str]
    ports: dict[str, int]
    services: dict[str, Service] = field(default_factory=dict)
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.ports['transformer']}"

    @property
    def predictor_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.ports['predictor']}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def sink_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.ports['sink']}"

    @property
    def dsn(self) -> str:
        return self.env["PVF_POSTGRES_DSN"]

    @property
    def spool(self) -> Path:
        return self.folder / "spool" / "prediction-log"

    def add(self, name: str, module: str, arguments: list[str], health: str, **env: str) -> Service:
        service = Service(module, arguments, health, {**self.env, **env}, self.folder / f"{name}.log")
        self.services[name] = service
        return service

    def ask(self, *instances: dict[str, Any], **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.url}/v1/models/pv-forecast:predict", json={"instances": instances}, headers=headers, timeout=15
        )

    def promoted(self, bundle: Bundle, version: str, as_of: np.datetime64) -> None:
        """Store the bundle and write the history of promotions on, as `registry.reconcile` does it."""
        try:
            earlier = self.store.get_json("models/history.json")
        except KeyError:
            earlier = []
        row = {"bundle_uri": bundles.save(self.store, bundle), "bundle_id": bundle.bundle_id, "model_version": version}
        row |= {"promotion_id": len(earlier) + 1, "promoted_at": "2026-01-01T00:00:00+00:00", "as_of": f"{as_of}+00:00"}
        self.store.put_json("models/history.json", [row, *earlier])

    def deploy(self, bundle: Bundle, version: str) -> str:
        """Store the bundle and point to it. Returns its id."""
        uri = bundles.save(self.store, bundle)
        pointer = {"bundle_uri": uri, "bundle_id": bundle.bundle_id, "model_version": version, "promotion_id": 1}
        self.store.put_json("models/deployed.json", pointer)
        return bundle.bundle_id


@contextlib.contextmanager
def serving(infra: Settings, *start: str, **env: str) -> Iterator[Serving]:
    """The named services (predictor, transformer, sink), healthy, with two snapshots of each park in the store."""
    with tempfile.TemporaryDirectory(prefix="pvf-serving-") as name:
        made = _prepare(infra, Path(name), env)
        try:
            for service in start:
                made.services[service].start()
            for service in start:
                made.services[service].wait()
            yield made
        finally:
            for service in made.services.values():
                if service.process is not None and service.process.poll() is None:
                    service.signal(signal.SIGCONT)
                    service.kill()


def _prepare(infra: Settings, folder: Path, env: dict[str, str]) -> Serving:
    unique = f"serving-{uuid.uuid4().hex[:8]}"
    settings = infra.model_copy(update={"s3_bucket": unique, "home": folder, "clock": "snapshot"})
    keys = infra.s3_access_key.get_secret_value(), infra.s3_secret_key.get_secret_value()
    minio.Minio(infra.s3_endpoint.removeprefix("http://"), *keys, secure=False).make_bucket(unique)
    store = ObjectStore(infra.s3_endpoint, unique, *keys)
    for park in PARKS:
        for as_of in (EARLIER, NOW):
            snapshot.write(store, record(site(park)).known_at(as_of))
    dsn = infra.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn) as connection:
        connection.execute(f'CREATE SCHEMA "{unique}"'.encode())
    ports = dict(zip(("predictor", "grpc", "transformer", "sink"), free_ports(4), strict=True))
    made = Serving(settings, store, folder, {}, ports, scheme="https" if "PVF_TLS_FOLDER" in env else "http")
    made.env = to_env(settings) | {
        "PVF_POSTGRES_DSN": f"{dsn}{'&' if '?' in dsn else '?'}options=-csearch_path%3D{unique}",
        "PVF_PREDICTOR_GRPC": made.grpc,
        "PVF_PREDICTION_LOG_URL": made.sink_url,
        "PVF_FORECAST_CACHE_ROWS": "0",  # so that each request goes all the way; `env` may say otherwise
    }
    made.env |= env
    http = ["--http-port", str(ports["predictor"]), "--grpc-port", str(ports["grpc"])]
    made.add("predictor", "inference.predictor", http, f"{made.predictor_url}/v2/health/live")
    made.add("transformer", "inference.transformer", ["--http-port", str(ports["transformer"])], f"{made.url}/")
    made.add("sink", "inference.prediction_log", ["--port", str(ports["sink"])], f"{made.sink_url}/healthz")
    return made


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def eventually(check: Callable[[], object], within_s: float = 15.0) -> None:
    """Wait until `check` returns something true; connection errors count as not yet."""
    deadline = time.monotonic() + within_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = check()
        except httpx.HTTPError as error:
            last = error
        else:
            if last:
                return
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s; last: {last!r}")


class HangingServer:
    """Takes connections and whatever is sent, and never answers."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._taken: list[socket.socket] = []
        self.connections = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._taken.append(self._listener.accept()[0])
                self.connections += 1

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._taken:
            one.close()


class Wire:
    """A TCP connection to a real server that can be cut and mended."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = free_ports(1)[0]
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        assert self._listener is not None
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(self._target)
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def text(instant: np.datetime64) -> str:
    return f"{instant}Z"
