"""Starts parts in the order of their needs, notices a dead one, stops all of them.

It knows nothing of what the parts are. One dead part is an error that names it, how it ended and where its log is;
nothing is restarted behind the user's back.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvf.stack import processes
from pvf.stack.part import Part, UnhealthyError, as_user
from pvf.stack.processes import Entry, Record
from pvforecast.errors import StackError

_POLL_S = 0.05
_TAIL_LINES = 8
_LOG_LIMIT_BYTES = 20_000_000
_EXIT_GRACE_S = 5.0

# The part waits for a line before it becomes the server: by then it stands in the record, so that no moment
# exists in which a killed supervisor leaves a server nobody knows of. End of file means the supervisor is gone.
_GATE = ('read -r _ && exec "$@" </dev/null',)


@dataclass
class _Running:
    part: Part
    process: subprocess.Popen[bytes]
    entry: Entry
    began: float
    log: Path
    log_start: int  # byte in the log where this start begins


class Supervisor:
    """Runs parts as children of this process.

    Parameters
    ----------
    run_dir, log_dir : folders that exist; the record of what runs, and one `<part>.log` each.
    on_event : gets one line of progress at a time.
    """

    def __init__(self, parts: Sequence[Part], run_dir: Path, log_dir: Path, on_event: Callable[[str], None]) -> None:
        self._parts = {part.name: part for part in parts}
        self._stages = _stages(self._parts)
        self._record = Record(run_dir / "parts.json")
        self._log_dir = log_dir
        self._on_event = on_event
        self._running: dict[str, _Running] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {name: running.process.pid for name, running in self._running.items()}

    def log(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"

    def start(self) -> None:
        """Start everything; independent parts side by side. Returns when all are healthy.

        Raises StackError when a part ends or is not healthy in time. The caller stops what was started.
        """
        waiting, starting, up = dict(self._parts), list[_Running](), set[str]()
        while waiting or starting:
            for part in [part for part in waiting.values() if up.issuperset(part.needs)]:
                del waiting[part.name]
                starting.append(self._spawn(part))
            time.sleep(_POLL_S)
            self.check()
            for running in list(starting):
                if self._healthy(running):
                    running.part.finish()
                    starting.remove(running)
                    up.add(running.part.name)
                    seconds = time.monotonic() - running.began
                    self._on_event(f"{running.part.name} up in {seconds:.1f} s  {running.part.url}".rstrip())

    def check(self) -> None:
        """Raises StackError when a part has ended."""
        for running in self._running.values():
            code = running.process.poll()
            if code is not None:
                raise self._failure(running, _how_it_ended(code))

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """End all parts in reverse order. Safe to call again."""

        def stopped(entry: Entry, seconds: float) -> None:
            self._on_event(f"{entry.name} stopped in {seconds:.1f} s")

        running, self._running = self._running, {}
        processes.stop([one.entry for one in running.values()], hurry=hurry, on_stopped=stopped)
        for one in running.values():
            one.process.wait(_EXIT_GRACE_S)
        self._record.write([])

    def _spawn(self, part: Part) -> _Running:
        began = time.monotonic()
        part.prepare()
        log = self.log(part.name)
        if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
            log.rename(log.with_suffix(".log.1"))
        with open(log, "ab") as out:
            log.chmod(0o600)
            log_start = out.tell()
            process = subprocess.Popen(
                ["/bin/sh", "-c", *_GATE, part.name, *part.command],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(part.env),
                cwd=part.cwd,
                start_new_session=True,
                **as_user(part.user),
            )
        entry = self._entry(part, process.pid)
        running = _Running(part, process, entry, began, log, log_start)
        self._running[part.name] = running
        self._record.write(one.entry for one in self._running.values())
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
        return running

    def _entry(self, part: Part, pid: int) -> Entry:
        found = processes.stat(pid)
        return Entry(
            part.name,
            pid,
            started=found.started if found else 0,
            stage=self._stages[part.name],
            stop_signal=part.stop_signal,
            stop_deadline_s=part.stop_deadline_s,
            folder=str(part.folder.resolve()) if part.folder else "",
        )

    def _healthy(self, running: _Running) -> bool:
        try:
            running.part.health()
        except UnhealthyError as error:
            if time.monotonic() - running.began > running.part.start_deadline_s:
                late = f"was not healthy within {running.part.start_deadline_s:.0f} s: {error}"
                raise self._failure(running, late) from error
            return False
        return True

    def _failure(self, running: _Running, what: str) -> StackError:
        with open(running.log, "rb") as log:
            log.seek(max(running.log_start, running.log.stat().st_size - 20_000))
            lines = log.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
        tail = "".join(f"\n    {line[:300]}" for line in lines) or " (empty)"
        return StackError(
            f"{what}; last lines of its log:{tail}\n", field=running.part.name, hint=f"log: {running.log}"
        )


def _how_it_ended(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def _stages(parts: dict[str, Part]) -> dict[str, int]:
    """How many needs deep each part stands."""

    def depth(name: str) -> int:
        return 1 + max((depth(need) for need in parts[name].needs), default=-1)

    return {name: depth(name) for name in parts}
