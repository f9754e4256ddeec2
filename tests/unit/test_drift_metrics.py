"""What the drift job stored of its newest checks, as metrics."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pvf import drift_metrics
from pvforecast.lake import Lake
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.settings import Settings


def _row(park: str, day: int, kind: str, name: str, value: float, limit: float) -> dict[str, Any]:
    at = pd.Timestamp(datetime(2026, 3, day, 12, tzinfo=UTC))
    return {
        "park_id": park, "day": f"2026-03-{day:02d}", "kind": kind, "name": name, "value": value, "limit": limit,
        "alarm": False, "checked_at": at, "reference_id": "r",
    }  # fmt: skip


def _values(families: list[Any]) -> dict[tuple[str, ...], float]:
    return {(family.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_each_park_s_newest_check_counts(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    rows = [
        _row("a", 1, "detector", "cusum_clr", 9.0, 10.0), _row("a", 2, "detector", "cusum_clr", 5.0, 10.0),
        _row("a", 2, "psi", "temp", 0.15, 0.2), _row("b", 1, "detector", "outage", 0.0, 0.0),
        _row("a", 2, "weather", "temp", 0.3, 0.4), _row("a", 2, "weather", "csi", 0.1, 0.4),
    ]  # fmt: skip
    lake.append_new(DRIFT_SCORES, pd.DataFrame(rows))
    made = list(drift_metrics.newest(Settings(lake_uri=str(tmp_path))).collect())
    assert _values(made) == {
        ("pvf_drift_score_ratio", "a", "cusum_clr"): 0.5,
        ("pvf_drift_score_ratio", "b", "outage"): 0.0,
        ("pvf_drift_psi", "a", "temp"): 0.15,
        ("pvf_drift_weather_ratio", "a"): pytest.approx(0.75),
    }


def test_before_the_first_check_there_is_nothing(tmp_path: Path) -> None:
    assert _values(list(drift_metrics.newest(Settings(lake_uri=str(tmp_path))).collect())) == {}


def test_of_too_many_parks_the_nearest_to_an_alarm_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_metrics, "MOST_DRIFT_PARKS", 1)
    rows = [{"park_id": park, "kind": "detector", "name": "d", "value": value, "most": 10.0}
            for park, value in (("a", 1.0), ("b", 9.0))]  # fmt: skip
    assert _values(drift_metrics.families(rows)) == {("pvf_drift_score_ratio", "b", "d"): 0.9}
