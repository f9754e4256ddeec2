"""`Stack`: the local platform on one PVF_HOME, as a context manager.

with Stack(Path(".pvf"), on_event=print) as stack:
    print(stack.urls["gateway"])
    stack.wait()
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from pydantic import SecretStr

from pvf.stack import catalogue, gateway, keyring
from pvf.stack.gateway_follow import Follower
from pvf.stack.lock import Lock
from pvf.stack.part import python_env, python_module
from pvf.stack.ports import Ports
from pvf.stack.processes import Record, write_atomically
from pvf.stack.supervisor import Supervisor
from pvforecast.errors import StackError
from pvforecast.settings import Settings

_WATCH_S = 0.25
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stack:
    """Real servers for the whole platform, or for the named parts and what they need.

    Parameters
    ----------
    home : the data directory, PVF_HOME; made when missing.
    parts : names out of `catalogue.NAMES`; None means `catalogue.DEFAULT`.
    clock : "snapshot" for a replay of past data (see `Settings.clock`).
    on_event : gets one line of progress at a time, for people.
    ports : ports the user insists on, by part name; the others are chosen.
    overrides : fields of Settings to set differently, e.g. an upstream of the gateway that is not ours.

    While it runs, SIGTERM and SIGHUP raise KeyboardInterrupt like Ctrl-C (when entered in the main thread), so that
    leaving the `with` block stops everything in order. `wait` takes it as the wish to end; outside of `wait` it
    passes through, so a program catches it around the block.
    """

    def __init__(
        self,
        home: Path,
        parts: Sequence[str] | None = None,
        *,
        clock: Literal["system", "snapshot"] = "system",
        on_event: Callable[[str], None] = lambda _line: None,
        ports: Mapping[str, int] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self._home = Path(home).absolute()
        self._names = catalogue.with_needs(catalogue.DEFAULT if parts is None else parts)
        self._clock = clock
        self._on_event = on_event
        self._demanded = dict(ports or {})
        self._overrides = dict(overrides or {})
        self._run_dir = self._home / "run"
        self.socket_dir = _socket_dir(self._run_dir)
        self._lock = Lock(self._run_dir / "stack.lock")
        self._supervisor: Supervisor | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._watching = threading.Event()
        self._handlers: dict[int, Any] = {}
        self._interrupts = 0
        self.settings: Settings
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._make_folders()
        self._lock.acquire(self._on_event)
        try:
            self._take_signals()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops everything. When a part had died, that is the error, and what failed for it is its context."""
        try:
            if isinstance(error, Exception) and not isinstance(error, StackError):
                self.check()
        finally:
            self.stop()

    def check(self) -> None:
        """Raises StackError naming the part, how it ended, and its log, when one has ended."""
        if self._supervisor is not None:
            self._supervisor.check()

    @property
    def pids(self) -> dict[str, int]:
        """The process of each part, the first of its session; empty when nothing runs."""
        return {} if self._supervisor is None else self._supervisor.pids

    def wait(self) -> None:
        """Block until Ctrl-C or SIGTERM, then return. Raises StackError when a part ends."""
        try:
            while True:
                self.check()
                time.sleep(_WATCH_S)
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        """Stop all parts in reverse order. Safe to call again; a second Ctrl-C kills what still runs."""
        self._watching.set()
        if self._supervisor is not None:
            before = self._interrupts
            for number in self._handlers:
                signal.signal(number, self._count)
            self._supervisor.stop(hurry=lambda: self._interrupts > before)
            self._supervisor = None
            shutil.rmtree(self.socket_dir, ignore_errors=True)
        (self._run_dir / "stack.json").unlink(missing_ok=True)
        if self._guardian is not None:
            assert self._guardian.stdin is not None
            self._guardian.stdin.close()
            self._guardian.wait(10)
            self._guardian = None
        self._lock.release()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _make_folders(self) -> None:
        foreign = self._run_dir.exists() and self._run_dir.stat().st_uid != os.geteuid()
        try:
            if foreign:  # root could, and would leave files there that the owner can't read
                raise PermissionError
            for folder in (self._home, self._run_dir, self._home / "log"):
                folder.mkdir(parents=True, exist_ok=True)
            self._run_dir.chmod(0o700)
        except PermissionError as error:
            raise StackError(
                f"{self._home} is not for user id {os.geteuid()} to write: it, or a folder above, is another user's",
                field="PVF_HOME",
                hint="become that user, or set PVF_HOME to another directory",
            ) from error

    def _start(self) -> None:
        (self._run_dir / "stack.json").unlink(missing_ok=True)  # of a run that ended abruptly
        for left in Record(self._run_dir / "parts.json").sweep():
            self._on_event(f"ended {left.name} (pid {left.pid}), left over from a run that ended abruptly")
        keys = keyring.load(self._home / "secrets")
        ports = Ports(self._run_dir / "ports.json", self._demanded, self._on_event)
        plan = catalogue.Plan(self._home, self.socket_dir, ports, keys, self._names)
        self.settings = plan.settings(clock=self._clock, **self._overrides)
        parts = plan.parts(self.settings)
        ports.save()
        self.urls = {part.name: part.url for part in parts}
        self._supervisor = Supervisor(parts, self._run_dir, self._home / "log", self._on_event)
        self._start_guardian()
        self._on_event("starting " + ", ".join(part.name for part in parts))
        self._supervisor.start()
        self._write_down()
        self._lock.tell(self.settings.gateway_url or self.settings.mlflow_uri or self.settings.s3_endpoint)
        threading.Thread(target=self._watch, args=(self._supervisor,), name="stack-watch", daemon=True).start()
        if gateway.NAME in self.urls:
            Follower(self._home, self._watching, self._groups, self._on_event).start()

    def _start_guardian(self) -> None:
        with open(self._home / "log" / "guardian.log", "ab") as log:
            self._guardian = subprocess.Popen(
                python_module("pvf.stack.guardian", str(self._run_dir / "parts.json")),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=python_env(),
                pass_fds=[self._lock.fd],
                start_new_session=True,
            )

    def _watch(self, supervisor: Supervisor) -> None:
        """Say at once that a part died: the caller may be busy and call `check` much later."""
        while not self._watching.wait(_WATCH_S):
            try:
                supervisor.check()
            except StackError as error:
                self._on_event(str(error))
                return

    def _groups(self) -> dict[str, set[str]]:
        """Group -> the parks in it that are in service."""
        from pvforecast import fleet, wiring  # only for keys that are limited to groups

        found: dict[str, set[str]] = {}
        for park in fleet.active(wiring.lake(self.settings)):
            for group in park.groups:
                found.setdefault(group, set()).add(park.id)
        return found

    def _write_down(self) -> None:
        assert self._supervisor is not None
        content = {
            "pid": os.getpid(),
            "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": _plain(self.settings),
            "parts": {
                name: {"url": url, "log": str(self._supervisor.log(name)), "pid": self.pids[name]}
                for name, url in self.urls.items()
            },
        }
        write_atomically(self._run_dir / "stack.json", json.dumps(content, indent=1))

    def _take_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._handlers[number] = signal.signal(number, _interrupt)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _plain(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, secrets in plain text: the file is readable by its owner only."""
    plain = settings.model_dump()
    for name, value in plain.items():
        if isinstance(value, SecretStr):
            plain[name] = value.get_secret_value()
        elif isinstance(value, Path):
            plain[name] = str(value)
    return plain


def _socket_dir(run_dir: Path) -> Path:
    """A folder for Unix sockets, whose paths end at 107 characters: below /tmp when PVF_HOME is long."""
    inside = run_dir / "sock"
    if len(str(inside)) <= 60:
        return inside
    digest = hashlib.sha256(str(run_dir).encode()).hexdigest()[:8]
    return Path("/tmp") / f"pvf-{os.geteuid()}-{digest}"
