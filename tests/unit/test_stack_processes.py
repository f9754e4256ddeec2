"""Processes are found, told apart and ended; nothing of a part stays."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pvf.stack import processes
from pvf.stack.processes import Entry, Record


@pytest.fixture
def spawn() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts shell scripts as leaders of their own sessions."""
    started: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _entry(process: subprocess.Popen[bytes], **more: object) -> Entry:
    found = processes.stat(process.pid)
    assert found is not None
    return replace(Entry("part", process.pid, found.started, 0), **more)  # type: ignore[arg-type]


def _ready(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"


def test_a_part_is_its_session_and_what_left_it(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    process = spawn("sleep 60 & setsid sleep 60 & echo ready; wait")
    _ready(process)
    entry = _entry(process)
    deadline = time.monotonic() + 5
    while len({one.session for one in processes.members(entry)}) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    found = processes.members(entry)
    assert len(found) == 3
    assert len({one.session for one in found}) == 2
    processes.stop([entry])
    assert not any(processes.alive(one.pid) for one in found)


def test_a_reused_number_is_not_mistaken_for_the_part(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    process = spawn("echo ready; sleep 60")
    _ready(process)
    stale = replace(_entry(process), started=_entry(process).started - 1)
    assert processes.members(stale) == set()
    processes.stop([stale])
    assert processes.alive(process.pid)


def test_what_ignores_the_stop_signal_is_killed_after_its_deadline(
    spawn: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    process = spawn("trap '' TERM; echo ready; sleep 60 & wait; sleep 60")
    _ready(process)
    entry = _entry(process, stop_deadline_s=0.3)
    began = time.monotonic()
    processes.stop([entry])
    assert 0.3 <= time.monotonic() - began < 3
    assert process.wait(1) == -signal.SIGKILL
    assert not processes.members(entry)


def test_hurry_kills_at_once(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    process = spawn("trap '' TERM; echo ready; while :; do sleep 1; done")
    _ready(process)
    began = time.monotonic()
    processes.stop([_entry(process, stop_deadline_s=30)], hurry=lambda: True)
    assert time.monotonic() - began < 2


def test_the_children_of_a_dead_leader_are_ended(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    process = spawn("sleep 60 & echo ready; wait")
    _ready(process)
    entry = _entry(process)
    process.kill()
    process.wait()
    assert len(processes.members(entry)) == 1
    processes.stop([entry])
    assert not processes.members(entry)


def test_what_left_session_and_parent_is_found_by_its_folder(
    spawn: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = spawn(f"cd {tmp_path} && setsid sleep 60 & sleep 0.2; echo ready; wait")
    _ready(process)
    lost, entry = _entry(process), _entry(process, folder=str(tmp_path.resolve()))
    process.kill()
    process.wait()
    assert processes.members(lost) == set()
    (left,) = processes.members(entry)
    processes.stop([entry])
    assert not processes.alive(left.pid)


def test_the_stop_signal_is_the_parts_own(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    process = spawn("trap 'exit 7' INT; trap '' TERM; echo ready; while :; do sleep 0.05; done")
    _ready(process)
    processes.stop([_entry(process, stop_signal=int(signal.SIGINT))])
    assert process.wait(1) == 7


def test_higher_stages_stop_first(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    entries = []
    for name, stage in (("base", 0), ("top", 2), ("middle", 1)):
        process = spawn("echo ready; exec sleep 60")
        _ready(process)
        entries.append(_entry(process, name=name, stage=stage))
    order: list[str] = []
    processes.stop(entries, on_stopped=lambda entry, _: order.append(entry.name))
    assert order == ["top", "middle", "base"]


def test_the_record_comes_back_and_is_for_its_owner_only(tmp_path: Path) -> None:
    record = Record(tmp_path / "parts.json")
    assert record.read() == []
    entries = [Entry("a", 1, 2, 0), Entry("b", 3, 4, 1, stop_deadline_s=2.5)]
    record.write(entries)
    assert record.read() == entries
    assert record.path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [record.path]


def test_a_record_from_before_a_reboot_or_half_written_names_nobody(tmp_path: Path) -> None:
    record = Record(tmp_path / "parts.json")
    record.write([Entry("a", 1, 2, 0)])
    content = json.loads(record.path.read_text())
    record.path.write_text(json.dumps({**content, "boot": "another"}))
    assert record.read() == []
    record.path.write_text('{"boot": ')
    assert record.read() == []


def test_a_zombie_counts_as_dead(spawn: Callable[[str], subprocess.Popen[bytes]]) -> None:
    process = spawn("exit 0")
    deadline = time.monotonic() + 5
    while processes.alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes.stat(process.pid) is not None, "not reaped yet"
    assert not processes.alive(process.pid)
