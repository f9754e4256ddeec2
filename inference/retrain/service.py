"""What the trigger does with events: keep them, and keep one training run going while any waits."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from inference.retrain import cloudevent, command
from inference.retrain.store import Row, Store
from pvforecast.errors import InvalidInput, NotReady

log = logging.getLogger(__name__)

TICK_S = 2.0
SILENT_S = 120.0
"""A run whose keeper, on another host, has not been heard of for so long is lost."""

_SKEW = timedelta(hours=1)

STARTING_S = 10.0
"""Between being claimed and having a process."""


@dataclass(frozen=True)
class Answer:
    """`outcome` is accepted, ignored or duplicate."""

    outcome: str
    reason: str = ""


class Trigger:
    """Takes events, and runs the training command in a thread of its own.

    Parameters
    ----------
    words : the training command with its placeholders.
    folder : for the output of runs: ``run-<id>.out`` and ``run-<id>.log``.
    cool_down : by the events' own time; see `Store.claim`.
    """

    def __init__(
        self, store: Store, words: Sequence[str], folder: Path, cool_down: timedelta = timedelta(hours=24)
    ) -> None:
        self.store = store
        self._words = tuple(words)
        self._folder = folder
        self._cool_down = cool_down
        self._host = socket.gethostname()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retrain", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the run that is under way; it counts as lost, and its events wait for the next start."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=3 * command.STOP_GRACE_S)

    def accept(self, event: dict[str, Any]) -> Answer:
        """Keep an event (committed when this returns), then let the worker look at it."""
        when = cloudevent.event_time(event)
        if when > datetime.now(UTC) + _SKEW:  # a run as of the future would count every later event as its own
            raise InvalidInput(f"{event['time']} lies in the future", field="time", hint="the check's own clock")
        advice = event["data"]["advice"]
        status, reason = ("waiting", "") if advice == "retrain" else ("ignored", f"the advice is {advice}, not retrain")
        if not self.store.add_event(event, when, status, reason):
            return Answer("duplicate", f"event {event['id']} is known already")
        log.info("event %s of %s: %s %s", event["id"], event["subject"], status, reason)
        self._wake.set()
        return Answer("accepted" if status == "waiting" else "ignored", reason)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                if not self._look_after_other_runs():
                    self.store.attach(self._cool_down)
                    run = self.store.claim(self._host)
                    if run is not None:
                        self._run(run)
                        continue  # more may wait
            except NotReady as error:
                log.warning("%s", error)
            except Exception:
                log.exception("a look at the waiting events failed")  # without its thread the trigger would be deaf
            self._wake.wait(TICK_S)

    def _run(self, run: Row) -> None:
        output, errors = self._files(run["id"])
        values = {
            "as_of": run["as_of"].astimezone(UTC).isoformat(),
            "reason": run["reason"],
            "event_id": run["event_id"],
        }
        try:
            process = command.start(command.filled(self._words, values), output, errors)
        except OSError as error:
            log.error("run %d could not start: %s", run["id"], error)
            self._finish(run["id"], "failed", error=f"the training command did not start: {error}")
            return
        log.info("run %d started, pid %d: %s; its log: %s", run["id"], process.pid, run["reason"], errors)
        self._keep(lambda: self.store.started(run["id"], process.pid, command.created(process.pid)))
        self._watch(run["id"], process)
        if process.returncode is None or (self._stopping.is_set() and process.returncode != 0):
            self._finish(run["id"], "lost", exit_code=process.returncode, error="stopped together with the trigger")
            return
        found = command.verdict(output)
        if process.returncode == 0 and found is not None:
            self._finish(run["id"], "succeeded", exit_code=0, verdict=found)
        elif process.returncode == 0:
            self._finish(run["id"], "failed", exit_code=0, error=f"no verdict on the last line of {output}")
        else:
            error_text = command.last_line(errors) or f"see {errors}"
            self._finish(run["id"], "failed", exit_code=process.returncode, verdict=found, error=error_text)

    def _watch(self, run_id: int, process: subprocess.Popen[bytes]) -> None:
        next_beat = time.monotonic()
        while process.poll() is None:
            if self._stopping.wait(0.2):
                command.stop(process)
                return
            if self._wake.is_set() or time.monotonic() >= next_beat:
                self._wake.clear()
                self._keep(lambda: self.store.attach(self._cool_down))  # events that came meanwhile
                self._keep(lambda: self.store.beat(run_id))
                next_beat = time.monotonic() + TICK_S

    def _look_after_other_runs(self) -> bool:
        """Whether a run is active that this process did not start: one of an earlier trigger, or of another host."""
        run = self.store.active()
        if run is None:
            return False
        if run["host"] != self._host:
            if run["silent_s"] > SILENT_S:
                self._finish(run["id"], "lost", error=f"nothing heard from {run['host']} for {run['silent_s']:.0f} s")
            return True
        if command.alive(run["pid"], run["pid_created"]):
            self.store.beat(run["id"])
            return True
        if run["pid"] is None and run["silent_s"] < STARTING_S:
            return True
        found = command.verdict(self._files(run["id"])[0])
        if found is not None:
            self._finish(run["id"], "succeeded", verdict=found)
        else:
            self._finish(run["id"], "lost", error="its process is gone, and it left no verdict")
        return True

    def _finish(self, run_id: int, status: str, **facts: Any) -> None:
        log.info("run %d %s %s", run_id, status, facts)
        self._keep(lambda: self.store.finished(run_id, status, **facts))

    def _keep(self, action: Callable[[], None]) -> None:
        """Note something about a run. Without Postgres the note is missing, and the next look puts it right."""
        try:
            action()
        except NotReady as error:
            log.warning("%s", error)

    def _files(self, run_id: int) -> tuple[Path, Path]:
        return self._folder / f"run-{run_id}.out", self._folder / f"run-{run_id}.log"
