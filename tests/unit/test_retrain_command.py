"""The training command: written down, started in a group of its own, ended whole."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from inference.retrain import command
from pvforecast.errors import InvalidInput


def _wait(condition: object, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_without_a_setting_it_is_the_local_pipeline() -> None:
    words = command.from_environment({})
    assert words[1:4] == ("-m", "pipelines.local", "training")


def test_placeholders_are_filled_and_other_braces_left_alone() -> None:
    words = command.from_environment({"PVF_TRAINING_COMMAND": '["run", "--at={as_of}", "{\\"a\\": 1}", "{reason}"]'})
    values = {"as_of": "2013-09-21T12:00:00+00:00", "reason": "drift {of} it; $(rm)", "event_id": "x"}
    assert command.filled(words, values) == [
        "run",
        "--at=2013-09-21T12:00:00+00:00",
        '{"a": 1}',
        "drift {of} it; $(rm)",
    ]


@pytest.mark.parametrize("text", ["", "train --now", "[]", '{"a": 1}', '["a", 1]'])
def test_what_is_not_a_list_of_words_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="PVF_TRAINING_COMMAND"):
        command.from_environment({"PVF_TRAINING_COMMAND": text})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('training...\n{"run_id": "r", "verdict": "refresh", "model_version": 2}\n', "refresh"),
        ('{"verdict": "refresh"}\nnot the last line', None),
        ('{"run_id": "r"}', None),
        ('["verdict"]', None),
        ("", None),
    ],
)
def test_the_verdict_is_the_last_line(tmp_path: Path, text: str, verdict: str | None) -> None:
    output = tmp_path / "run.out"
    output.write_text(text)
    found = command.verdict(output)
    assert (found and found["verdict"]) == verdict


def test_a_long_output_does_not_hide_the_verdict(tmp_path: Path) -> None:
    output = tmp_path / "run.out"
    output.write_text("x" * 1_000_000 + '\n{"verdict": "keep"}')
    assert command.verdict(output) == {"verdict": "keep"}


def test_a_run_that_left_nothing_has_no_verdict(tmp_path: Path) -> None:
    assert command.verdict(tmp_path / "missing") is None
    assert command.last_line(tmp_path / "missing") == ""


def test_stopping_ends_the_whole_group_even_what_ignores_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "STOP_GRACE_S", 0.5)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stubborn!r}])"
    process = command.start([sys.executable, "-c", parent], tmp_path / "out", tmp_path / "log", tmp_path / "lock")
    assert _wait(lambda: (tmp_path / "out").read_text().startswith("up"))
    (child,) = psutil.Process(process.pid).children()
    command.stop(process)
    assert process.poll() is not None
    assert _wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_process_is_known_by_its_start_time_too(tmp_path: Path) -> None:
    process = command.start(
        [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "out", tmp_path / "log", tmp_path / "lock"
    )
    begun = command.created(process.pid)
    assert command.alive(process.pid, begun)
    assert not command.alive(process.pid, begun - 100.0)
    command.stop(process)
    assert not command.alive(process.pid, begun)
    assert not command.alive(None, None)


def test_a_process_holds_its_lock_from_start_to_end_whoever_asks(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not command.holds(lock)
    process = command.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "o", tmp_path / "l", lock)
    assert command.holds(lock)
    command.stop(process)
    assert not command.holds(lock)
