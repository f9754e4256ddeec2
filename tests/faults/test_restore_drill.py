"""The drill: a platform that serves is backed up and destroyed, brought back elsewhere, and serves the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psycopg
import pytest

from inference.prediction_log.record import RESPONSE
from pvf import client
from pvf.stack.local import Stack
from pvforecast import clients, promoting, snapshot, wiring
from pvforecast.lake.tables import PARKS
from pvforecast.model import bundle as bundles
from pvforecast.registry import DEPLOYED_KEY
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import eventually, text
from tests.stack_fixtures import new_home

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
STORES = ["seaweedfs", "postgres"]
SERVING = ["predictor", "transformer", "gateway", "prediction-log", "mlflow"]
ARTIFACT = b"what a run keeps\n"


@dataclass(frozen=True)
class Seen:
    """What must be the same afterwards, to the byte."""

    forecast: bytes
    promotions: list[Any]
    champion: int | None
    deployed: dict[str, Any]
    artifact: bytes
    parks: pd.DataFrame
    logged: dict[str, dict[str, Any]]


def test_what_was_destroyed_serves_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backups, first, second = tmp_path / "backups", new_home(), new_home()
    with Stack(first, SERVING, clock="snapshot") as stack:
        _fill(stack.settings)
        before = _look(stack.settings)
        began = time.monotonic()
        made = json.loads(_pvf(first, "backup", "create", "--at", str(backups), "--json"))["backups"][0]
        took = time.monotonic() - began
    assert made["databases"] == ["mlflow", "postgres"]
    shutil.rmtree(first)

    began = time.monotonic()
    with Stack(second, STORES, clock="snapshot"):
        _pvf(second, "backup", "verify", "--at", str(backups))
        _pvf(second, "backup", "restore", "--at", str(backups))
        again = _pvf(second, "backup", "restore", "--at", str(backups), fails=True)
    assert "not empty" in again
    with Stack(second, SERVING, clock="snapshot") as stack:
        after = _look(stack.settings)
        back = time.monotonic() - began
        assert _smoke(stack.settings) == 0
    shutil.rmtree(second)

    assert after.forecast == before.forecast
    assert after.promotions == before.promotions
    assert after.champion == before.champion == before.promotions[0].model_version
    assert after.deployed == before.deployed
    assert after.artifact == before.artifact == ARTIFACT
    pd.testing.assert_frame_equal(after.parks, before.parks)
    assert before.logged
    assert {key: after.logged.get(key) for key in before.logged} == before.logged
    with capsys.disabled():
        print(json.dumps({"backup_s": round(took, 1), "back_in_service_s": round(back, 1), **made}))


def _fill(settings: Settings) -> None:
    """Two parks with their snapshots, a model that was promoted the usual way, a run with an artifact."""
    every = clients.everything(settings)
    began = pd.Timestamp("2013-01-01", tz="UTC")
    rows = [{"park_id": name, "valid_from": began, "recorded_at": began, "facts": "{}"} for name in ("sim-a", "sim-b")]
    wiring.lake(settings).append_new(PARKS, pd.DataFrame(rows))
    for name in ("sim-a", "sim-b"):
        snapshot.write(every.store, record(site(name)).known_at(NOW))
    run = every.tracking.start_run("training", {}, {})
    every.tracking.log(run, text={"note.txt": ARTIFACT.decode()})
    uri = bundles.save(every.store, tiny_bundle(record(site("sim-a"))))
    job = {"predecessor": 0, "bundle_uri": uri, "run_id": run, "verdict": "promote"}
    job |= {"reason": "a drill", "actor": "test"}
    promoting.deploy(every.store, every.tracking, every.promotions, **job)


def _look(settings: Settings) -> Seen:
    every = clients.everything(settings)
    url, headers = settings.gateway_url + client.PATH, {"x-api-key": client.key(settings)}
    instances = [{"park_id": name, "issued_at": text(NOW)} for name in ("sim-a", "sim-b")]
    asked = {"url": url, "json": {"instances": instances}, "headers": headers, "timeout": 30}
    eventually(lambda: httpx.post(**asked).status_code == 200, 120)
    history = every.promotions.history()
    run = history[0].mlflow_run_id
    eventually(lambda: _logged(settings), 60)
    return Seen(
        json.dumps(httpx.post(**asked).json()["predictions"], sort_keys=True).encode(),
        history,
        every.tracking.champion_version(),
        every.store.get_json(DEPLOYED_KEY),
        next(every.store.get(key) for key in every.store.keys("mlflow/") if run in key and key.endswith("note.txt")),
        wiring.lake(settings).read(PARKS).to_pandas(),
        _logged(settings),
    )


def _logged(settings: Settings) -> dict[str, dict[str, Any]]:
    with psycopg.connect(settings.postgres_dsn.get_secret_value()) as connection:
        rows = connection.execute("SELECT id, data FROM prediction_log WHERE type = %s", (RESPONSE,)).fetchall()
    return dict(rows)


def _smoke(settings: Settings) -> int:
    """What a deployment is tried with."""
    command = [sys.executable, "-I", "tools/smoke.py", "--url", settings.gateway_url, "--park", "sim-a"]
    environment = {"PVF_API_KEY": client.key(settings)}
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=60, check=False).returncode


def _pvf(home: Path, *words: str, fails: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PVF_")}
    done = subprocess.run(
        [sys.executable, "-m", "pvf", *words],
        cwd=ROOT,
        env=environment | {"PVF_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout
