"""The local runner is killed -9 in each step of a training in turn, and started again: as if nothing had happened.

Each round has a bucket, a promotions table and a drift event of its own, on servers that all share. Killed is the
runner with its task, as by the kernel, or the runner alone: then the task works on beside the second run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from minio import Minio
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from pvforecast import clients, fleet, wiring
from pvforecast.lake.tables import GENERATION, QUARANTINE, RAW_GENERATION, RAW_WEATHER, WEATHER, features
from pvforecast.model import bundle as bundles
from pvforecast.registry import DEPLOYED_KEY
from pvforecast.settings import Settings, to_env
from pvforecast.sources.pvdaq_samples import PARKS
from tests.contract.tree import ROOT

pytestmark = [pytest.mark.stack, pytest.mark.slow]

STEPS = (
    "logical_time", "plan", "ingest_weather", "ingest_generation", "validate", "featurize", "tally", "train",
    "evaluate", "compare", "refit", "deploy",
)  # fmt: skip
WRITING = ("validate", "featurize", "train", "refit", "deploy")
WINDOW = ("--since", "2012-06-11T06:00:00+00:00", "--as-of", "2012-08-10T06:00:00+00:00", "--reason", "a drill")
RECIPE = {"rounds": 30, "max_depth": 4, "trees": 4, "corrector_rounds": 20, "calibration_folds": 2}
TABLES = (RAW_WEATHER, RAW_GENERATION, WEATHER, GENERATION, QUARANTINE)
_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Place:
    """Where one training happens."""

    settings: Settings
    event_id: str

    def start(self) -> subprocess.Popen[str]:
        """The runner, leader of a process group; its log is ``log`` in its home."""
        home = self.settings.home
        home.mkdir(exist_ok=True)
        words = [sys.executable, "-m", "pipelines.local", "training", *WINDOW, "--event-id", self.event_id]
        with (home / "log").open("a") as log:
            return subprocess.Popen(
                words,
                cwd=ROOT,
                env={**os.environ, **to_env(self.settings), "PVF_GIT_COMMIT": "of the test"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def finish(self, runner: subprocess.Popen[str]) -> dict[str, Any]:
        out, _ = runner.communicate(timeout=_PATIENCE_S)
        assert runner.returncode == 0, (self.settings.home / "log").read_text()[-4_000:]
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result

    def rows(self) -> dict[str, int]:
        """Rows of each table; every key is there once."""
        lake = wiring.lake(self.settings)
        counts = {}
        built = features(())
        for table in (*TABLES, built):
            found = lake.query(table, f"SELECT count(*) AS n FROM t GROUP BY {', '.join(table.key)}")
            numbers = [] if found is None else found["n"].to_pylist()
            assert set(numbers) <= {1}, table.name
            counts[table.name] = len(numbers)
        return counts

    def bundles(self) -> dict[str, dict[str, bytes]]:
        """Files of each bundle by what it was made for, but for what names versions and runs. All of them are whole."""
        store = wiring.objects(self.settings)
        found = {}
        for bundle_id in {key.split("/")[2] for key in store.keys(f"{bundles.PREFIX}/")}:
            whole = bundles.load(store, f"s3://{store.bucket}/{bundles.PREFIX}/{bundle_id}")
            files = {name: data for name, data in whole.files.items() if name != "bundle.json"}
            found[whole.info["purpose"]] = files
        return found


@pytest.fixture
def place(tracked: Settings, tmp_path: Path) -> Place:
    return new_place(tracked, tmp_path)


def new_place(tracked: Settings, folder: Path) -> Place:
    name = f"killed-{uuid.uuid4().hex[:8]}"
    keys = tracked.s3_access_key.get_secret_value(), tracked.s3_secret_key.get_secret_value()
    Minio(tracked.s3_endpoint.removeprefix("http://"), *keys, secure=False).make_bucket(name)
    dsn = tracked.postgres_dsn.get_secret_value()
    with psycopg.connect(dsn) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    own = SecretStr(make_conninfo(dsn, options=f"-c search_path={name}"))
    settings = tracked.model_copy(
        update={
            "home": folder / "home",
            "s3_bucket": name,
            "lake_uri": f"s3://{name}/lake",
            "postgres_dsn": own,
            "recipe": RECIPE,
        }
    )
    fleet.register_all(wiring.lake(settings), list(PARKS))
    return Place(settings, event_id=name)


@dataclass(frozen=True)
class Undisturbed:
    """A training that nobody killed: what it gave, and how long each step took."""

    place: Place
    result: dict[str, Any]
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def undisturbed(tracked: Settings, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    place = new_place(tracked, tmp_path_factory.mktemp("undisturbed"))
    runner = place.start()
    seen: dict[str, list[float]] = {}
    while runner.poll() is None:
        step = _step_of(runner)
        if step:
            seen.setdefault(step, [time.monotonic()] * 2)[1] = time.monotonic()
        time.sleep(0.05)
    assert set(seen) == set(STEPS)
    return Undisturbed(place, place.finish(runner), {step: last - first for step, (first, last) in seen.items()})


@pytest.mark.parametrize(("step", "whole"), [*((step, True) for step in STEPS), *((step, False) for step in WRITING)])
def test_killed_and_started_again_it_is_the_same(
    place: Place, undisturbed: Undisturbed, step: str, whole: bool
) -> None:
    chance = random.Random(f"{step}{whole}")
    runner = place.start()
    until = time.monotonic() + _PATIENCE_S
    while _step_of(runner) != step:
        assert runner.poll() is None, f"it ended before {step}"
        assert time.monotonic() < until
        time.sleep(0.02)
    moment = time.monotonic() + chance.uniform(0.0, 0.95) * undisturbed.seconds[step]
    while time.monotonic() < moment and _step_of(runner) == step:  # it may be quicker now than it was undisturbed
        time.sleep(0.02)
    orphans = [] if whole else psutil.Process(runner.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole else os.kill)(runner.pid, signal.SIGKILL)
    runner.communicate(timeout=60)
    assert runner.returncode == -signal.SIGKILL

    result = place.finish(place.start())
    psutil.wait_procs(orphans, timeout=60)

    calm = undisturbed.place
    assert [result[key] for key in ("verdict", "reason")] == [undisturbed.result[key] for key in ("verdict", "reason")]
    assert place.rows() == calm.rows()
    assert place.bundles() == calm.bundles()
    history = clients.promotions(place.settings).history()
    assert len(history) == 1
    versions = [v for v in clients.tracking(place.settings).versions() if place.settings.s3_bucket in v.bundle_uri]
    assert [(v.version, v.bundle_uri) for v in versions] == [(history[0].model_version, history[0].bundle_uri)]
    assert wiring.objects(place.settings).get_json(DEPLOYED_KEY)["promotion_id"] == history[0].id


def _step_of(runner: subprocess.Popen[str]) -> str | None:
    """The component whose body a child of the runner executes."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(runner.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = child.cmdline()
                if "--function_to_execute" in words:
                    return words[words.index("--function_to_execute") + 1]
    return None
