"""`pvf run --once`, as its user runs it: the whole path on real data, and what its last line claims."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from inference.prediction_log import store as prediction_log
from inference.prediction_log.record import RESPONSE, Row
from inference.transformer.forecast import digest
from pvf import client
from pvf.stack.local import Stack
from pvforecast import clients, dataset, features, snapshot
from pvforecast.lake import records
from pvforecast.settings import Settings
from pvforecast.sources.pvdaq_samples import FREE_COLUMNS
from tests.stack_fixtures import new_home

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.e2e, pytest.mark.stack]


SMALL = {"rounds": 40, "trees": 12, "corrector_rounds": 40}
"""Half of the run is training; a small model takes the same way in a quarter of the time."""


@dataclass(frozen=True)
class Demo:
    """A finished first run."""

    home: Path
    summary: dict[str, Any]
    output: str


def run_demo(home: Path) -> tuple[dict[str, Any], str]:
    command = [sys.executable, "-m", "pvf", "run", "--once"]
    env = {**os.environ, "PVF_HOME": str(home), "PVF_RECIPE": json.dumps(SMALL)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1]), done.stdout


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    home = new_home()
    summary, output = run_demo(home)
    yield Demo(home, summary, output)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def again(demo: Demo) -> Iterator[Stack]:
    """The stack, started once more on what the first run left."""
    with Stack(demo.home, clock="snapshot") as stack:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if httpx.get(f"{stack.urls['predictor']}/v2/models/pv-forecast/ready").status_code == httpx.codes.OK:
                break
            time.sleep(0.3)
        yield stack


def test_the_last_line_holds_what_was_promised(demo: Demo) -> None:
    s = demo.summary
    assert s["parks"] == 2
    assert s["forecast_rows"] == 2 * 48
    assert s["bit_equal_rows"] == s["forecast_rows"]
    assert s["model_version"] == "1"
    assert s["skill"] >= 0.55
    assert s["skill"] == pytest.approx(1 - s["daylight_nmae"] / s["smart_persistence_daylight_nmae"])
    assert s["retrain_verdict"] in ("refresh", "promote")
    assert s["serving_model_version"] == "2"
    assert len(s["drift_event_id"]) >= 16
    assert s["seconds"] < 900  # beside other tests; alone it takes 4-6 minutes on two cores


def test_the_reader_is_told_what_the_weather_was_and_what_was_corrected(demo: Demo) -> None:
    assert "observed weather: optimistic" in demo.output
    assert any("follows daylight-saving time" in line for line in demo.summary["corrected_clocks"])
    assert "P10" in demo.output
    assert "metered" in demo.output
    assert (demo.home / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_left_running(demo: Demo) -> None:
    left = [p for p in psutil.process_iter(["cmdline"]) if str(demo.home) in " ".join(p.info["cmdline"] or [])]
    assert left == []


@pytest.mark.slow
def test_the_skill_is_that_of_pvf_backtest(demo: Demo) -> None:
    command = [sys.executable, "-m", "pvf", "backtest", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    scores = json.loads(done.stdout)["pvdaq-50"]
    assert demo.summary["skill"] == scores["skill"]
    assert demo.summary["daylight_nmae"] == scores["daylight_nmae"]


def test_state_survives_a_restart(demo: Demo, again: Stack) -> None:
    answer = client.forecast(again.settings, [{"park_id": "pvdaq-50"}])
    assert str(answer.predictions[0]["model_version"]) == demo.summary["serving_model_version"]


def test_a_served_row_is_the_training_path_s_row(again: Stack) -> None:
    """Not from the snapshot this time: straight from the lake, as featurize reads it."""
    predictions, rows = served(again.settings)
    every = clients.everything(again.settings)
    spec = features.with_extra(FREE_COLUMNS)
    for logged in rows[0].data["predictions"]:
        record = records.load(every.lake, logged["park_id"])
        issued_at = instants([logged["issued_at"]])[0]
        trained = dataset.build(record, spec, [issued_at], len(logged["valid_at"]))
        known = snapshot.read(every.store, logged["park_id"], logged["snapshot_id"])
        rebuilt = features.build_known(spec, known, issued_at, instants(logged["valid_at"]))
        assert trained.features.tobytes() == rebuilt.tobytes()
        assert [digest(row) for row in trained.features] == logged["row_digests"]
        assert logged["spec_hash"] == spec.hash
    assert len(predictions) == 2


def test_the_event_leads_to_the_mlflow_run_and_the_promotion(demo: Demo, again: Stack) -> None:
    every = clients.everything(again.settings)
    event = httpx.get(f"{again.settings.trigger_url}/events/{demo.summary['drift_event_id']}").json()
    run_id = event["run"]["mlflow_run_id"]
    assert run_id == demo.summary["retrain_mlflow_run_id"]
    run = every.tracking.run(run_id)
    assert run["tags"]["event_id"] == demo.summary["drift_event_id"]
    assert run["tags"]["verdict"] == demo.summary["retrain_verdict"]
    newest, first = every.promotions.history()
    assert newest.event_id == demo.summary["drift_event_id"]
    assert newest.predecessor == first.id
    assert newest.mlflow_run_id == run_id
    assert {"data_versions", "pvforecast.git_commit", "bundle_uri"} <= set(run["tags"])
    assert every.tracking.champion_version() == newest.model_version


def test_rollback_serves_the_earlier_model_again(demo: Demo, again: Stack) -> None:
    env = {**os.environ, "PVF_HOME": str(demo.home)}
    command = [sys.executable, "-m", "pvf", "model", "rollback", "--reason", "test"]
    subprocess.run(command, cwd=ROOT, env=env, check=True, timeout=60, capture_output=True)
    deadline = time.monotonic() + 15
    version = ""
    while version != "1" and time.monotonic() < deadline:
        version = str(client.forecast(again.settings, [{"park_id": "pvdaq-50"}]).predictions[0]["model_version"])
        time.sleep(0.3)
    assert version == "1"


def served(settings: Settings) -> tuple[list[dict[str, Any]], list[Row]]:
    """One answered request, and its response row in the prediction log."""
    answer = client.forecast(settings, [{"park_id": "pvdaq-50"}, {"park_id": "serf-east"}])
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        found = prediction_log.find(settings.postgres_dsn.get_secret_value(), request_id=answer.request_id)
        rows = [row for row in found if row.type == RESPONSE]
        if rows:
            return answer.predictions, rows
        time.sleep(0.2)
    raise AssertionError(f"{answer.request_id} did not reach the prediction log")


def instants(texts: list[str]) -> Any:
    import numpy as np

    return np.array([text.removesuffix("Z") for text in texts], "datetime64[s]")
