"""The verdict."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_the_verdict_stands_in_mlflow(connected: Workshop, compared: Any) -> None:
    tags = clients.tracking(connected.settings).run(compared.job["run_id"])["tags"]
    assert (tags["verdict"], tags["verdict_reason"]) == ("promote", compared.job["verdict_reason"])
