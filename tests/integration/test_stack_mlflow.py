"""MLflow as the stack starts it: runs in Postgres, artifacts in S3 behind the server, models with aliases."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from pvf.stack.local import Stack
from tests.stack_fixtures import object_store

pytestmark = pytest.mark.stack


@pytest.mark.slow
def test_a_run_an_artifact_and_an_alias_survive_a_restart(stack_home: Path) -> None:
    with Stack(stack_home, ["mlflow"]) as stack:
        api = stack.settings.mlflow_uri + "/api/2.0/mlflow"
        experiment = _call(f"{api}/experiments/create", name="stack-test")["experiment_id"]
        run = _call(f"{api}/runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        _call(f"{api}/runs/log-parameter", run_id=run, key="depth", value="6")
        artifact = f"{stack.settings.mlflow_uri}/api/2.0/mlflow-artifacts/artifacts/{experiment}/{run}/artifacts/a.txt"
        _send("PUT", artifact, b"kept in S3")
        _call(f"{api}/registered-models/create", name="pv-forecast")
        _call(
            f"{api}/model-versions/create",
            name="pv-forecast",
            source=f"mlflow-artifacts:/{experiment}/{run}/artifacts",
            run_id=run,
        )
        _call(f"{api}/registered-models/alias", name="pv-forecast", alias="champion", version="1")
        keys = list(object_store(stack.settings).keys("mlflow/"))
        assert any(key.endswith("/a.txt") for key in keys)
        first_urls = stack.urls
    with Stack(stack_home, ["mlflow"]) as stack:
        assert stack.urls == first_urls
        api = stack.settings.mlflow_uri + "/api/2.0/mlflow"
        found = json.loads(_send("GET", f"{api}/runs/get?run_id={run}"))
        assert found["run"]["data"]["params"] == [{"key": "depth", "value": "6"}]
        champion = json.loads(_send("GET", f"{api}/registered-models/alias?name=pv-forecast&alias=champion"))
        assert champion["model_version"]["version"] == "1"
        assert _send("GET", artifact) == b"kept in S3"


@pytest.mark.slow
def test_a_run_comes_back_and_its_artifact_lies_in_s3(stack_home: Path) -> None:
    with Stack(stack_home, ["mlflow"]) as stack:
        api = stack.settings.mlflow_uri + "/api/2.0/mlflow"
        run = _call(f"{api}/runs/create", experiment_id="0")["run"]["info"]["run_id"]
        _call(f"{api}/runs/log-parameter", run_id=run, key="depth", value="6")
        artifact = f"{stack.settings.mlflow_uri}/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/a.txt"
        _send("PUT", artifact, b"kept in S3")
        store = object_store(stack.settings)
        (key,) = (key for key in store.keys("mlflow/") if key.endswith("/a.txt"))
        assert store.get(key) == b"kept in S3"
        found = json.loads(_send("GET", f"{api}/runs/get?run_id={run}"))
        assert found["run"]["data"]["params"] == [{"key": "depth", "value": "6"}]


def _call(url: str, **body: str) -> Any:
    return json.loads(_send("POST", url, json.dumps(body).encode()))


def _send(method: str, url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        data: bytes = answer.read()
    return data
