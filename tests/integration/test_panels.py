"""Every query of every dashboard, asked of a real Prometheus that scrapes the whole local stack.

The stack is real; its model is small, its runs and checks are few: what is looked for is that no panel is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pandas as pd
import pytest

from inference.page.numbers import Dashboard, Numbers
from inference.panels import DASHBOARDS
from pipelines import ended
from pvf import client, exporter
from pvf.monitoring import scrape
from pvf.stack.local import Stack
from pvforecast import clients, fleet, ingestion, promoting, refining, snapshot
from pvforecast.errors import PvForecastError
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.model import bundle as bundles
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples
from tests.bundles import record, site, tiny_bundle
from tests.debian import requires_debian
from tests.monitoring import prometheus, query
from tests.retrain_trigger import EXAMPLE, VERDICT
from tests.stack_fixtures import new_home

pytestmark = [pytest.mark.stack, pytest.mark.slow, requires_debian("prometheus")]
NOW = datetime(2013, 8, 10, 6, tzinfo=UTC)
WAIT_S = 420.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """All parts, both real parks over ten days, a small champion, a drift that led to a run."""
    home = new_home()
    with pytest.MonkeyPatch.context() as patch:
        done = [sys.executable, "-c", f"print({json.dumps(json.dumps(VERDICT))})"]
        patch.setenv("PVF_TRAINING_COMMAND", json.dumps(done))
        with Stack(home, clock="snapshot") as started:
            _fill(clients.everything(started.settings))
            ended.note(home, "training", failed=False)
            headers = {"content-type": "application/cloudevents+json"}
            sent = httpx.post(started.urls["trigger"], content=json.dumps(EXAMPLE), headers=headers, timeout=60)
            assert sent.status_code == httpx.codes.ACCEPTED
            yield started
    shutil.rmtree(home)


def _fill(every: clients.Clients) -> None:
    source = PvdaqSamples()
    for park in PARKS:
        fleet.register(every.lake, park)
        ingestion.ingest(every.lake, source, park, NOW - timedelta(days=10), NOW)
        refining.validate(every.lake, [park], NOW - timedelta(days=10), NOW)
        known = records.load(every.lake, park.id).known_at(pd.Timestamp(NOW).tz_localize(None).to_datetime64())
        snapshot.write(every.store, known)
    run_id = every.tracking.start_run("small", {}, {})
    scores = {"daylight_nmae": 0.06, "daylight_bias": 0.01, "daylight_picp80": 0.8, "skill": 0.6}
    every.tracking.log(run_id, metrics={f"holdout.{PARKS[0].id}.{name}": value for name, value in scores.items()})
    promoting.deploy(
        every.store, every.tracking, every.promotions, predecessor=0,
        bundle_uri=bundles.save(every.store, tiny_bundle(record(site()))), run_id=run_id, verdict="promote",
        reason="first", actor="test",
    )  # fmt: skip
    _check(every.lake)


def _check(lake: Lake) -> None:
    """What the drift job would have stored of one check."""
    common = {
        "park_id": PARKS[0].id, "day": "2013-08-09", "limit": 0.2, "alarm": False,
        "checked_at": pd.Timestamp(NOW), "reference_id": "r",
    }  # fmt: skip
    measures = [("detector", "cusum_clr"), ("psi", "temp"), ("weather", "temp")]
    measures += [("accuracy", name) for name in ("nmae", "persistence", "bias", "coverage", "hours")]
    rows = [{**common, "kind": kind, "name": name, "value": 0.15} for kind, name in measures]
    lake.append_new(DRIFT_SCORES, pd.DataFrame(rows))


def test_no_panel_is_empty(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> None:
    admin = json.loads((stack.settings.home / "run" / "ports.json").read_text())["gateway-admin"]
    exporting = exporter.serve(stack.settings, "127.0.0.1", 0)
    targets = scrape.targets(stack.urls, admin, f"127.0.0.1:{exporting.server_port}")
    exprs = [one.expr for _, panels in DASHBOARDS.values() for panel in panels for one in panel.queries]
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets, every="15s") as url:
        hours = itertools.cycle(range(1, 49))  # another question each time: one asked before is answered from memory

        def empty() -> list[str]:
            for park in (PARKS[0].id, "unheard-of"):  # a forecast, and an error
                with contextlib.suppress(PvForecastError):
                    client.forecast(stack.settings, [{"park_id": park, "horizon_hours": next(hours)}])
            return [expr for expr in exprs if not any(sample["value"][1] != "NaN" for sample in query(url, expr))]

        deadline = time.monotonic() + WAIT_S
        while (left := empty()) and time.monotonic() < deadline:
            time.sleep(3)
        shown = asyncio.run(_shown(url))
    exporting.shutdown()
    exporting.server_close()
    assert left == []
    assert [len(one["panels"]) for one in shown] == [len(panels) for _, panels in DASHBOARDS.values()]
    assert [panel["title"] for one in shown for panel in one["panels"] if not panel["values"]] == []


async def _shown(url: str) -> list[Dashboard]:
    """What the page's status view has of them."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        return await Numbers(client).now() or []
