"""The trigger with the training command of a cluster: `pvf pipeline submit --wait --json`, against the KFP stand-in.

Postgres and MLflow are real. What a run would do there is done by hand: its MLflow run is made, and it ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pvforecast import clients
from pvforecast.settings import Settings, to_env
from tests.kfp_stub import KfpStub
from tests.retrain_trigger import EXAMPLE, Trigger, schema, until

pytestmark = [pytest.mark.stack, pytest.mark.slow]
COMMAND = [
    sys.executable, "-m", "pvf", "pipeline", "submit", "training", "--wait", "--json",
    "--as-of", "{as_of}", "--reason", "{reason}", "--event-id", "{event_id}",
]  # fmt: skip
WAIT_S = 240.0
_OWN = ("PVF_POSTGRES_DSN", "PVF_HOME", "PVF_LAKE_URI", "PVF_S3_ENDPOINT")  # without a lake the trigger asks of no park


@pytest.fixture
def kfp() -> Iterator[KfpStub]:
    with KfpStub(token="secret").running() as stub:
        yield stub


@pytest.fixture
def trigger(tracked: Settings, kfp: KfpStub, tmp_path: Path) -> Iterator[Trigger]:
    known = {name: value for name, value in to_env(tracked).items() if name not in _OWN}
    environment = {**known, "PVF_KFP_URL": kfp.url, "PVF_KFP_TOKEN": "secret"}
    with schema(tracked) as dsn, Trigger(dsn, tmp_path, COMMAND, environment=environment) as started:
        yield started


def _submitted(kfp: KfpStub) -> dict[str, Any]:
    until(lambda: bool(kfp.runs), WAIT_S)
    (run,) = kfp.runs.values()
    return run


def _ends(kfp: KfpStub, tracked: Settings, run_id: str) -> str:
    """As a training that went well leaves it; returns its MLflow run."""
    tracking = clients.tracking(tracked)
    mlflow_run = tracking.start_run("training", {}, {"pipeline_run": run_id})
    tracking.log(mlflow_run, tags={"verdict": "refresh", "verdict_reason": "fresh data", "model_version": "7"})
    kfp.finish(run_id, "SUCCEEDED")
    return mlflow_run


def test_an_event_is_one_run_on_the_server_with_its_reason_and_its_verdict_comes_back(
    tracked: Settings, kfp: KfpStub, trigger: Trigger
) -> None:
    assert trigger.post(EXAMPLE).status_code == 202
    submitted = _submitted(kfp)
    given = submitted["runtime_config"]["parameters"]
    assert given["event_id"] == EXAMPLE["id"]
    assert EXAMPLE["subject"] in given["reason"]
    mlflow_run = _ends(kfp, tracked, submitted["run_id"])
    until(lambda: trigger.runs()[0]["status"] != "active", WAIT_S)
    (run,) = trigger.runs()
    assert (run["status"], run["verdict"], run["pipeline_run_id"]) == ("succeeded", "refresh", submitted["run_id"])
    assert (run["mlflow_run_id"], run["model_version"], run["event_ids"]) == (mlflow_run, "7", [EXAMPLE["id"]])


def test_a_run_that_outlives_a_killed_trigger_is_found_on_the_server_and_not_started_twice(
    tracked: Settings, kfp: KfpStub, trigger: Trigger
) -> None:
    trigger.post(EXAMPLE)
    submitted = _submitted(kfp)
    trigger.process.kill()
    trigger.__exit__()
    with trigger:
        _ends(kfp, tracked, submitted["run_id"])
        until(lambda: trigger.runs()[0]["status"] == "succeeded", WAIT_S)
        assert len(kfp.runs) == 1
        assert {run["verdict"] for run in trigger.runs() if run["status"] == "succeeded"} == {"refresh"}


def test_a_run_that_fails_on_the_server_is_told_with_its_reason(kfp: KfpStub, trigger: Trigger) -> None:
    trigger.post(EXAMPLE)
    run_id = _submitted(kfp)["run_id"]
    kfp.finish(run_id, "FAILED", error={"code": 2, "message": "no data for training"})
    until(lambda: trigger.runs()[0]["status"] == "failed", WAIT_S)
    (run,) = trigger.runs()
    assert run_id in run["error"]
