"""The training command: how it is written down, started, watched and ended."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from pvforecast.errors import InvalidInput

DEFAULT = (
    sys.executable, "-m", "pipelines.local", "training",
    "--as-of", "{as_of}", "--reason", "{reason}", "--event-id", "{event_id}",
)  # fmt: skip
STOP_GRACE_S = 4.0  # the trigger itself is given 10 s by whoever stops it
_TAIL_BYTES = 65_536


def from_environment(environment: Mapping[str, str]) -> tuple[str, ...]:
    """`PVF_TRAINING_COMMAND`, a JSON list of words with {as_of}, {reason}, {event_id} in them; or the default.

    Raises
    ------
    InvalidInput
        it is something else.
    """
    text = environment.get("PVF_TRAINING_COMMAND")
    if text is None:
        return DEFAULT
    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise InvalidInput(
            f"{text!r} is not a JSON list of words", field="PVF_TRAINING_COMMAND",
            hint='e.g. ["python", "-m", "pipelines.local", "training", "--as-of", "{as_of}"]',
        )  # fmt: skip
    return tuple(words)


def filled(words: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The words with their placeholders replaced; other braces are left alone."""
    result = []
    for word in words:
        for name, value in values.items():
            word = word.replace("{" + name + "}", value)
        result.append(word)
    return result


def start(words: Sequence[str], output: Path, log: Path, lock: Path) -> subprocess.Popen[bytes]:
    """Start in a process group of its own, stdout to `output`, stderr to `log`.

    Files, not pipes: the child survives the death of the trigger, and its verdict can still be read. It holds `lock`
    from before its first instruction to its end, so that a trigger killed before it wrote down the pid is no loss.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("wb") as stdout, log.open("wb") as stderr, lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return subprocess.Popen(
            list(words), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
            pass_fds=(held.fileno(),),
        )  # fmt: skip


def holds(lock: Path) -> bool:
    """Whether the process that was started with `lock` lives."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def created(pid: int) -> float:
    """Start time of a process, seconds since the epoch; 0 when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def alive(pid: int | None, pid_created: float | None) -> bool:
    """Whether that very process (not another with its number) still works."""
    if pid is None or pid_created is None:
        return False
    try:
        process = psutil.Process(pid)
        same = abs(float(process.create_time()) - pid_created) < 1.0
        return same and str(process.status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: SIGTERM, 4 s, SIGKILL."""
    for number, patience in ((signal.SIGTERM, STOP_GRACE_S), (signal.SIGKILL, STOP_GRACE_S)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            process.poll()
            if not _group_lives(process.pid):
                return
            time.sleep(0.05)


def verdict(output: Path) -> dict[str, Any] | None:
    """The JSON object on the last line of `output` if it is one with a verdict."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, output.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
        value = json.loads(lines[-1]) if lines else None
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("verdict"), str) else None


def last_line(log: Path) -> str:
    """The last line of a log, for a short error message."""
    try:
        lines = log.read_text(errors="replace")[-4_000:].strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1][:500] if lines else ""


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
