"""Which processes a run started, and how they are ended.

Only the standard library and /proc: the guardian imports this, and it has to be small and quick.
Each part leads a session of its own, so its members are found by session number, and their descendants by
parent. Postgres' backends open sessions of their own and lose their parent when it is killed: they are found by
their working directory.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_POLL_S = 0.05
_KILL_WAIT_S = 5.0


@dataclass(frozen=True)
class Stat:
    """One line of the process table; `started` is in clock ticks since boot and tells reused pids apart."""

    pid: int
    parent: int
    session: int
    started: int
    zombie: bool


@dataclass(frozen=True)
class Entry:
    """A part that was started: the leader of its session, and how to end it."""

    name: str
    pid: int
    started: int
    stage: int  # parts of a higher stage need those of lower ones, so they stop first
    stop_signal: int = int(signal.SIGTERM)
    stop_deadline_s: float = 10.0
    folder: str = ""  # whatever works in this directory belongs to the part as well


def stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the command, in brackets, may hold spaces and brackets
    return Stat(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in "ZX")


def alive(pid: int) -> bool:
    """A zombie counts as dead: it holds no port, no lock and no file."""
    found = stat(pid)
    return found is not None and not found.zombie


def table() -> dict[int, Stat]:
    """All processes that can be seen."""
    rows = (stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {row.pid: row for row in rows if row is not None}


def members(entry: Entry) -> set[Stat]:
    """The living processes of a part: its session, what works in its folder, and all their descendants."""
    rows = table()
    leader = rows.get(entry.pid)
    found = {one.pid for one in working_in(entry.folder) if one.started >= entry.started} if entry.folder else set()
    if leader is None or leader.started == entry.started:
        found |= {pid for pid, row in rows.items() if row.session == entry.pid and row.started >= entry.started}
    # otherwise the number was given to a stranger, which happens only when our session is empty
    while more := {pid for pid, row in rows.items() if row.parent in found} - found:
        found |= more
    return {rows[pid] for pid in found if pid in rows and not rows[pid].zombie}


def working_in(folder: str) -> set[Stat]:
    """The living processes with that working directory, as far as this user may know."""
    found = set()
    for row in table().values():
        try:
            if os.readlink(f"/proc/{row.pid}/cwd") == folder and not row.zombie:
                found.add(row)
        except OSError:  # another user's, or gone meanwhile
            continue
    return found


def stop(
    entries: Iterable[Entry],
    *,
    hurry: Callable[[], bool] = lambda: False,
    on_stopped: Callable[[Entry, float], None] = lambda _entry, _seconds: None,
) -> None:
    """End parts, highest stage first: stop signal, deadline, then SIGKILL to all that is left.

    `hurry` is asked while waiting; True means to kill now. Returns when nothing of them is left.
    """
    by_stage: dict[int, list[Entry]] = {}
    for entry in entries:
        by_stage.setdefault(entry.stage, []).append(entry)
    for stage in sorted(by_stage, reverse=True):
        _stop_together(by_stage[stage], hurry, on_stopped)


def _stop_together(entries: list[Entry], hurry: Callable[[], bool], on_stopped: Callable[[Entry, float], None]) -> None:
    began = time.monotonic()
    crowd = {entry: members(entry) for entry in entries}
    for entry in entries:
        if any(one.pid == entry.pid for one in crowd[entry]):
            _signal(entry.pid, entry.stop_signal)
    leaderless: set[Entry] = set()
    while crowd:
        now = time.monotonic()
        for entry in list(crowd):
            # what was seen once is followed further, even when it left the session or lost its parent
            left = {one for one in crowd[entry] | members(entry) if _same(one)}
            crowd[entry] = left
            if not left:
                del crowd[entry]
                on_stopped(entry, now - began)
            elif now - began > entry.stop_deadline_s or hurry():
                for one in left:
                    _signal(one.pid, signal.SIGKILL)
                if now - began > entry.stop_deadline_s + _KILL_WAIT_S:
                    del crowd[entry]  # unkillable (in the kernel): nothing more can be done from here
            elif entry not in leaderless and not any(one.pid == entry.pid for one in left):
                leaderless.add(entry)
                for one in left:
                    _signal(one.pid, signal.SIGTERM)
        if crowd:
            time.sleep(_POLL_S)


def _same(one: Stat) -> bool:
    now = stat(one.pid)
    return now is not None and not now.zombie and now.started == one.started


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


class Record:
    """The file that names what is running, for the guardian and for the next start."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, entries: Iterable[Entry]) -> None:
        write_atomically(self.path, json.dumps({"boot": _boot_id(), "parts": [asdict(e) for e in entries]}))

    def read(self) -> list[Entry]:
        """Empty when there is no record, or when it is from before a reboot."""
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        if content["boot"] != _boot_id():
            return []
        return [Entry(**part) for part in content["parts"]]

    def sweep(self) -> list[Entry]:
        """End what an earlier run left behind; returns what was still alive."""
        left = [entry for entry in self.read() if members(entry)]
        stop(left)
        self.path.unlink(missing_ok=True)
        return left


def write_atomically(path: Path, text: str) -> None:
    """Write a file of mode 0600 so that readers see the old content or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    part.rename(path)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # some sandboxes have none
        return ""
