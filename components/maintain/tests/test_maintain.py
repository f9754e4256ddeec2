"""One task keeps the whole lake: files merged, the versions that models name kept, and a failure when it can't tell."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kfp import dsl

from components.maintain.component import maintain
from pvforecast.errors import DataError
from pvforecast.lake.tables import GENERATION, MAINTENANCE
from pvforecast.settings import Settings
from tests.component_fixtures import Workshop, new_workshop
from tests.stack_fixtures import own_bucket

NOW = datetime.now(UTC).isoformat()


def fill(workshop: Workshop, commits: int) -> None:
    for n in range(commits):
        at = pd.date_range("2013-01-01", periods=4, freq="h", tz="UTC") + pd.Timedelta(hours=4 * n)
        rows = {"park_id": "a", "valid_at": at, "available_at": at, "period_s": np.int32(3600), "power_kw": 1.0}
        workshop.lake.append_new(GENERATION, pd.DataFrame({**rows, "completeness": 1.0}))


def test_without_its_models_it_merges_deletes_nothing_and_fails(tmp_path: Path) -> None:
    workshop = new_workshop(tmp_path)
    fill(workshop, 6)
    with pytest.raises(DataError, match="which versions models name is not known: PVF_POSTGRES_DSN: is not set"):
        workshop.call(maintain, dsl.Markdown, dsl.Metrics, as_of=NOW)
    assert "| processed/generation | 6 | 1 |" in workshop.report("maintain.report")
    assert len(workshop.lake.read(GENERATION)) == 24
    notes = workshop.lake.read(MAINTENANCE)["note"].to_pylist()
    assert all(note.startswith("nothing deleted") for note in notes)


@pytest.mark.stack
def test_with_them_it_says_how_many_files_each_table_has(infra: Settings, tmp_path: Path) -> None:
    workshop = Workshop(own_bucket(infra, "maintain"), tmp_path)
    fill(workshop, 3)
    assert workshop.call(maintain, dsl.Markdown, dsl.Metrics, as_of=NOW) == {"processed/generation": 1}
    metrics = workshop.artifacts["maintain.metrics"].metadata
    assert metrics["files_after"] == 1
    assert metrics["bytes"] > 1_000
