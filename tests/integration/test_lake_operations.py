"""Kill rounds, writers and a year in short, and the maintenance pipeline from its compiled YAML, on SeaweedFS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import ingest
from benchmarks.lake import kill9, writers, year
from pvforecast import wiring
from pvforecast.lake.tables import GENERATION, MAINTENANCE
from pvforecast.settings import Settings, to_env

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.stack


def test_the_maintenance_pipeline_runs_from_its_yaml(infra: Settings, tmp_path: Path) -> None:
    settings = infra.model_copy(
        update={"lake_uri": f"s3://{infra.s3_bucket}/lake-{uuid.uuid4().hex[:8]}", "home": tmp_path}
    )
    lake = wiring.lake(settings)
    at = pd.date_range("2013-01-01", periods=4, freq="h", tz="UTC")
    for park in "abc":
        rows = {"park_id": park, "valid_at": at, "available_at": at, "period_s": np.int32(3600), "power_kw": 1.0}
        for hours in (slice(0, 2), slice(2, 4)):
            lake.append_new(GENERATION, pd.DataFrame({**rows, "completeness": 1.0})[hours])
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.local", "maintenance"],
        cwd=ROOT,
        env={**os.environ, **to_env(settings)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"files": {"processed/generation": 3}}
    assert len(lake.read(GENERATION)) == 12
    assert lake.read(MAINTENANCE)["files_before"].to_pylist() == [6]


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_half_or_broken() -> None:
    found = kill9.measure(rounds=8, seed=2)
    bad = (
        "lost_rows",
        "half_commits",
        "doubled_rows",
        "unreadable_tables",
        "broken_snapshots",
        "named_version_changed",
    )
    assert {name: found[f"kill9_{name}"] for name in bad} == dict.fromkeys(bad, 0)
    assert found["kill9_hours_loaded"] > 2
    assert sum(found["kill9_in"].values()) == 8


@pytest.mark.slow
def test_ten_writers_beside_readers_and_maintenance_store_every_row_once() -> None:
    found = writers.measure(commits=3)
    assert found["writers_rows"] == found["writers_rows_expected"] == found["writers_said_stored"] == 3_300
    assert found["writers_doubled"] == found["writers_errors"] == found["readers_errors"] == 0
    assert found["readers_reads"] > 2
    assert found["maintenance_runs"] > 0


@pytest.mark.slow
def test_hourly_loads_keep_within_the_bound_and_are_read_fast() -> None:
    found = year.measure(number=10, days=35, hourly_days=1)
    for table, most in found["year_files_most_between_maintenance"].items():
        assert most <= found["year_files_bound_by_table"][table]
    assert found["year_files"] <= 4 * 8 * 4  # tables, buckets, months
    assert found["year_read_one_park_whole_s"] < 30
    assert found["year_weather_rows"] == 10 * 35 * 24 * 48


def test_a_part_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ingest.main(["--only", "writers,nothing"])
    assert "no part 'nothing'" in capsys.readouterr().err
