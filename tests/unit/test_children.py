"""A child process of a command ends with the command, its tasks included."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pvf import children
from pvf.stack import processes, services
from pvforecast.settings import Settings


def test_who_leaves_early_leaves_nothing_running(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    seen: list[int] = []

    def interrupted() -> None:
        with children._started(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], settings, subprocess.DEVNULL) as child:
            assert child.stdout is not None
            seen.extend((child.pid, int(child.stdout.readline())))
            assert all(processes.alive(pid) for pid in seen)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 2
    assert not any(processes.alive(pid) for pid in seen)


def test_a_training_run_ends_with_its_killed_trigger(tmp_path: Path) -> None:
    part = services.trigger(tmp_path, 1, Settings(home=tmp_path))
    part.prepare()
    assert part.folder is not None
    script = (
        "import subprocess; p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid, flush=True); "
        "p.wait()"
    )
    trigger = subprocess.Popen(
        [sys.executable, "-c", script], cwd=part.cwd, stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert trigger.stdout is not None
    run = int(trigger.stdout.readline())
    found = processes.stat(trigger.pid)
    assert found is not None
    trigger.kill()
    trigger.wait()
    trigger.stdout.close()
    assert processes.alive(run)
    entry = processes.Entry("trigger", trigger.pid, found.started, 0, folder=str(part.folder.resolve()))
    processes.stop([entry])
    deadline = time.monotonic() + 5
    while processes.alive(run) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes.alive(run)
