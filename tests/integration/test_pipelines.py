"""The compiled pipelines under kfp.local, started as `pvf` and the retrain trigger start them, on real S3."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import local
from pipelines.compile import compile_all
from pvforecast import fleet, snapshot, wiring
from pvforecast.lake import Lake
from pvforecast.lake.tables import CLOCKS, GENERATION, QUARANTINE, RAW_GENERATION, RAW_WEATHER, WEATHER
from pvforecast.settings import Settings, to_env
from pvforecast.sources.pvdaq_samples import PARKS
from tests.contract.tree import ROOT
from tests.stack_fixtures import own_bucket

pytestmark = pytest.mark.stack

WINDOW = ("--since", "2013-07-20T06:00:00+00:00", "--as-of", "2013-08-01T06:00:00+00:00")
LATER = "2013-08-20T06:00:00+00:00"
REFUSAL = "as_of: '2013-08-01T06:00:00' has no UTC offset (e.g. 2013-08-20T06:00:00+00:00)"

Refused = tuple[subprocess.Popen[str], Path]


@dataclass(frozen=True)
class Run:
    """One run of a pipeline, and what the lake and the bucket held right after it."""

    result: dict[str, Any]
    rows: dict[str, int]
    snapshots: list[str]


@pytest.fixture(scope="module")
def settings(infra: Settings) -> Settings:
    """A bucket of this module's own."""
    return own_bucket(infra, "pipelines")


@pytest.fixture(scope="module")
def refused(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Refused]:
    """A run of a source that there is none of; its plan fails, beside `backfill` to save time."""
    home = tmp_path_factory.mktemp("refused")
    (home / "profile.yaml").write_text("tasks: {plan: {retries: 0}}")  # else it fails three times, 90 s apart
    settings = settings.model_copy(update={"pipeline_profile": home / "profile.yaml"})
    with _start(settings, home, "ingestion", *WINDOW, "--set", 'source="crystal_ball"') as process:
        yield process, home / "log"


@pytest.fixture(scope="module")
def backfill(
    settings: Settings,
    refused: Refused,  # has begun
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Both parks, by the pipeline for it: a range of days, asked for when more was known already."""
    for park in PARKS:
        fleet.register(wiring.lake(settings), park)
    words = ("--since", WINDOW[1], "--as-of", LATER, "--set", f'until="{WINDOW[3]}"')
    return _loading(settings, tmp_path_factory.mktemp("backfill"), "backfill", *words)


@pytest.fixture(scope="module")
def again(settings: Settings, backfill: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same days once more, published, in two shards; one with a park that its source does not know."""
    fleet.register(wiring.lake(settings), PARKS[0].model_copy(update={"id": "atlantis"}))
    words = (*WINDOW, "--set", "parks_per_shard=2")
    return _loading(settings, tmp_path_factory.mktemp("again"), "ingestion", *words)


def test_every_park_is_loaded(backfill: Run) -> None:
    assert backfill.result == {"as_of": LATER, "left_out": {}, "without_weather": {}}
    days = 2 * 12
    assert days * 96 - 20 <= backfill.rows["raw/generation"] <= days * 96
    assert backfill.rows["raw/weather"] == (days + 2) * 48  # the run of the last midnight is known too
    assert days * 24 - 8 <= backfill.rows["processed/generation"] <= days * 24
    assert backfill.rows["processed/weather"] == backfill.rows["raw/weather"]


def test_a_backfill_leaves_snapshots_alone(backfill: Run) -> None:
    assert backfill.snapshots == []


@pytest.mark.slow
def test_a_run_again_adds_no_row(backfill: Run, again: Run) -> None:
    assert again.rows == backfill.rows


@pytest.mark.slow
def test_a_park_that_fails_is_reported_and_the_others_are_published(settings: Settings, again: Run) -> None:
    assert set(again.result["left_out"]) == {"atlantis"}
    assert again.result["left_out"]["atlantis"].startswith("failed: UnknownPark: park_id: 'atlantis' is not in")
    store = wiring.objects(settings)
    assert snapshot.parks(store) == ["pvdaq-50", "serf-east"]
    for park in snapshot.parks(store):
        entry = snapshot.latest_entry(store, park)
        assert entry is not None
        assert entry["as_of"] == "2013-08-01T06:00:00"
        known = snapshot.read(store, park, entry["snapshot_id"])
        assert str(known.history.valid_at[-1]) == "2013-08-01T04:00:00"  # of 05:00 the last quarter is not there yet
        assert known.weather is not None
        assert str(known.weather.run_at) == "2013-08-01T06:00:00"


def test_a_task_that_fails_ends_the_run_with_its_message_in_the_log(refused: Refused) -> None:
    process, log = refused
    out, _ = process.communicate(timeout=300)
    assert (process.returncode, out) == (1, "")
    assert "InvalidInput: source: no source 'crystal_ball'" in log.read_text()


def test_what_can_be_refused_before_the_run_is(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in to_env(settings.model_copy(update={"home": tmp_path})).items():
        monkeypatch.setenv(name, value)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert local.main(["ingestion", "--as-of", "2013-08-01T06:00:00"]) == 1
    assert said.getvalue().splitlines()[-1] == f"ingestion failed: {REFUSAL}"
    assert not (tmp_path / "runs").exists()


def test_another_process_compiles_to_the_same_bytes(tmp_path: Path) -> None:
    program = "import sys, pathlib; from pipelines import compile; compile.compile_all(pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-c", program, str(tmp_path / "there")]
    subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "1"}, check=True, timeout=120)
    here = {file.name: file.read_bytes() for file in compile_all(tmp_path / "here").values()}
    assert set(here) == {"backfill.yaml", "ingestion.yaml", "maintenance.yaml", "training.yaml"}
    assert here == {file.name: file.read_bytes() for file in (tmp_path / "there").iterdir()}


def _loading(settings: Settings, home: Path, pipeline: str, *words: str) -> Run:
    with _start(settings, home, pipeline, *words) as process:
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, (home / "log").read_text()
    lake = wiring.lake(settings)
    return Run(
        result=json.loads(out.splitlines()[-1]),
        rows=dict(_rows(lake)),
        snapshots=list(wiring.objects(settings).keys("snapshots/")),
    )


def _rows(lake: Lake) -> Iterator[tuple[str, int]]:
    for table in (RAW_GENERATION, RAW_WEATHER, CLOCKS, GENERATION, WEATHER, QUARANTINE):
        yield table.name, len(lake.read(table))


def _start(settings: Settings, home: Path, pipeline: str, *words: str) -> subprocess.Popen[str]:
    """Its log is ``home/log``."""
    with (home / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.local", pipeline, *words],
            cwd=ROOT,
            env={**os.environ, **to_env(settings.model_copy(update={"home": home}))},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
