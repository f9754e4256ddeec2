"""How good what was served was, out of the days that were scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pvf import drift_metrics, served_metrics
from pvforecast.lake import Lake
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.settings import Settings


def _day(park: str, day: str, nmae: float, persistence: float = 0.1) -> list[dict[str, Any]]:
    measures = {"nmae": nmae, "persistence": persistence, "hours": 12.0, "bias": 0.01, "coverage": 0.8,
                "skill": 1.0 - nmae / persistence, "sound": 1.0}  # fmt: skip
    common = {"park_id": park, "day": day, "kind": "accuracy", "limit": float("nan"), "alarm": False,
              "checked_at": pd.Timestamp(f"{day}T12:00:00Z") + pd.Timedelta(days=1), "reference_id": "7"}  # fmt: skip
    return [{**common, "name": name, "value": value} for name, value in measures.items()]


def _values(families: list[Any]) -> dict[tuple[str, str], float]:
    return {(family.name, sample.labels["park"]): sample.value for family in families for sample in family.samples}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake_uri=str(tmp_path))


def test_the_newest_day_and_two_weeks_together(settings: Settings) -> None:
    rows = [*_day("a", "2026-03-01", 0.5), *_day("a", "2026-03-19", 0.02), *_day("a", "2026-03-20", 0.18),
            *_day("b", "2026-03-18", 0.03)]  # fmt: skip
    Lake(settings.lake_uri).append_new(DRIFT_SCORES, pd.DataFrame(rows))
    values = _values(list(served_metrics.days(settings).collect()))
    assert values["pvf_served_daylight_nmae", "a"] == 0.18
    assert values["pvf_served_fortnight_skill", "a"] == pytest.approx(0.0)  # 1 March is too long ago
    assert values["pvf_served_fortnight_skill", "b"] == pytest.approx(0.7)
    assert values["pvf_served_coverage", "b"] == 0.8


def test_before_anything_was_scored_there_is_nothing(settings: Settings) -> None:
    assert _values(list(served_metrics.days(settings).collect())) == {}


def test_accuracy_is_no_distance_from_an_alarm(settings: Settings) -> None:
    Lake(settings.lake_uri).append_new(DRIFT_SCORES, pd.DataFrame(_day("a", "2026-03-20", 0.1)))
    assert _values(list(drift_metrics.newest(settings).collect())) == {}


def test_of_too_many_parks_the_worst_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_metrics, "MOST_PARKS", 1)
    rows = [*_day("a", "2026-03-20", 0.01), *_day("b", "2026-03-20", 0.09)]
    assert {park for _, park in _values(served_metrics.families(rows))} == {"b"}
