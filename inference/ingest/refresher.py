"""Has the child process roll up what was touched, every few minutes, and starts it again when it dies."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from typing import Any

from inference.ingest.metrics import Metrics
from inference.ingest.touched import Touched

log = logging.getLogger(__name__)

_RETRY_S = 10.0
_END_S = 10.0


class Refresher(threading.Thread):
    """A thread that mostly waits.

    Parameters
    ----------
    seconds : between two jobs.
    always : a job is due even when nothing came: REST sources are asked in it.
    """

    def __init__(self, touched: Touched, seconds: float, metrics: Metrics, *, always: bool = False) -> None:
        super().__init__(name="refresher", daemon=True)
        self._touched, self._seconds, self._metrics, self._always = touched, seconds, metrics, always
        self._stopping = threading.Event()
        self._child: subprocess.Popen[str] | None = None
        self._recovered = False
        self._waiting = 0  # hours that the child has on its agenda
        self.failure = ""
        metrics.touched.set_function(lambda: len(touched))

    def run(self) -> None:
        wait = 0.0  # at once: a killed service left rows behind
        while not self._stopping.wait(wait):
            began = time.monotonic()
            wait = self._seconds if self._once() else _RETRY_S
            wait = max(0.5, wait - (time.monotonic() - began))
        self._end()

    def stop(self) -> None:
        """Rows that are not rolled up are found by the next start."""
        self._stopping.set()

    def _once(self) -> bool:
        hours, settled = self._touched.take()
        if not (hours or self._waiting or self._always or not self._recovered):
            return True
        job = {
            "hours": {park: sorted(some) for park, some in hours.items()},
            "settled": settled or time.time(),
            "recover": not self._recovered,
        }
        began = time.monotonic()
        try:
            answer = self._ask(job)
        except (OSError, ValueError) as error:
            answer = {"error": f"its process ended: {error}"}
            self._end()
            self._recovered = False  # its agenda went with it
        if "error" in answer:
            self._touched.give_back(hours)
            self._metrics.refresh_failures.inc()
            self.failure = str(answer["error"])
            if not self._stopping.is_set():
                log.warning("refresh: %s; again in %.0f s", self.failure[:300], _RETRY_S)
            return False
        self._recovered = True
        self._waiting = answer["waiting"]
        self.failure = ""
        self._metrics.refreshes.inc()
        self._metrics.failed_parks.set(answer["failed"])
        self._metrics.snapshots.inc(answer["snapshots"])
        self._metrics.polled.inc(answer["polled_rows"])
        self._metrics.poll_failures.inc(answer["poll_failures"])
        self._metrics.last_refresh.set(time.time())
        self._metrics.refresh_seconds.observe(time.monotonic() - began)
        level = logging.INFO if answer["hours"] or answer["polled_rows"] else logging.DEBUG
        log.log(level, "refresh: %s", ", ".join(f"{name} {value}" for name, value in answer.items()))
        return True

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise ValueError(f"exit code {child.wait(_END_S)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "inference.ingest.refresh"]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
        )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue
