"""Scores of the challenger on days it has not seen."""

from __future__ import annotations

import base64
import io
import re
from typing import Any

import pytest
from matplotlib.image import imread

from pvforecast import clients
from pvforecast.evaluation.report import OPTIMISTIC
from tests.component_fixtures import Workshop

pytestmark = pytest.mark.stack


def test_every_park_is_scored(connected: Workshop, trained: dict[str, Any], evaluated: dict[str, Any]) -> None:
    assert evaluated == {**trained, "nmae": evaluated["nmae"]}
    assert 0.0 < evaluated["nmae"]["model"] < evaluated["nmae"]["smart_persistence"] < 0.5
    metrics = clients.tracking(connected.settings).run(evaluated["run_id"])["metrics"]
    for park in ("pvdaq-50", "serf-east"):
        assert 0.0 < metrics[f"holdout.{park}.daylight_nmae"] < 0.1
        assert metrics[f"holdout.{park}.skill"] > 0.3
        # Three hours of one day were not metered; the last one of a summer label is known an hour later.
        assert 28 * 24 - 4 <= metrics[f"holdout.{park}.hours"] <= 28 * 24


def test_the_metrics_artifact_shows_the_same(connected: Workshop, evaluated: dict[str, Any]) -> None:
    logged = clients.tracking(connected.settings).run(evaluated["run_id"])["metrics"]
    shown = connected.artifacts["evaluate.metrics"].metadata
    assert shown["pvdaq-50 daylight nMAE"] == pytest.approx(logged["holdout.pvdaq-50.daylight_nmae"])
    assert shown["serf-east skill"] == pytest.approx(logged["holdout.serf-east.skill"])


@pytest.mark.usefixtures("evaluated")
def test_the_report_begins_with_the_caveat(connected: Workshop) -> None:
    report = connected.report("evaluate.report")
    assert report.splitlines()[0] == OPTIMISTIC
    assert "| pvdaq-50 | 2013-07-13 … 2013-08-09 |" in report


@pytest.mark.usefixtures("evaluated")
def test_the_page_shows_itself_without_anything_from_outside(connected: Workshop) -> None:
    page = connected.report("evaluate.page")
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Reliability: metered at or below each quantile",
        "Error by hour of the day and by lead",
        "Forecasts of pvdaq-50",
        "Features that move the median most",
        "Parks, leads 1-24 h",
    ]
    pictures = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,(.*?)"', page)]
    assert len(pictures) == 4
    for png in pictures:
        assert png.startswith(b"\x89PNG")
        assert imread(io.BytesIO(png), format="png").std() > 0.02  # something is drawn
    assert not re.search(r"<script|<link|https?://|url\(", page)
    assert len(page) < 1_000_000
