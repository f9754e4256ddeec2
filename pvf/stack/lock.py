"""One stack per data directory: a lock that its supervisor holds, and its guardian after a sudden death."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from pvf.stack import processes
from pvforecast.errors import StackError

_GUARDIAN_WAIT_S = 90.0
_LOOK_AGAIN_S = 0.5  # a supervisor that was killed this moment may still be seen


class Lock:
    """The lock `file`; whoever holds it has written its pid and page there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.fd = -1

    def acquire(self, on_event: Callable[[str], None]) -> None:
        """Raises StackError naming the pid and the page of the stack that is running there.

        When its supervisor died suddenly, waits until the guardian has ended the parts.
        """
        self.fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        began, told = time.monotonic(), False
        while not self._try():
            holder = self._holder()
            pid = int(holder.get("pid", 0))
            waited = time.monotonic() - began
            if waited > (_LOOK_AGAIN_S if processes.alive(pid) else _GUARDIAN_WAIT_S):
                self.release()
                page = holder.get("page") or "it is still starting"
                raise StackError(
                    f"a stack is already running on {self._file.parent.parent}: pid {pid}, {page}",
                    field="PVF_HOME",
                    hint=f"use that one, end it with `kill {pid}`, or set PVF_HOME to another directory",
                )
            if not told and not processes.alive(pid):
                on_event(f"the last run (pid {pid}) ended abruptly, waiting for its parts to stop")
                told = True
            time.sleep(0.1)
        self.tell("")

    def tell(self, page: str) -> None:
        """Write down who holds the lock, and the page to look at."""
        text = json.dumps({"pid": os.getpid(), "page": page}).encode()
        os.pwrite(self.fd, text.ljust(os.fstat(self.fd).st_size), 0)

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _try(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(os.pread(self.fd, 4096, 0) or b"{}")
        except json.JSONDecodeError:  # being written this moment
            return {}
        return found
