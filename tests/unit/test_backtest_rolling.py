"""The rolling origin: each forecast and each fit knows what was known then, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pvforecast import features
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.evaluation import backtest as bt
from pvforecast.evaluation import issues, references, rolling, table
from pvforecast.evaluation.rolling import MODEL, ParkForecasts, Plan, Stage
from pvforecast.known import HOUR, ParkRecord, WeatherRun
from pvforecast.model.recipe import Recipe
from tests.bundles import NOW, START, record, site

RECIPE = Recipe(quantiles=(0.1, 0.5, 0.9), rounds=8, max_depth=3, eta=0.4, max_bin=32, calibration_folds=2)
DAY = 24 * HOUR
UNTIL = NOW - 8 * DAY
PARK = record(site("sim-a"))
PLAN = Plan(UNTIL, UNTIL, NOW)


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return rolling.fit({"sim-a": PARK}, PLAN, RECIPE)


def forecasts(park: ParkRecord, stages: list[Stage], plan: Plan = PLAN) -> ParkForecasts:
    return rolling.forecasts(park, 0, stages, plan, references.weather_names([PARK]))


def poisoned(park: ParkRecord, after: np.datetime64, garbage: float) -> ParkRecord:
    """Whatever became available after an instant is garbage: generation and weather runs."""
    runs = tuple(
        replace(run, variables={name: np.full(len(v), garbage) for name, v in run.variables.items()})
        if run.available_at > after
        else run
        for run in park.runs
    )
    return replace(park, runs=runs, power_kw=np.where(park.available_at > after, garbage, park.power_kw))


@pytest.mark.parametrize("garbage", [np.nan, 1e6, -3.0])
def test_what_became_known_after_the_issue_changes_no_bit_of_a_forecast(stages: list[Stage], garbage: float) -> None:
    at = UNTIL + 4 * DAY
    clean, dirty = forecasts(PARK, stages), forecasts(poisoned(PARK, at, garbage), stages)
    issued = clean.issued_at <= at
    assert issued.sum() == 5 * 48
    assert set(clean.quantiles) == {MODEL, *references.POINTS, *references.FITTED}
    for name, quantiles in clean.quantiles.items():
        assert quantiles[issued].tobytes() == dirty.quantiles[name][issued].tobytes(), name
    assert (clean.quantiles[MODEL][~issued] != dirty.quantiles[MODEL][~issued]).any()  # the poison is one


@pytest.mark.parametrize("garbage", [np.nan, 1e6])
def test_what_became_known_after_a_fit_changes_no_bit_of_it(stages: list[Stage], garbage: float) -> None:
    again = rolling.fit({"sim-a": poisoned(PARK, UNTIL, garbage)}, PLAN, RECIPE)
    assert again[0].bundle.bundle_id == stages[0].bundle.bundle_id
    known = forecasts(PARK, stages)
    for name, quantiles in forecasts(PARK, again).quantiles.items():
        assert quantiles.tobytes() == known.quantiles[name].tobytes(), name


def test_a_correction_that_came_after_the_fit_is_not_learned_from(stages: list[Stage]) -> None:
    old = PARK.valid_at < UNTIL
    order = np.argsort(np.concatenate([PARK.valid_at, PARK.valid_at[old]]), kind="stable")
    doubled = [
        np.concatenate(pair)[order]
        for pair in (
            (PARK.valid_at, PARK.valid_at[old]),
            (PARK.available_at, np.full(old.sum(), UNTIL + HOUR)),
            (PARK.power_kw, np.zeros(old.sum())),
        )
    ]
    corrected = replace(PARK, valid_at=doubled[0], available_at=doubled[1], power_kw=doubled[2])
    assert (corrected.truth(PARK.valid_at[old]) == 0).all()
    assert rolling.fit({"sim-a": corrected}, PLAN, RECIPE)[0].bundle.bundle_id == stages[0].bundle.bundle_id


def test_each_refit_knows_more_than_the_last_and_serves_from_its_instant() -> None:
    plan = replace(PLAN, retrain_days=3)
    assert plan.refits() == [UNTIL, UNTIL + 3 * DAY, UNTIL + 6 * DAY]
    fits = rolling.fit({"sim-a": PARK}, plan, RECIPE, with_references=False)
    rows = [stage.bundle.info["trained_rows"] for stage in fits]
    assert rows[0] < rows[1] < rows[2]
    of_day = forecasts(PARK, fits, plan).quantiles[MODEL].reshape(8, 48, 3)
    for day, stage in ((2, 0), (3, 1), (5, 1), (6, 2)):
        alone = forecasts(PARK, [fits[stage]], plan).quantiles[MODEL].reshape(8, 48, 3)
        np.testing.assert_array_equal(of_day[day], alone[day])
    later = rolling.fit({"sim-a": poisoned(PARK, UNTIL + 3 * DAY, 0.0)}, plan, RECIPE, with_references=False)
    same = [a.bundle.bundle_id == b.bundle.bundle_id for a, b in zip(fits, later, strict=True)]
    assert same == [True, True, False]


def test_refits_before_the_test_are_not_fitted_but_the_last() -> None:
    plan = Plan(UNTIL - 10 * DAY, UNTIL, NOW, retrain_days=4)
    assert plan.refits() == [UNTIL - 2 * DAY, UNTIL + 2 * DAY, UNTIL + 6 * DAY]


def test_dates_out_of_order_are_refused() -> None:
    with pytest.raises(InvalidInput, match="out of order"):
        Plan(UNTIL, UNTIL - DAY, NOW)


def test_every_hour_asked_has_a_forecast_metered_or_not_with_weather_or_without(stages: list[Stage]) -> None:
    blind = replace(
        PARK,
        runs=tuple(run for run in PARK.runs if run.available_at < UNTIL),
        valid_at=PARK.valid_at[PARK.valid_at < UNTIL],
        available_at=PARK.available_at[PARK.valid_at < UNTIL],
        power_kw=PARK.power_kw[PARK.valid_at < UNTIL],
    )
    made = forecasts(blind, stages)
    assert len(made) == 8 * 48
    assert rolling.uncovered(made, PLAN) == 0
    assert not np.isnan(made.quantiles[MODEL]).any()
    assert made.weather[:48].any()
    assert not made.weather[-48:].any()
    noon = made.daylight & (made.clear > 0.4)
    assert (made.quantiles[MODEL][noon, 2] > 0.05).all()
    with pytest.raises(NotEnoughData, match="--unmetered"):
        bt.run({"sim-a": blind}, PLAN, RECIPE, with_references=False)
    outcome = bt.run({"sim-a": blind}, PLAN, RECIPE, with_references=False, unmetered=True)
    assert outcome.scores() == {}
    assert outcome.figures()["asked"] == 8 * 48
    assert outcome.figures()["missing"] == 0


def test_missing_forecasts_are_counted_and_cost_more_than_any_answer(stages: list[Stage]) -> None:
    made = forecasts(PARK, stages)
    silent = made.quantiles[MODEL].copy()
    silent[made.issued_at == UNTIL] = np.nan
    holed = replace(made, quantiles={**made.quantiles, MODEL: silent})
    whole, with_holes = table.of_forecasts(made), table.of_forecasts(holed)
    assert with_holes.model.missing.sum() == 48
    assert len(with_holes) == len(whole)  # a missing forecast is scored, not left out
    day = whole.daylight & (whole.issued_at == UNTIL)
    worst = np.maximum(whole.target, 1 - whole.target)
    np.testing.assert_allclose(with_holes.model.crps[day], worst[day], atol=1e-6)
    assert with_holes.model.crps[day].sum() > whole.model.crps[day].sum()


def test_only_the_source_that_was_asked_for_is_used() -> None:
    two = replace(PARK, runs=tuple(replace(run, source="a" if n % 2 else "b") for n, run in enumerate(PARK.runs)))
    chosen = rolling.from_source(two, "a")
    assert {run.source for run in chosen.runs} == {"a"}
    assert chosen.known_at(NOW).weather.source == "a"  # type: ignore[union-attr]


def runs_at(hours: list[int], days: int, zone: str = "Australia/Sydney") -> ParkRecord:
    """A park in the south with a run of 24 h at each of some UTC hours."""
    place = replace(site("south"), latitude=-35.3, longitude=149.1, timezone=zone)
    begin = np.datetime64("2024-01-01T00:00:00", "s")
    times = [begin + day * DAY + hour * HOUR for day in range(days) for hour in hours]
    runs = tuple(
        WeatherRun("nwp", at, at, features.horizon(at, 24), {"ghi": np.full(24, 400.0), "x_tclw": np.full(24, 0.1)})
        for at in times
    )
    nothing = np.zeros(0, "datetime64[s]")
    return ParkRecord(place, runs, nothing, nothing, np.zeros(0))


def test_issues_stand_at_local_hours_in_any_zone_and_through_clock_changes() -> None:
    south = runs_at([0], 3)
    begin = np.datetime64("2024-04-05T00:00:00", "s")  # the clocks go back on 7 April
    times = issues.local_hours(south, begin, begin + 4 * DAY, (0, 12))
    local = [str(t) for t in times]
    assert local[:4] == ["2024-04-05T01:00:00", "2024-04-05T13:00:00", "2024-04-06T01:00:00", "2024-04-06T13:00:00"]
    assert local[4:6] == ["2024-04-07T02:00:00", "2024-04-07T14:00:00"]


def test_issues_at_runs_follow_the_runs_and_bridge_those_that_failed() -> None:
    park = runs_at([0, 12], 6)
    gap = replace(park, runs=tuple(run for n, run in enumerate(park.runs) if n not in (4, 5, 6, 7)))
    begin = np.datetime64("2024-01-01T00:00:00", "s")
    times = issues.issues(gap, begin, begin + 6 * DAY, at_runs=True)
    hours = [int((t - begin) / HOUR) for t in times]
    assert hours == [0, 12, 24, 36, 60, 84, 96, 108, 120, 132]
    covered = np.unique(np.concatenate([features.horizon(t, 24) for t in times]))
    assert len(covered) >= 6 * 24


def test_the_run_that_is_known_at_the_issue_covers_its_day_where_issues_follow_runs() -> None:
    """A run at 00 UTC with 24 leads: midnight in Sydney sees ten hours of it, an issue at the run all of it."""
    park = runs_at([0], 10)
    begin = np.datetime64("2024-01-03T00:00:00", "s")
    for at_runs, least, most in ((True, 24, 24), (False, 8, 12)):
        times = issues.issues(park, begin, begin + 5 * DAY, at_runs=at_runs)[1:]
        reach = [
            np.isin(features.horizon(t, 24), park.known_at(t).weather.valid_at).sum()  # type: ignore[union-attr]
            for t in times
        ]
        assert least <= min(reach) <= max(reach) <= most


def test_the_hours_before_the_first_regular_issue_get_one_of_their_own() -> None:
    begin = np.datetime64("2024-01-03T00:00:00", "s")
    times = issues.issues(runs_at([0], 3), begin, begin + 2 * DAY)
    assert times[0] == begin
    assert times[1] == np.datetime64("2024-01-03T13:00:00", "s")


def test_own_weather_columns_reach_the_plain_baseline() -> None:
    park = runs_at([0], 2)
    names = references.weather_names([park])
    assert names[-1] == "x_tclw"
    issued = np.full(24, np.datetime64("2024-01-01T00:00:00", "s"))
    shown = references.show(park, 0, issued, features.horizon(issued[0], 24), names)
    np.testing.assert_allclose(shown.weather[:, -1], 0.1)
    assert np.isnan(shown.weather[:, names.index("temp_air")]).all()


def test_the_figures_say_what_was_asked_and_where_the_model_lost() -> None:
    begin = START + 20 * DAY
    outcome = bt.run({"sim-a": PARK}, Plan(begin, begin, NOW), RECIPE)
    figures = outcome.figures()
    assert figures["asked"] == 19 * 48
    assert figures["missing"] == figures["uncovered"] == 0
    assert set(figures["skill"]) == {*references.POINTS, *references.FITTED}
    for entry in figures["skill"].values():
        assert entry["crps"]["low"] <= entry["crps"]["value"] <= entry["crps"]["high"]
    assert [row["lead"] for row in figures["by_lead"]] == ["7-24", "25-48"] or len(figures["by_lead"]) == 3
    for row in figures["by_lead"]:
        lost = {n for n, e in row["skill"].items() if min(e["nmae"]["value"], e["crps"]["value"]) < 0}
        assert set(row["loses_to"]) == lost
    level = {row["level"]: row["observed"] for row in figures["reliability"]["all"]}
    scored = outcome.table
    assert scored is not None
    first_day = scored.daylight & (scored.lead < 24)
    made = forecasts(PARK, outcome.stages, outcome.plan)
    upper = made.quantiles[MODEL][:, 2][~np.isnan(made.target)]
    assert level[0.9] == pytest.approx((scored.target <= upper)[first_day].mean())
    worst = figures["worst_days"][0]
    assert worst["share_of_error"] == max(day["share_of_error"] for day in figures["worst_days"])
