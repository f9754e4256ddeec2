"""Postgres stopped, then the sink, under steady requests: no prediction waits, none is lost, none is stored twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest

from pvf.stack.local import Stack
from pvforecast.settings import Settings
from tests.bundles import record, site, tiny_bundle
from tests.serving import Serving, eventually, serving

pytestmark = [pytest.mark.stack, pytest.mark.slow]

OUTAGE_S = 40.0


class Asker(threading.Thread):
    """Ten requests a second until it is told to stop."""

    def __init__(self, made: Serving) -> None:
        super().__init__(daemon=True)
        self._made = made
        self._stopping = threading.Event()
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        while not self._stopping.wait(0.1):
            begin, name = time.monotonic(), f"asked-{len(self.seconds)}"
            assert self._made.ask({"park_id": "sim-a"}, **{"x-request-id": name}).status_code == 200
            self.seconds[name] = time.monotonic() - begin

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def test_an_outage_of_postgres_and_of_the_sink_costs_nothing(infra: Settings, stack_home: Path) -> None:
    def postgres() -> Stack:
        return Stack(stack_home, ["postgres"])

    with postgres() as stack:
        dsn = stack.settings.postgres_dsn.get_secret_value()
        with serving(infra, PVF_POSTGRES_DSN=dsn) as made:
            for name in ("predictor", "transformer", "sink"):
                made.services[name].start()
            for name in ("predictor", "transformer", "sink"):
                made.services[name].wait()
            made.deploy(tiny_bundle(record(site("sim-a"))), "1")
            eventually(lambda: made.ask({"park_id": "sim-a"}).status_code == 200)
            asker = Asker(made)
            asker.start()
            time.sleep(5)
            stack.stop()
            time.sleep(OUTAGE_S)
            with postgres():
                time.sleep(5)
                assert made.services["sink"].stop() == 0
                time.sleep(OUTAGE_S / 2)
                made.services["sink"].start()
                time.sleep(5)
                asker.stop()
                eventually(lambda: not any(made.spool.iterdir()), 120)
                with psycopg.connect(dsn) as connection:
                    rows = connection.execute(
                        "SELECT request_id FROM prediction_log WHERE request_id LIKE 'asked-%'"
                    ).fetchall()
            metrics = httpx.get(f"{made.url}/metrics").text
    assert Counter(Counter(row[0] for row in rows).values()) == {2: len(asker.seconds)}
    assert len(asker.seconds) > 200
    assert {row[0] for row in rows} == set(asker.seconds)
    assert 'outcome="dropped"} 0.0' in metrics or 'outcome="dropped"' not in metrics
    assert max(asker.seconds.values()) < 1.5, "a prediction waited for the log"  # the sink's deadline is 2 s
