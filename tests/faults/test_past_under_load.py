"""Models of the past are loaded beside live questions, by a predictor with a bundle of real size."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.serve import fleet
from pvforecast.known import HOUR
from pvforecast.settings import Settings
from tests.bundles import NOW
from tests.serving import EARLIER, Serving, eventually, serving, text

pytestmark = [pytest.mark.stack, pytest.mark.slow]

CLIENTS = 4
SECONDS = 10.0
LIVE = {"park_id": "sim-a"}


@contextmanager
def live_questions(stack: Serving) -> Iterator[list[tuple[int, float]]]:
    """So many clients ask, one question after the other; status and ms of each."""
    seen: list[tuple[int, float]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=15) as client:
            while not stop.is_set():
                begun = time.perf_counter()
                answer = client.post(f"{stack.url}/v1/models/pv-forecast:predict", json={"instances": [LIVE]})
                seen.append((answer.status_code, (time.perf_counter() - begun) * 1e3))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def p95(seen: list[tuple[int, float]]) -> float:
    assert {status for status, _ in seen} == {200}, Counter(status for status, _ in seen)
    return round(float(np.percentile([ms for _, ms in seen], 95)), 1)


def rss_mb(stack: Serving) -> int:
    process = stack.services["predictor"].process
    assert process is not None
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def test_live_questions_go_on_while_models_of_the_past_are_loaded(
    infra: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three bundles of the past, of which a predictor keeps two: asked for in turn, each question loads one anew."""
    made, last = fleet.bundles(fleet.record())
    times = [EARLIER + 4 * number * HOUR for number in range(3)]
    figures: dict[str, Any] = {"bundle_mb": round(sum(map(len, made.files.values())) / 1e6, 1)}
    with serving(infra, "predictor", "transformer", PVF_PREDICTION_LOG_URL="") as stack:
        for number, since in enumerate(times):
            stack.promoted(replace(made, info={**made.info, "name": number}), str(number + 1), since)
        stack.promoted(last, "4", NOW - HOUR)
        stack.deploy(last, "4")
        eventually(lambda: stack.ask(LIVE).status_code == 200, 60)
        with live_questions(stack) as seen:
            time.sleep(SECONDS)
        figures |= {"live_p95_ms": p95(seen), "predictor_mb": rss_mb(stack)}
        begun = time.perf_counter()
        eventually(lambda: stack.ask(LIVE | {"issued_at": text(times[0])}).status_code == 200, 60)
        figures["first_answer_s"] = round(time.perf_counter() - begun, 2)
        statuses: Counter[int] = Counter()
        with live_questions(stack) as seen:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                for since in times:
                    statuses[stack.ask(LIVE | {"issued_at": text(since)}).status_code] += 1
        figures |= {"live_p95_ms_while_loading": p95(seen), "past_answers": dict(statuses)}
        loads = (stack.folder / "predictor.log").read_text().count("is loaded for questions of the past")
        figures |= {"loads": loads, "predictor_mb_after": rss_mb(stack)}
    with capsys.disabled():
        print(figures)
    assert set(statuses) <= {200, 503}
    assert statuses[200]
    assert loads > 3
    assert figures["live_p95_ms_while_loading"] < 1_000
