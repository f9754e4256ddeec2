"""What the drift job told of parks' levels, as a training knows it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pvforecast import level_changes
from pvforecast.lake import Lake, versions
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.model.levels import Change

AS_OF = np.datetime64("2026-03-20T12:00:00", "s")


def _row(park: str, day: str, checked: str, kind: str = level_changes.LEVEL) -> dict[str, object]:
    return {
        "park_id": park, "day": day, "kind": kind, "name": "loss_or_soiling", "value": 0.9, "limit": float("nan"),
        "alarm": True, "checked_at": pd.Timestamp(checked, tz="UTC"), "reference_id": "r",
    }  # fmt: skip


def test_the_newest_that_was_known_then_counts(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    rows = [
        _row("a", "2026-03-01", "2026-03-08T12:00"), _row("a", "2026-03-10", "2026-03-15T12:00"),
        _row("a", "2026-03-19", "2026-03-21T12:00"), _row("b", "2026-03-02", "2026-03-20T12:00"),
        _row("c", "2026-03-02", "2026-03-09T12:00", kind="detector"), _row("d", "2026-03-02", "2026-03-09T12:00"),
    ]  # fmt: skip
    lake.append_new(DRIFT_SCORES, pd.DataFrame(rows))
    known = level_changes.told(lake, ["a", "b", "c"], AS_OF, lake.version(DRIFT_SCORES))
    assert {park: str(change.at) for park, change in known.items()} == {
        "a": "2026-03-10T00:00:00", "b": "2026-03-02T00:00:00",
    }  # fmt: skip


def test_a_run_sees_the_version_it_began_with(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    before = lake.version(DRIFT_SCORES)
    lake.append_new(DRIFT_SCORES, pd.DataFrame([_row("a", "2026-03-01", "2026-03-08T12:00")]))
    first = lake.version(DRIFT_SCORES)
    lake.append_new(DRIFT_SCORES, pd.DataFrame([_row("a", "2026-03-05", "2026-03-09T12:00")]))
    seen = [level_changes.told(lake, ["a"], AS_OF, version) for version in (before, first)]
    assert seen == [{}, {"a": Change(np.datetime64("2026-03-01", "s"), 0.9)}]


def test_a_bundle_s_reference_holds_what_it_was_told(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.append_new(
        DRIFT_SCORES,
        pd.DataFrame([_row("a", "2026-03-01", "2026-03-08T12:00"), _row("a", "2026-03-19", "2026-03-21T12:00")]),
    )
    stands_on = {DRIFT_SCORES.name: lake.version(DRIFT_SCORES)}
    info = {"data_versions": stands_on, "parks": ["a"], "trained_until": str(AS_OF)}
    (named,) = versions.of_bundle(info)
    assert versions.read(lake, named).column("day").to_pylist() == ["2026-03-01"]
