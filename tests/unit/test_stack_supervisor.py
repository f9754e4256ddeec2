"""The supervisor with shell scripts for parts: order, deadlines, clear errors."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pvf.stack.part import Part, UnhealthyError, bare_env
from pvf.stack.processes import Record
from pvf.stack.supervisor import Supervisor
from pvforecast.errors import StackError


def _healthy_when(file: Path) -> Callable[[], None]:
    def check() -> None:
        if not file.exists():
            raise UnhealthyError(f"{file.name} is not there")

    return check


def _part(name: str, script: str, folder: Path, **more: object) -> Part:
    """A part that is healthy once its script has made the file named like it."""
    values: dict[str, object] = {"health": _healthy_when(folder / name), "env": bare_env(), "cwd": folder, **more}
    return Part(name, ("/bin/sh", "-c", script), **values)  # type: ignore[arg-type]


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def build(tmp_path: Path, events: list[str]) -> Callable[..., Supervisor]:
    return lambda *parts: Supervisor(parts, tmp_path, tmp_path, events.append)


def test_a_part_waits_for_what_it_needs_and_stops_before_it(
    tmp_path: Path, build: Callable[..., Supervisor], events: list[str]
) -> None:
    base = _part("base", "sleep 0.2; touch base; exec sleep 60", tmp_path)
    top = _part("top", "test -e base && test -e finished && touch top; exec sleep 60", tmp_path, needs=("base",))
    alone = _part("alone", "touch alone; exec sleep 60", tmp_path)
    base = Part(**{**vars(base), "finish": (tmp_path / "finished").touch})
    supervisor = build(top, base, alone)
    supervisor.start()
    assert [line.split()[0] for line in events] == ["alone", "base", "top"]
    events.clear()
    supervisor.stop()
    assert events[0].startswith("top stopped")
    assert Record(tmp_path / "parts.json").read() == []
    supervisor.stop()  # again is fine


def test_a_part_that_ends_while_starting_is_named_with_code_and_last_lines(
    tmp_path: Path, build: Callable[..., Supervisor]
) -> None:
    supervisor = build(_part("weak", "echo 'no such option: --frobnicate' >&2; exit 3", tmp_path))
    with pytest.raises(StackError, match="weak: ended with exit code 3") as caught:
        supervisor.start()
    supervisor.stop()
    assert "no such option: --frobnicate" in str(caught.value)
    assert f"log: {tmp_path}/weak.log" in str(caught.value)


def test_the_last_lines_are_those_of_this_start(tmp_path: Path, build: Callable[..., Supervisor]) -> None:
    (tmp_path / "weak.log").write_text("an error of yesterday\n")
    supervisor = build(_part("weak", "exit 1", tmp_path))
    with pytest.raises(StackError) as caught:
        supervisor.start()
    supervisor.stop()
    assert "yesterday" not in str(caught.value)
    assert "(empty)" in str(caught.value)


def test_a_program_that_does_not_exist_is_an_error_with_its_name(
    tmp_path: Path, build: Callable[..., Supervisor]
) -> None:
    supervisor = build(Part("gone", ("/no/such/program",), _healthy_when(tmp_path / "gone"), env=bare_env()))
    with pytest.raises(StackError, match="/no/such/program"):
        supervisor.start()
    supervisor.stop()


def test_a_part_that_does_not_become_healthy_says_why(tmp_path: Path, build: Callable[..., Supervisor]) -> None:
    supervisor = build(_part("slow", "exec sleep 60", tmp_path, start_deadline_s=0.3))
    with pytest.raises(StackError, match=r"slow: was not healthy within 0 s: slow is not there"):
        supervisor.start()
    supervisor.stop()


def test_a_dead_part_is_noticed_while_others_still_start(tmp_path: Path, build: Callable[..., Supervisor]) -> None:
    base = _part("base", "touch base; sleep 0.3; exit 9", tmp_path)
    supervisor = build(base, _part("top", "exec sleep 60", tmp_path, needs=("base",)))
    with pytest.raises(StackError, match="base: ended with exit code 9"):
        supervisor.start()
    supervisor.stop()


def test_a_part_never_runs_before_it_is_recorded(tmp_path: Path, build: Callable[..., Supervisor]) -> None:
    code = "import os,json;text=open('parts.json').read();assert str(os.getpid()) in text;open('self','w').close();"
    command = (sys.executable, "-c", code + "import time;time.sleep(60)")
    supervisor = build(Part("self", command, _healthy_when(tmp_path / "self"), env=bare_env(), cwd=tmp_path))
    supervisor.start()
    supervisor.stop()


def test_parts_see_only_the_environment_they_are_given(
    tmp_path: Path, build: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the users own")
    supervisor = build(_part("env", "env > seen; touch env; exec sleep 60", tmp_path, env=bare_env(MINE="1")))
    supervisor.start()
    supervisor.stop()
    seen = (tmp_path / "seen").read_text()
    assert "MINE=1" in seen
    assert "the users own" not in seen


def test_a_big_log_is_put_aside(
    tmp_path: Path, build: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pvf.stack.supervisor._LOG_LIMIT_BYTES", 10)
    (tmp_path / "chatty.log").write_text("much more than ten bytes")
    supervisor = build(_part("chatty", "echo new; touch chatty; exec sleep 60", tmp_path))
    supervisor.start()
    supervisor.stop()
    assert (tmp_path / "chatty.log").read_text() == "new\n"
    assert (tmp_path / "chatty.log.1").read_text() == "much more than ten bytes"


def test_the_signal_that_killed_a_part_is_named(tmp_path: Path, build: Callable[..., Supervisor]) -> None:
    supervisor = build(_part("shot", "touch shot; kill -SEGV $$", tmp_path))
    with pytest.raises(StackError, match=f"shot: was killed by {signal.Signals.SIGSEGV.name}"):
        supervisor.start()
    supervisor.stop()
