"""The drill: a loss that stays is found, learned once, and cleared.

The whole local stack on the two real parks, months replayed in minutes; the way of the event as `pvf drift trace`
tells it. What becomes of a fault in the data: test_drift_outage.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.drift.history import ACCURACY
from inference.prediction_log import store as prediction_log
from pvf import children, client
from pvf.demo import loop, scenario
from pvf.stack.local import Stack
from pvforecast import clients, fleet
from pvforecast.errors import PvForecastError
from pvforecast.evaluation import holdout
from pvforecast.evaluation.backtest import score
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.model import bundle as bundles
from pvforecast.settings import Settings, to_env
from pvforecast.shards import as_datetime64
from pvforecast.sources.pvdaq_samples import PARKS
from tests.retrain_trigger import until
from tests.stack_fixtures import new_home

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"rounds": 40, "trees": 12, "corrector_rounds": 40}
END = scenario.LOSS_FROM + scenario.WATCHED
pytestmark = [pytest.mark.stack, pytest.mark.slow]


@dataclass(frozen=True)
class Drill:
    """The running stack, and the event of the loss with its run."""

    stack: Stack
    event: dict[str, Any]

    @property
    def settings(self) -> Settings:
        return self.stack.settings

    @property
    def lake(self) -> Lake:
        return clients.everything(self.settings).lake


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    """Two and a half years learned, references frozen; then a tenth is lost, found, and the retrain has ended."""
    home = new_home()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVF_RECIPE", json.dumps(SMALL))
        with Stack(home, clock="snapshot") as stack:
            settings = stack.settings
            lake = clients.everything(settings).lake
            for park in PARKS:
                fleet.register(lake, park)
            span = {"since": scenario.BEGIN.isoformat(), "as_of": scenario.NOW.isoformat()}
            children.pipeline("ingestion", settings, span)
            children.pipeline("training", settings, {"as_of": scenario.NOW.isoformat(), "reason": "first model"})
            _ask_once(settings)
            loop.make_references(settings, print)
            event_id = loop.plant_and_detect(settings, print)
            yield Drill(stack, loop.await_retrain(settings, event_id, stack.check))
    shutil.rmtree(home)


def _ask_once(settings: Settings) -> None:
    """A forecast of the day that is checked first, into the log."""
    until(lambda: _answers(settings), 120)
    until(lambda: prediction_log.recent(settings.postgres_dsn.get_secret_value(), scenario.PARK) != [], 60)


def _answers(settings: Settings) -> bool:
    with contextlib.suppress(PvForecastError):
        return bool(client.forecast(settings, [{"park_id": scenario.PARK}]).predictions)
    return False


def pvf(settings: Settings, *words: str) -> str:
    """What a command of the program printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pvf", *words], cwd=ROOT, env={**os.environ, **to_env(settings)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(settings: Settings, park: str, first: datetime, last: datetime) -> list[dict[str, Any]]:
    """Daily checks up to the first event."""
    words = ("--park", park, "--as-of", first.isoformat(), "--until", last.isoformat())
    return [json.loads(line) for line in pvf(settings, "drift", "check", *words).splitlines()]


def trace(settings: Settings, event_id: str) -> dict[str, dict[str, Any]]:
    """The steps by name."""
    steps = json.loads(pvf(settings, "drift", "trace", event_id, "--json"))["steps"]
    return {step["step"]: step for step in steps}


def test_a_loss_that_stays_is_one_event_one_run_and_a_new_champion(drill: Drill) -> None:
    run, champion = drill.event["run"], clients.promotions(drill.settings).champion()
    runs = httpx.get(f"{drill.settings.trigger_url}/runs", timeout=30).json()["runs"]
    assert [one["id"] for one in runs] == [run["id"]]
    assert (champion.mlflow_run_id, champion.model_version) == (run["mlflow_run_id"], 2)
    steps = trace(drill.settings, drill.event["id"])
    assert [*steps] == ["event", "run", "verdict", "mlflow", "promotion", "announced", "cleared"]
    assert "loss_or_soiling, advice retrain" in steps["event"]["says"]
    assert steps["run"]["id"] == str(run["id"])
    assert steps["mlflow"] == {
        "step": "mlflow", "id": run["mlflow_run_id"], "at": None, "says": f"names event {drill.event['id']}",
    }  # fmt: skip
    assert steps["promotion"]["id"] == str(champion.id)
    assert (steps["cleared"]["id"], steps["cleared"]["says"]) == ("", "not yet")


def test_the_new_champion_has_no_bias_left(drill: Drill) -> None:
    every = clients.everything(drill.settings)
    new, old = every.promotions.history()
    record = records.load(every.lake, scenario.PARK)
    begin, end = as_datetime64(drill.event["event_time"]), as_datetime64(END.isoformat())
    issues = holdout.issues(record, begin, end)
    bias = {
        name: score(bundles.load(every.store, one.bundle_uri), record, issues).model["daylight_bias"]
        for name, one in (("old", old), ("new", new))
    }
    print(f"daylight bias on {len(issues)} days after the event, of capacity: {bias}")
    assert len(issues) >= 7
    assert abs(bias["new"]) < 0.01
    assert abs(bias["new"]) < abs(bias["old"])


def test_what_was_served_is_scored_beside_the_model_s_hold_out(drill: Drill) -> None:
    every = clients.everything(drill.settings)
    rows = [row for row in every.lake.read(DRIFT_SCORES).to_pylist() if row["kind"] == ACCURACY]
    first = {row["name"]: row for row in rows if row["day"] == f"{scenario.NOW:%Y-%m-%d}"}
    promised = every.tracking.run(every.promotions.history()[-1].mlflow_run_id)["metrics"]
    assert {row["reference_id"] for row in first.values()} == {"1"}
    assert 0.0 < first["nmae"]["value"] < 0.3
    assert first["skill"]["limit"] == promised[f"holdout.{scenario.PARK}.skill"]
    assert first["nmae"]["limit"] == promised[f"holdout.{scenario.PARK}.daylight_nmae"]


def test_accepted_it_is_cleared_and_stays_so(drill: Drill) -> None:
    after = END + timedelta(days=1)
    words = ("--change-at", f"{scenario.LOSS_FROM:%Y-%m-%d}", "--as-of", after.isoformat())
    said = json.loads(pvf(drill.settings, "drift", "accept", scenario.PARK, *words))
    cleared = trace(drill.settings, drill.event["id"])["cleared"]
    assert (cleared["id"], cleared["says"]) == (said["event_id"], "accepted")
    again = datetime.fromisoformat(drill.event["event_time"])
    lines = check(drill.settings, scenario.PARK, again, after)
    assert {line["status"] for line in lines} == {"ok"}
    assert len(lines) >= 7
