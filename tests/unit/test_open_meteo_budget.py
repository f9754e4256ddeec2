"""The published limits are kept by many short processes together, and no more requests run at once than allowed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.errors import InvalidInput, NotReady
from pvforecast.sources.open_meteo_budget import FREE, NONE, Budget, Limits, limits_of
from pvforecast.sources.open_meteo_models import weight
from tests.contract.tree import ROOT


@dataclass
class Clock:
    """Time that passes only while one sleeps."""

    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def budget(folder: Path, limits: Limits, clock: Clock) -> Budget:
    return Budget(folder, limits, now=lambda: clock.now, sleep=clock.sleep)


def test_a_request_waits_until_the_minute_has_room(tmp_path: Path) -> None:
    clock = Clock()
    own = budget(tmp_path, Limits(100, 0, 0), clock)
    for _ in range(4):
        own.take(25)
        clock.now += 1
    own.take(50)  # room for it once the second of the four is a minute old
    assert sum(clock.slept) == pytest.approx(57.0)
    assert own.spent(60) == 100  # the last two of the four are still within the minute


def test_a_wait_that_is_too_long_is_refused_and_names_when(tmp_path: Path) -> None:
    clock = Clock()
    own = budget(tmp_path, Limits(0, 0, 100), clock)
    own.take(100)
    with pytest.raises(NotReady, match=r"allow 1 more calls from 1970-01-13T13:46:40Z on"):
        own.take(1)
    assert clock.slept == []
    clock.now += 86_400.5
    own.take(1)


def test_what_no_limit_ever_allows_is_an_error_of_the_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than the limit of 600"):
        Budget(tmp_path, FREE).take(601)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 400), st.floats(1, 60)), min_size=5, max_size=40))
def test_no_window_ever_holds_more_than_its_limit(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[float, float]]
) -> None:
    clock, limits = Clock(), Limits(100, 700, 2000)
    own = budget(tmp_path_factory.mktemp("budget"), limits, clock)
    taken = []
    for pause, amount in asked:
        clock.now += pause
        try:
            own.take(amount, longest_wait_s=5000)
        except NotReady:
            continue
        taken.append((clock.now, amount))
    for seconds, most in limits.windows:
        for end, _ in taken:
            assert sum(amount for at, amount in taken if end - seconds < at <= end) <= most + 1e-6


def test_another_process_remembers_what_was_asked(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pvforecast.sources.open_meteo_budget import *; "
        "b = Budget(Path(sys.argv[1]), FREE); [b.take(7) for _ in range(10)]; print(b.spent(60))"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [float(process.communicate(timeout=60)[0]) for process in started]
    assert max(said) == Budget(tmp_path, FREE).spent(60) == 210


def test_a_day_of_many_calls_stays_a_small_file(tmp_path: Path) -> None:
    clock = Clock()
    own = budget(tmp_path, Limits(0, 0, 100_000), clock)
    for _ in range(500):
        own.take(1)
        clock.now += 20
    assert own.spent(86_400) == 500
    assert len(json.loads((tmp_path / "calls.json").read_text())) < 300  # those older than an hour by the minute


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "calls.json").write_text("[[1")
    with pytest.raises(InvalidInput, match=r"calls.json: not what was written there"):
        Budget(tmp_path, FREE).take(1)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_requests_run_at_once_than_allowed(tmp_path: Path, at_once: int) -> None:
    running, most, guard = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with Budget(tmp_path, Limits(0, 0, 0, at_once)).slot():
            with guard:
                running += 1
                most = max(most, running)
            time.sleep(0.03)
            with guard:
                running -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == at_once


def test_limits_are_a_setting() -> None:
    assert limits_of("free") == FREE == Limits(600, 5000, 10_000, 1)
    assert limits_of("none") == NONE
    assert limits_of("60/0/900/2") == Limits(60, 0, 900, 2)
    for text in ("", "much", "1/2/3", "1/2/3/0", "-1/2/3/4"):
        with pytest.raises(InvalidInput, match="PVF_OPEN_METEO_LIMITS"):
            limits_of(text)


def test_many_variables_and_many_days_weigh_more() -> None:
    assert weight(100, 1, 1) == weight(100, 10, 14) == 100
    assert weight(1, 14, 3) == pytest.approx(1.4)
    assert weight(10, 20, 28) == pytest.approx(40)
