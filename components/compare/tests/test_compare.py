"""The verdict."""

from __future__ import annotations

from typing import Any

import pytest
from mlflow import MlflowClient

from pvforecast import clients
from tests.component_fixtures import Workshop

pytestmark = pytest.mark.stack


def test_the_first_model_is_promoted_when_it_beats_smart_persistence(connected: Workshop, compared: Any) -> None:
    assert (compared.verdict, compared.promotes) == ("promote", True)
    assert compared.job["verdict"] == "promote"
    assert compared.job["verdict_reason"].startswith("first model: daylight nMAE 0.")
    report = connected.report("compare.report")
    assert report.splitlines()[0] == "# Verdict: promote"
    assert compared.job["verdict_reason"] in report


def test_the_run_has_scores_overall_by_park_and_by_lead_and_its_reports(connected: Workshop, compared: Any) -> None:
    run = clients.tracking(connected.settings).run(compared.job["run_id"])
    for name in ("overall", "lead 7-12", "lead 13-24", "lead 25-48"):  # issued at midnight: 1-6 is night
        assert 0.0 < run["metrics"][f"{name}/daylight_nmae"] < 0.2, name
    parks = [run["metrics"][f"holdout.{park}.daylight_nmae"] for park in compared.job["parks"]]
    assert min(parks) <= run["metrics"]["overall/daylight_nmae"] <= max(parks)
    assert run["metrics"]["overall/skill"] > 0.3
    client = MlflowClient(connected.settings.mlflow_uri)
    reports = {item.path for item in client.list_artifacts(compared.job["run_id"], "report")}
    assert {f"report/{name}.{kind}" for name in ("holdout", "verdict") for kind in ("md", "html")} <= reports


def test_the_verdict_stands_in_mlflow(connected: Workshop, compared: Any) -> None:
    tags = clients.tracking(connected.settings).run(compared.job["run_id"])["tags"]
    assert (tags["verdict"], tags["verdict_reason"]) == ("promote", compared.job["verdict_reason"])


@pytest.mark.usefixtures("compared")
def test_metrics_and_page_show_the_verdict(connected: Workshop) -> None:
    shown = connected.artifacts["compare.metrics"].metadata
    assert 0.0 < shown["challenger loss"] < 0.2
    page = connected.report("compare.page")
    assert "<h1>Verdict: promote</h1>" in page
    assert "<script" not in page
