"""What happens to the stack when things die, are in the way, or come back. Kill rounds: `make test-slow`."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pvf.stack import processes
from pvf.stack.local import Stack
from pvf.stack.part import python_env
from pvf.stack.processes import Entry, Record
from pvforecast.errors import NotReady, StackError
from tests.stack_fixtures import object_store

pytestmark = [pytest.mark.stack, pytest.mark.slow]

_INFRA = ["seaweedfs", "postgres"]
_RUN = """
import sys
from pathlib import Path
from pvf.stack.local import Stack
try:
    with Stack(Path(sys.argv[1]), sys.argv[2].split(","), on_event=lambda line: print(line, flush=True)) as stack:
        print("READY", flush=True)
        stack.wait()
except KeyboardInterrupt:
    pass
print("ORDERLY", flush=True)
"""


def _run_elsewhere(home: Path, *, until_ready: bool = True) -> subprocess.Popen[str]:
    """The same stack in a process of its own, to be killed."""
    child = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(home), ",".join(_INFRA)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=python_env(),
    )
    assert child.stdout is not None
    if until_ready:
        seen = []
        for line in child.stdout:
            seen.append(line)
            if line == "READY\n":
                break
        else:
            pytest.fail("it did not start:\n" + "".join(seen))
    return child


def _entries(home: Path) -> list[Entry]:
    return Record(home / "run" / "parts.json").read()


def _everything(home: Path) -> set[processes.Stat]:
    """All processes of the stack on that home, as they are now."""
    return {one for entry in _entries(home) for one in processes.members(entry)}


def _left(before: set[processes.Stat]) -> set[int]:
    return {
        one.pid for one in before if (now := processes.stat(one.pid)) and now.started == one.started and not now.zombie
    }


def _end(child: subprocess.Popen[str]) -> str:
    text, _ = child.communicate(timeout=60)
    return text


def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time allowed"
        time.sleep(0.05)


def _pid(home: Path, part: str) -> int:
    return next(entry.pid for entry in _entries(home) if entry.name == part)


def test_a_demanded_port_that_is_taken_is_named(stack_home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=f"port of postgres: port {port} is taken"):
            Stack(stack_home, _INFRA, ports={"postgres": port}).__enter__()
    assert not _entries(stack_home)


def test_state_and_addresses_survive_a_restart_and_a_change_of_ports(stack_home: Path) -> None:
    with Stack(stack_home, _INFRA) as stack:
        object_store(stack.settings).put("models/kept", b"first")
        with psycopg.connect(stack.settings.postgres_dsn.get_secret_value()) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            connection.execute("INSERT INTO kept VALUES (42)")
        urls = stack.urls
    with Stack(stack_home, _INFRA) as stack:
        assert stack.urls == urls
    lines: list[str] = []
    ports = json.loads((stack_home / "run" / "ports.json").read_text())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ports["seaweedfs-master"]))
        other.listen()
        (stack_home / "run" / "ports.json").write_text(
            json.dumps({"seaweedfs-master": ports["seaweedfs-master"]})  # all others are forgotten as well
        )
        with Stack(stack_home, _INFRA, on_event=lines.append) as stack:
            assert not set(stack.urls.values()) & set(urls.values())
            store = object_store(stack.settings)
            assert store.get("models/kept") == b"first"
            store.put("models/later", b"second")
            assert store.get("models/later") == b"second"
            with psycopg.connect(stack.settings.postgres_dsn.get_secret_value()) as connection:
                assert connection.execute("SELECT x FROM kept").fetchone() == (42,)
    assert any(f"port {ports['seaweedfs-master']} of seaweedfs-master is taken" in line for line in lines)


def test_a_second_start_refuses_and_names_the_first(stack_home: Path) -> None:
    child = _run_elsewhere(stack_home)
    running = json.loads((stack_home / "run" / "stack.json").read_text())
    try:
        with pytest.raises(StackError, match=f"already running.*pid {child.pid}, {running['settings']['s3_endpoint']}"):
            Stack(stack_home, _INFRA).__enter__()
        assert all(processes.alive(part["pid"]) for part in running["parts"].values())
    finally:
        child.send_signal(signal.SIGTERM)
        assert "ORDERLY" in _end(child)
    assert child.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(stack_home: Path, number: signal.Signals) -> None:
    child = _run_elsewhere(stack_home)
    before = _everything(stack_home)
    assert {entry.name for entry in _entries(stack_home)} == set(_INFRA)
    child.send_signal(number)
    assert "ORDERLY" in _end(child)
    assert not _left(before)
    assert not (stack_home / "run" / "stack.json").exists()
    assert not (stack_home / "postgres" / "data" / "postmaster.pid").exists()


@pytest.mark.parametrize("part", _INFRA)
def test_a_killed_part_ends_the_stack_with_a_clear_line(stack_home: Path, part: str) -> None:
    with Stack(stack_home, _INFRA) as stack:
        before = _everything(stack_home)
        os.kill(_pid(stack_home, part), signal.SIGKILL)
        with pytest.raises(StackError) as caught:
            stack.wait()
    assert f"{part}: was killed by SIGKILL" in str(caught.value)
    assert f"log: {stack_home}/log/{part}.log" in str(caught.value)
    assert len(str(caught.value).splitlines()) > 2, "it shows the last lines of the log"
    assert not _left(before), "backends of Postgres included, which open sessions of their own"
    with Stack(stack_home, _INFRA) as again:
        again.check()


def test_what_fails_because_a_part_died_is_reported_as_the_dead_part(stack_home: Path) -> None:
    def work() -> None:
        with Stack(stack_home, _INFRA) as stack:
            os.kill(_pid(stack_home, "postgres"), signal.SIGKILL)
            _until(lambda: not processes.alive(_pid(stack_home, "postgres")))
            psycopg.connect(stack.settings.postgres_dsn.get_secret_value())

    with pytest.raises(StackError, match="postgres: was killed by SIGKILL") as caught:
        work()
    assert isinstance(caught.value.__context__, psycopg.OperationalError)


def test_s3_killed_under_load_loses_nothing_it_acknowledged(stack_home: Path) -> None:
    acknowledged: dict[str, bytes] = {}
    tried: dict[str, bytes] = {}
    stop = threading.Event()

    def write(worker: int, stack: Stack) -> None:
        store, dice = object_store(stack.settings), random.Random(worker)
        for number in range(10_000):
            key, data = f"load/{worker}/{number:05d}", dice.randbytes(dice.choice([300, 20_000, 300_000]))
            tried[key] = data
            try:
                store.put(key, data)
            except NotReady:
                return
            acknowledged[key] = data
            if stop.is_set():
                return

    with Stack(stack_home, ["seaweedfs"]) as stack:
        workers = [threading.Thread(target=write, args=(number, stack)) for number in range(4)]
        for worker in workers:
            worker.start()
        _until(lambda: len(acknowledged) > 100)
        os.kill(_pid(stack_home, "seaweedfs"), signal.SIGKILL)
        stop.set()
        for worker in workers:
            worker.join(30)
        with pytest.raises(StackError, match="seaweedfs: was killed by SIGKILL"):
            stack.wait()
    with Stack(stack_home, ["seaweedfs"]) as stack:
        store = object_store(stack.settings)
        present = set(store.keys("load/"))
        assert set(acknowledged) <= present
        for key in present:
            assert store.get(key) == tried[key], "whole, or not there"
        store.put("load/after", b"writable again")
        assert store.get("load/after") == b"writable again"


def test_a_killed_supervisor_leaves_no_orphans(stack_home: Path) -> None:
    child = _run_elsewhere(stack_home)
    before = _everything(stack_home)
    child.kill()
    lines: list[str] = []
    with Stack(stack_home, _INFRA, on_event=lines.append) as stack:  # waits for the guardian
        assert not _left(before)
        object_store(stack.settings).put("after", b"works")
    _end(child)
    assert any(f"pid {child.pid}) ended abruptly" in line for line in lines)


def test_the_guardian_alone_ends_what_a_killed_supervisor_left(stack_home: Path) -> None:
    child = _run_elsewhere(stack_home)
    before = _everything(stack_home)
    assert len(before) > 5, "Postgres has several processes"
    child.kill()
    _until(lambda: not _left(before))
    _end(child)


def test_supervisor_and_guardian_killed_together_are_swept_at_the_next_start(stack_home: Path) -> None:
    child = _run_elsewhere(stack_home)
    before = _everything(stack_home)
    for row in processes.table().values():
        command = Path(f"/proc/{row.pid}/cmdline")
        if row.parent == child.pid and b"pvf.stack.guardian" in command.read_bytes():
            os.kill(row.pid, signal.SIGKILL)
    child.kill()
    _end(child)
    assert _left(before), "they live on"
    lines: list[str] = []
    with Stack(stack_home, _INFRA, on_event=lines.append):
        assert not _left(before)
    assert {f"ended {name}" for name in _INFRA} == {line.split(" (")[0] for line in lines if line.startswith("ended")}


def test_a_postmaster_file_with_the_number_of_a_stranger_is_no_obstacle(stack_home: Path) -> None:
    with Stack(stack_home, ["postgres"]):
        pass
    data = stack_home / "postgres" / "data"
    (data / "postmaster.pid").write_text(f"{os.getppid()}\n{data}\n1700000000\n5432\n\n127.0.0.1\n   1   1\nready\n")
    with (
        Stack(stack_home, ["postgres"]) as stack,
        psycopg.connect(stack.settings.postgres_dsn.get_secret_value()) as db,
    ):
        assert db.execute("SELECT 1").fetchone() == (1,)
    assert processes.alive(os.getppid())


def test_an_interrupted_first_start_is_completed_by_the_next(stack_home: Path) -> None:
    (stack_home / "postgres" / "data.part").mkdir(parents=True)
    (stack_home / "postgres" / "data.part" / "PG_VERSION").write_text("18\n")
    with Stack(stack_home, ["postgres"]) as stack:
        stack.check()
    assert not (stack_home / "postgres" / "data.part").exists()


@pytest.mark.slow
def test_killing_the_supervisor_at_any_moment_leaves_a_stack_that_starts(stack_home: Path) -> None:
    dice = random.Random(7)
    for _ in range(15):
        child = _run_elsewhere(stack_home, until_ready=False)
        time.sleep(dice.uniform(0.1, 3.0))
        child.kill()
        _end(child)
    with Stack(stack_home, _INFRA) as stack:
        object_store(stack.settings).put("after", b"works")
        ours = {entry.pid for entry in _entries(stack_home)}
    word = str(stack_home).encode()
    left = [
        row.pid
        for row in processes.table().values()
        if row.pid not in ours and not row.zombie and word in Path(f"/proc/{row.pid}/cmdline").read_bytes()
    ]
    assert not left
