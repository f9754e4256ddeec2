"""What a reader of a backtest sees first, and that losses are not hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pvforecast.evaluation import assess, html, report
from pvforecast.evaluation import backtest as bt
from pvforecast.evaluation.backtest import Outcome
from pvforecast.evaluation.rolling import MODEL, Plan
from pvforecast.evaluation.table import Table
from pvforecast.known import HOUR
from pvforecast.model.recipe import Recipe
from tests.bundles import NOW, record, site

RECIPE = Recipe(quantiles=(0.1, 0.5, 0.9), rounds=8, max_depth=3, eta=0.4, max_bin=32, calibration_folds=2)
UNTIL = NOW - 12 * 24 * HOUR


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    park = record(site("sim-a"))
    observed = tuple(replace(run, source="simulated_observed") for run in park.runs)
    return bt.run({"sim-a": replace(park, runs=observed)}, Plan(UNTIL, UNTIL, NOW), RECIPE, with_references=False)


def table(outcome: Outcome) -> Table:
    assert outcome.table is not None
    return outcome.table


def worsened(rows: Table) -> Table:
    """The model off by half of capacity at every hour."""
    off = np.clip(rows.target + 0.5, 0, None)
    model = replace(rows.model, median=off, mean=off, crps=np.full(len(rows), 0.5))
    return replace(rows, tracks={**rows.tracks, MODEL: model})


def test_observed_weather_is_said_first(outcome: Outcome) -> None:
    figures = outcome.figures()
    assert report.backtest(figures, outcome.scores().values()).startswith(report.OPTIMISTIC)
    page = html.page(figures, outcome.kept, {"sim-a": "America/Denver"})
    assert page.index("OBSERVED WEATHER: optimistic") < page.index("<h1>")
    told = replace(outcome, optimistic={"sim-a": False})
    assert "OBSERVED" not in html.page(told.figures(), {}, {})
    assert "optimistic" not in report.backtest(told.figures(), told.scores().values())


def test_a_baseline_that_wins_is_named_in_every_table(outcome: Outcome) -> None:
    figures = assess.assess(worsened(table(outcome)))
    assert {entry["verdict"] for entry in figures["skill"].values()} == {"worse"}
    assert "**worse**" in report.skills(figures["skill"])
    for entry in (*figures["by_month"], *figures["by_lead"]):
        assert entry["loses_to"] == ["persistence_24h", "physical", "smart_persistence"]
    lines = report.cells(figures["by_lead"], "lead").splitlines()[2:]
    assert all("**-" in line and line.endswith("persistence_24h, physical, smart_persistence |") for line in lines)


def test_a_quantile_that_is_off_is_marked(outcome: Outcome) -> None:
    rows = table(outcome)
    always = replace(rows, reached=np.ones_like(rows.reached), below=np.ones_like(rows.below))
    entries: dict[str, list[dict[str, Any]]] = assess.reliability(always)
    assert not any(row["within"] for row in entries["all"])
    assert all(row["observed"] == 1.0 for row in entries["all"])
    assert report.reliability(entries).count("**out**") >= 3
    assert "| levels within | 0 of 3 |" in report.reliability(entries)


def test_hours_that_stand_exactly_at_a_quantile_speak_neither_for_nor_against_it(outcome: Outcome) -> None:
    rows = table(outcome)
    dark = replace(rows, reached=np.ones_like(rows.reached), below=np.zeros_like(rows.below))
    entries = assess.reliability(dark)
    assert all(row["within"] for row in entries["all"])
    assert "| 0.0% … 100.0% |" in report.reliability(entries)


def test_flagged_days_are_named_and_taken_out_apart(outcome: Outcome) -> None:
    rows = table(outcome)
    day = rows.day[rows.daylight][0]
    snowed = replace(
        rows,
        flags=np.where((rows.day == day) & rows.daylight, "snow", "").astype(np.str_),
        target=np.where(rows.day == day, 0.0, rows.target),
    )
    figures = assess.assess(snowed)
    assert figures["without_flagged"]["days_left_out"] == 1
    healthy = snowed.where((snowed.lead < 24) & (snowed.day != day))
    expected = assess.scores(healthy, healthy.model)["daylight_nmae"]
    assert figures["without_flagged"]["scores"]["model"]["daylight_nmae"] == pytest.approx(expected)
    worst = figures["worst_days"][0]
    assert worst["day"] == str(day)
    assert worst["why"].startswith("flagged: snow (")
    assert worst["index_metered"] == 0.0
