"""The two real parks, a planted loss in a lake on S3: the drift job finds it, the trigger starts training once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from pvforecast import fleet, ingestion, refining
from pvforecast.lake import Lake
from pvforecast.lake.store import s3_options
from pvforecast.settings import Settings
from pvforecast.sources.pvdaq_samples import PARKS, PlantedLoss, PvdaqSamples
from tests.retrain_trigger import Trigger, schema

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-drift" / "bin" / "python"
BEGIN, END = datetime(2012, 6, 1, tzinfo=UTC), datetime(2013, 10, 6, tzinfo=UTC)
REFERENCE_UNTIL = "2013-08-01T12:00:00Z"
LOSS = PlantedLoss("pvdaq-50", datetime(2013, 9, 5, 6, tzinfo=UTC), 0.10)
SCHEMA = json.loads((ROOT / "inference" / "drift" / "event.schema.json").read_text())


@pytest.fixture(scope="module")
def environment(infra: Settings) -> dict[str, str]:
    """Of the drift job: arguments come by command line, secrets by these variables."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PVF_", "K_SINK", "PYTHONPATH"))}
    return {
        **inherited,
        "PVF_LAKE_URI": f"s3://{infra.s3_bucket}/test-drift-loop",
        "PVF_S3_ENDPOINT": infra.s3_endpoint,
        "PVF_S3_ACCESS_KEY": infra.s3_access_key.get_secret_value(),
        "PVF_S3_SECRET_KEY": infra.s3_secret_key.get_secret_value(),
    }


@pytest.fixture(scope="module")
def lake(environment: dict[str, str]) -> Lake:
    """16 months of both parks, pvdaq-50 a tenth short from 5 September 2013 on; with references up to August."""
    keys = (environment[f"PVF_S3_{name}"] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY"))
    lake = Lake(environment["PVF_LAKE_URI"], s3_options(*keys))
    source = PvdaqSamples(loss=LOSS)
    for park in PARKS:
        fleet.register(lake, park)
        ingestion.ingest(lake, source, park, BEGIN, END)
        refining.validate(lake, [park], BEGIN, END)
    made = _drift(environment, "reference", "--all", "--until", REFERENCE_UNTIL)
    assert {line["park_id"]: line["kind"] for line in made} == {"pvdaq-50": "full", "serf-east": "provisional"}
    return lake


@pytest.fixture
def trigger(infra: Settings, tmp_path: Path) -> Iterator[Trigger]:
    with schema(infra) as dsn, Trigger(dsn, tmp_path) as started:
        yield started


def _drift(environment: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [PYTHON, "-m", "inference.drift", *arguments, "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_before_the_loss_both_parks_are_quiet(lake: Lake, environment: dict[str, str]) -> None:
    lines = _drift(environment, "check", "--all", "--as-of", "2013-08-02T12:00:00Z", "--until", "2013-09-05T12:00:00Z")
    assert {(line["park_id"], line["status"]) for line in lines} == {("pvdaq-50", "ok"), ("serf-east", "ok")}
    assert len(lines) == 2 * 35


@pytest.mark.slow
def test_the_loss_is_one_event_and_one_run_however_often_it_is_checked(
    lake: Lake, environment: dict[str, str], trigger: Trigger
) -> None:
    replay = ("check", "--all", "--as-of", "2013-09-06T12:00:00Z", "--until", "2013-10-04T12:00:00Z")
    lines = _drift({**environment, "K_SINK": trigger.url}, *replay)
    found = [line for line in lines if line["status"] == "drift"]
    assert [line["park_id"] for line in found] == ["pvdaq-50"]
    event = found[0]["event"]
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(event)
    data = event["data"]
    assert (data["cause"]["likely"], data["advice"]) == ("loss_or_soiling", "retrain")
    assert data["alarms"][0]["detector"] in ("cusum_level", "cusum_clr")
    assert data["cause"]["evidence"]["power_ratio"] == pytest.approx(0.9, abs=0.03)
    assert "2013-09-01" <= data["windows"]["recent"]["first"] <= "2013-09-08"

    assert found[0]["delivered"] == 202
    run = trigger.wait_for("succeeded")
    assert run["event_ids"] == [found[0]["event_id"]]
    again = _drift({**environment, "K_SINK": trigger.url}, "check", "--park", "pvdaq-50", "--as-of", event["time"])
    assert (again[0]["event"], again[0]["delivered"]) == (event, 200)
    assert len(trigger.calls()) == 1


def test_the_example_follows_the_schema() -> None:
    example = json.loads((ROOT / "inference" / "drift" / "event.example.json").read_text())
    Draft202012Validator(SCHEMA, format_checker=FormatChecker()).validate(example)


def test_a_dead_object_store_is_one_clear_line(environment: dict[str, str]) -> None:
    dead = {**environment, "PVF_S3_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run(
        [PYTHON, "-m", "inference.drift", "check", "--all", "--as-of", "2013-09-05T12:00:00Z"],
        cwd=ROOT, env=dead, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert line.startswith("drift: the lake did not answer")
    assert "is the object store running?" in line
