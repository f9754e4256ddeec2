"""The retrain trigger as tests start it: a real process on a schema, a port and a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import psycopg

from pvforecast.settings import Settings

EXAMPLE: dict[str, Any] = json.loads((resources.files("inference.drift") / "event.example.json").read_text())
VERDICT = {"run_id": "r1", "verdict": "refresh", "model_version": "3", "mlflow_run_id": "abc123"}
_START_S = 120.0  # imports alone take seconds, and on a loaded machine many
TRAIN = (
    "import json, pathlib, sys, time\n"
    "folder = pathlib.Path(sys.argv[1])\n"
    "with (folder / 'calls').open('a') as f: f.write(json.dumps(sys.argv[2:]) + '\\n')\n"
    "while (folder / 'hold').exists(): time.sleep(0.02)\n"
    "if (folder / 'fail').exists(): sys.exit('no data for training')\n"
    f"print('working'); print({json.dumps(json.dumps(VERDICT))})\n"
)


class Trigger:
    """`python -m inference.retrain` on a database and a folder of its own."""

    def __init__(
        self, dsn: str, folder: Path, command: list[str] | None = None, *, options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None, entry: Sequence[str] = ("-m", "inference.retrain"),
    ) -> None:  # fmt: skip
        self.dsn, self.folder = dsn, folder
        self.words = [*entry, "--coalesce-seconds", "0.2", *options]
        self.environment = dict(environment or {})
        self.command = command or [
            sys.executable, "-c", TRAIN, str(folder), "{as_of}", "{reason}", "{event_id}"
        ]  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Trigger:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PVF_")}
        settings = {"PVF_POSTGRES_DSN": self.dsn, "PVF_HOME": str(self.folder / "home")}
        self.log = (self.folder / "trigger.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, *self.words, "--port", str(self.port)],
            env={**environment, **settings, "PVF_TRAINING_COMMAND": json.dumps(self.command), **self.environment},
            stderr=self.log, stdout=self.log,
        )  # fmt: skip
        until(lambda: self.process.poll() is not None or _answers(self.url), _START_S)
        assert self.process.poll() is None, (self.folder / "trigger.log").read_text()
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def post(self, event: dict[str, Any], **more: str) -> httpx.Response:
        headers = {"content-type": "application/cloudevents+json", **more}
        return httpx.post(self.url, content=json.dumps(event), headers=headers, timeout=30)

    def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = httpx.get(f"{self.url}/runs", timeout=30).json()["runs"]
        return runs

    def event(self, number: int = 0) -> dict[str, Any]:
        event: dict[str, Any] = httpx.get(f"{self.url}/events/event-{number}", timeout=30).json()
        return event

    def calls(self) -> list[list[str]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def wait_for(self, status: str) -> dict[str, Any]:
        """The newest run once it has that status."""
        until(lambda: bool(self.runs()) and self.runs()[0]["status"] == status)
        return self.runs()[0]

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def release(self) -> None:
        (self.folder / "hold").unlink()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@contextlib.contextmanager
def schema(infra: Settings) -> Iterator[str]:
    """DSN of an empty schema, gone afterwards."""
    name = f"retrain_{uuid.uuid4().hex}"
    server = infra.postgres_dsn.get_secret_value()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    yield psycopg.conninfo.make_conninfo(server, options=f"-csearch_path={name}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {name} CASCADE".encode())


class Wire:
    """A port that leads to Postgres, and can be cut and mended."""

    def __init__(self, dsn: str) -> None:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
        self._server = (str(parts["host"]), int(str(parts["port"])))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._cut = False
        self.dsn = psycopg.conninfo.make_conninfo(dsn, port=self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut = True
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._listener.close()
        self.cut()
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._cut:
                client.close()
                continue
            server = socket.create_connection(self._server)
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, target), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
