"""The backtest trains on the past and scores the future, beside the baselines on the same hours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pvforecast import dataset, features
from pvforecast.errors import NotEnoughData
from pvforecast.evaluation import backtest as bt
from pvforecast.evaluation import baselines, metrics, report
from pvforecast.evaluation.backtest import Scores, backtest
from pvforecast.known import HOUR, ParkRecord
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from tests.bundles import NOW, record, site

RECIPE = Recipe(quantiles=(0.1, 0.5, 0.9), rounds=10, max_depth=3, eta=0.4, max_bin=32, calibration_folds=2)
UNTIL = NOW - 10 * 24 * HOUR
PARK = record(site("sim-a"))


@pytest.fixture(scope="module")
def outcome() -> tuple[Bundle, dict[str, Scores]]:
    return backtest({"sim-a": PARK}, RECIPE, UNTIL, NOW)


def test_the_model_beats_what_anyone_has_for_nothing(outcome: tuple[Bundle, dict[str, Scores]]) -> None:
    scores = outcome[1]["sim-a"]
    assert set(scores.baselines) == {"persistence_24h", "smart_persistence", "physical"}
    assert scores.model["daylight_nmae"] < min(
        scores.baselines["persistence_24h"], scores.baselines["smart_persistence"]
    )
    assert scores.skill == pytest.approx(1 - scores.model["daylight_nmae"] / scores.baselines["smart_persistence"])
    assert 0.3 < scores.skill < 1


def test_it_is_scored_on_the_first_24_hours_of_each_day_of_the_test(outcome: tuple[Bundle, dict[str, Scores]]) -> None:
    bundle, scores = outcome[0], outcome[1]["sim-a"]
    issues = dataset.daily_issues(PARK, UNTIL, NOW)
    rows = dataset.build(PARK, RECIPE.spec, issues, 24)
    served = np.where(rows.daylight[:, None], bundle.predict(rows.features, park_id=rows.park_id), 0.0)
    expected = metrics.summary(rows.target, served.astype(float), RECIPE.quantiles, rows.daylight)
    assert {name: scores.model[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert scores.model["mae_kw"] == pytest.approx(expected["nmae"] * PARK.site.ac_capacity_kw, rel=1e-6)
    smart = np.concatenate([baselines.smart_persistence(PARK.known_at(t), features.horizon(t, 24)) for t in issues])
    assert scores.baselines["smart_persistence"] == pytest.approx(
        metrics.nmae(rows.target[rows.daylight], smart[rows.daylight]), rel=1e-6
    )
    assert scores.model["hours"] == 24 * len(issues) == 240


def test_the_test_period_teaches_nothing(outcome: tuple[Bundle, dict[str, Scores]]) -> None:
    """Other values in the test year: the same model, other scores."""
    later = PARK.available_at > UNTIL
    poisoned = replace(PARK, power_kw=np.where(later, 1.5, PARK.power_kw))
    bundle, scores = backtest({"sim-a": poisoned}, RECIPE, UNTIL, NOW)
    assert bundle.bundle_id == outcome[0].bundle_id
    assert scores["sim-a"].model["daylight_nmae"] > 2 * outcome[1]["sim-a"].model["daylight_nmae"]


def test_hours_without_a_metered_value_are_not_scored(outcome: tuple[Bundle, dict[str, Scores]]) -> None:
    kept = (PARK.valid_at < UNTIL) | (np.arange(len(PARK.valid_at)) % 3 == 0)
    holed = replace(
        PARK, valid_at=PARK.valid_at[kept], available_at=PARK.available_at[kept], power_kw=PARK.power_kw[kept]
    )
    _, scores = backtest({"sim-a": holed}, RECIPE, UNTIL, NOW)
    assert scores["sim-a"].model["hours"] == 80


def test_a_park_that_was_not_metered_in_the_test_is_learned_from_and_not_scored() -> None:
    ended = PARK.valid_at < UNTIL
    old = ParkRecord(site("sim-old"), PARK.runs, PARK.valid_at[ended], PARK.available_at[ended], PARK.power_kw[ended])
    bundle, scores = backtest({"sim-a": PARK, "sim-old": old}, RECIPE, UNTIL, NOW)
    assert set(scores) == {"sim-a"}
    assert bundle.info["parks"] == ["sim-a", "sim-old"]
    with pytest.raises(NotEnoughData, match="test_until: no metered hours"):
        backtest({"sim-old": old}, RECIPE, UNTIL, NOW)


def test_night_is_served_as_zero(outcome: tuple[Bundle, dict[str, Scores]]) -> None:
    rows = dataset.build(PARK, RECIPE.spec, [NOW - 24 * HOUR], 48)
    served = bt.predict(outcome[0], rows)
    assert (served[~rows.daylight] == 0).all()
    assert (served[rows.daylight, -1] > 0).all()


def test_the_report_shows_every_baseline_and_says_first_when_the_weather_was_observed(
    outcome: tuple[Bundle, dict[str, Scores]],
) -> None:
    plain = outcome[1]["sim-a"]
    assert not plain.optimistic
    text = report.scores([plain])
    assert "optimistic" not in text
    row = next(line for line in text.splitlines() if line.startswith("| sim-a"))
    for value in (plain.model["daylight_nmae"], *plain.baselines.values()):
        assert f"{value:.2%}" in row
    assert f"{plain.skill:.1%}" in row
    observed = tuple(replace(run, source="nsrdb_observed") for run in PARK.runs)
    _, scores = backtest({"sim-a": replace(PARK, runs=observed)}, RECIPE, UNTIL, NOW)
    assert scores["sim-a"].optimistic
    assert report.scores(scores.values()).startswith("**Observed weather: optimistic.**")
