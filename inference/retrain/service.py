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
from inference.retrain.parks import KnownParks
from inference.retrain.policy import Policy
from inference.retrain.store import Row, Store
from pvforecast.errors import InvalidInput, NotReady

log = logging.getLogger(__name__)

TICK_S = 2.0
SILENT_S = 120.0
"""A run whose keeper, on another host, has not been heard of for so long is lost."""

_SKEW = timedelta(hours=1)

_CLOCKS_APART_S = 5.0  # this machine's clock and that of Postgres

STARTING_S = 10.0
"""Between being claimed and having a process."""


class FutureEvent(InvalidInput):
    """Its time has not come yet."""

    code = "future_event"


@dataclass(frozen=True)
class Answer:
    """`outcome` is accepted, ignored, noted or duplicate."""

    outcome: str
    reason: str = ""


class Trigger:
    """Takes events, and runs the training command in a thread of its own.

    Parameters
    ----------
    words : the training command with its placeholders.
    folder : for the output of runs: ``run-<id>.out`` and ``run-<id>.log``.
    policy : what may start how often.
    parks : says which parks there are; None takes every name.
    """

    def __init__(
        self,
        store: Store,
        words: Sequence[str],
        folder: Path,
        policy: Policy | None = None,
        parks: KnownParks | None = None,
    ) -> None:
        self.store = store
        self._words = tuple(words)
        self._folder = folder
        self._policy = policy or Policy()
        self._parks = parks
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
            raise FutureEvent(f"{event['time']} lies in the future", field="time", hint="the check's own clock")
        if self._parks is not None:
            self._parks.expect(cloudevent.parks_of(event))
        if event["type"] == cloudevent.CLEARED_TYPE:
            status, reason = "noted", "the park is as expected again"
        elif event["type"] == cloudevent.QUARANTINED_TYPE:
            status, reason = "noted", f"{event['data']['hours']} hours are kept from training"
        elif event["data"]["advice"] == "retrain":
            status, reason = "waiting", ""
        else:
            status, reason = "ignored", f"the advice is {event['data']['advice']}, not retrain"
        if not self.store.add_event(event, when, status, reason):
            return Answer("duplicate", f"event {event['id']} is known already")
        log.info("event %s of %s: %s %s", event["id"], event["subject"], status, reason)
        self._wake.set()
        return Answer("accepted" if status == "waiting" else status, reason)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._look_after_other_runs()
                run = self._advance()  # also while a run is active: what came meanwhile may be part of it
                if run is not None:
                    self._run(run)
                    continue  # more may wait
            except NotReady as error:
                log.warning("%s", error)
            except Exception:
                log.exception("a look at the waiting events failed")  # without its thread the trigger would be deaf
            self._wake.wait(min(TICK_S, max(0.1, self._policy.coalesce.total_seconds())))

    def _advance(self) -> Row | None:
        return self.store.advance(self._host, self._policy, datetime.now(UTC))

    def _run(self, run: Row) -> None:
        output, errors, lock = self._files(run["id"])
        values = {
            "as_of": run["as_of"].astimezone(UTC).isoformat(),
            "reason": run["reason"],
            "event_id": run["event_id"],
        }
        try:
            process = command.start(command.filled(self._words, values), output, errors, lock)
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
                self._keep(self._advance)  # events that came meanwhile
                self._keep(lambda: self.store.beat(run_id))
                next_beat = time.monotonic() + TICK_S

    def _look_after_other_runs(self) -> None:
        """Follow an active run that this process did not start: one of an earlier trigger, or of another host."""
        run = self.store.active()
        if run is None:
            return
        if run["host"] != self._host:
            if run["silent_s"] > SILENT_S:
                self._finish(run["id"], "lost", error=f"nothing heard from {run['host']} for {run['silent_s']:.0f} s")
            return
        output, _, lock = self._files(run["id"])
        if command.holds(lock) or command.alive(run["pid"], run["pid_created"]):
            self.store.beat(run["id"])
            return
        begun = _written_since(output, run["started_at"])
        if not begun and run["silent_s"] < STARTING_S:
            return
        found = command.verdict(output) if begun else None
        if found is not None:
            self._finish(run["id"], "succeeded", verdict=found)
        else:
            self._finish(run["id"], "lost", error="its process is gone, and it left no verdict")

    def _finish(self, run_id: int, status: str, **facts: Any) -> None:
        log.info("run %d %s %s", run_id, status, facts)
        self._keep(lambda: self.store.finished(run_id, status, policy=self._policy, **facts))

    def _keep(self, action: Callable[[], object]) -> None:
        """Note something about a run. Without Postgres the note is missing, and the next look puts it right."""
        try:
            action()
        except NotReady as error:
            log.warning("%s", error)

    def _files(self, run_id: int) -> tuple[Path, Path, Path]:
        """Output, log and lock of a run."""
        output, log_, lock = (self._folder / f"run-{run_id}.{ending}" for ending in ("out", "log", "lock"))
        return output, log_, lock


def _written_since(file: Path, moment: datetime) -> bool:
    """Whether the file is of that run: a folder that outlived its database holds files of runs with the same number."""
    return file.exists() and file.stat().st_mtime > moment.timestamp() - _CLOCKS_APART_S
