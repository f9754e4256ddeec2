"""From a park's knowledge and the predictor's fractions to the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.transformer import forecast
from inference.transformer.client import Inference
from inference.transformer.forecast import Question
from inference.transformer.request import parse
from inference.transformer.snapshots import Snapshot
from pvforecast import features
from pvforecast.errors import InvalidInput
from pvforecast.known import HOUR, History, Known
from tests.bundles import NOW, record, site

KNOWN = record(site()).known_at(NOW)
LONG_AGO = NOW - 1000 * HOUR
NOTHING = History(KNOWN.history.valid_at[:0], np.zeros(0))
UNREAD = replace(KNOWN.history, power_kw=KNOWN.history.power_kw * np.nan)


def question(known: Known = KNOWN, issued_at: np.datetime64 = NOW, **fields: object) -> Question:
    [instance] = parse({"instances": [{"park_id": "sim-a", **fields}]})
    return Question.ask("instances[0]", instance, Snapshot("snapshot", known), issued_at, 48)


def inference(fractions: np.ndarray, levels: tuple[float, ...] = (0.1, 0.5, 0.9)) -> Inference:
    return Inference(fractions.astype(np.float32), levels, "bundle", "3", "spec", LONG_AGO)


def test_power_stays_between_nothing_and_capacity_and_is_nothing_at_night() -> None:
    asked = question()
    fractions = np.tile(np.array([-0.2, 0.5, 1.7], np.float32), (48, 1))
    power = forecast.power_kw(asked, fractions)
    day = features.daylight(KNOWN.site, asked.hours)
    assert 10 < day.sum() < 38
    np.testing.assert_array_equal(power[~day], 0.0)
    np.testing.assert_array_equal(power[day], np.tile([0.0, 1.525, 3.05], (day.sum(), 1)))


def test_energy_is_that_of_the_median_whatever_levels_are_chosen() -> None:
    asked = question(quantiles=[0.9])
    fractions = np.tile(np.array([0.1, 0.2, 0.3], np.float32), (48, 1))
    power = forecast.power_kw(asked, fractions)
    made = forecast.answer(asked, inference(fractions), power)
    assert made["median_energy_kwh"] == pytest.approx(power[:, 1].sum(), abs=1e-4)
    assert list(made["power_kw"]) == ["0.9"]
    without = forecast.answer(question(), inference(fractions, (0.1, 0.4, 0.9)), power)
    assert without["median_energy_kwh"] is None


@pytest.mark.parametrize(
    ("known", "issued_at", "hours", "flags"),
    [
        (KNOWN, NOW, 48, []),
        (KNOWN, NOW, 49, ["partial_weather"]),
        (replace(KNOWN, weather=None), NOW, 48, ["no_weather"]),
        (KNOWN, NOW + 3 * HOUR, 24, []),
        (KNOWN, NOW + 4 * HOUR, 24, ["no_recent_generation"]),
        (KNOWN, NOW + 25 * HOUR, 24, ["partial_weather", "stale_weather", "no_recent_generation"]),
        (KNOWN, NOW + 90 * HOUR, 24, ["no_weather", "stale_weather", "no_recent_generation"]),
        (replace(KNOWN, history=NOTHING), NOW, 48, ["no_recent_generation"]),
        (replace(KNOWN, history=UNREAD), NOW, 48, ["no_recent_generation"]),
    ],
)  # fmt: skip
def test_what_is_missing_or_old_is_flagged(
    known: Known, issued_at: np.datetime64, hours: int, flags: list[str]
) -> None:
    assert forecast.degraded(question(known, issued_at, horizon_hours=hours), LONG_AGO) == flags


def test_a_model_that_has_learned_from_the_hours_says_so() -> None:
    asked = question()
    assert "hindsight_model" not in forecast.degraded(asked, NOW)
    assert "hindsight_model" in forecast.degraded(asked, NOW + HOUR)


def test_ages_count_from_the_run_and_from_the_last_metered_hour() -> None:
    asked = question(issued_at=NOW + np.timedelta64(90 * 60, "s"))
    assert (forecast.weather_age_minutes(asked), forecast.generation_age_minutes(asked)) == (90, 90)
    nothing = question(replace(KNOWN, weather=None, history=NOTHING))
    assert (forecast.weather_age_minutes(nothing), forecast.generation_age_minutes(nothing)) == (None, None)


def test_a_level_the_model_was_not_calibrated_for_is_refused() -> None:
    question(quantiles=[0.9, 0.1]).check_quantiles((0.1, 0.5, 0.9))
    with pytest.raises(InvalidInput, match=r"no level 0\.25, 0\.3") as caught:
        question(quantiles=[0.1, 0.25, 0.3]).check_quantiles((0.1, 0.5, 0.9))
    assert caught.value.field == "instances[0].quantiles"


def test_a_digest_names_the_bits_of_a_row() -> None:
    row = np.array([0.0, np.nan, 1.5], np.float32)
    assert forecast.digest(row) == forecast.digest(row.copy())
    assert forecast.digest(row) != forecast.digest(np.array([-0.0, np.nan, 1.5], np.float32))
    assert len(forecast.digest(row)) == 16


def test_a_park_of_quarter_hours_is_answered_in_quarter_hours_and_its_energy_counts_them() -> None:
    quarters = replace(KNOWN, site=replace(KNOWN.site, resolution="PT15M"))
    asked, hourly = question(quarters, horizon_hours=24), question(horizon_hours=24)
    assert len(asked.hours) == 4 * len(hourly.hours) == 96
    assert set(np.diff(asked.hours)) == {np.timedelta64(900, "s")}
    made, of_hours = (
        forecast.answer(one, inference(rows), forecast.power_kw(one, rows))
        for one in (asked, hourly)
        for rows in [np.full((len(one.hours), 3), 0.5, np.float32)]
    )
    assert (made["resolution"], of_hours["resolution"]) == ("PT15M", "PT1H")
    assert made["median_energy_kwh"] == pytest.approx(of_hours["median_energy_kwh"], abs=1.6)  # dusk, to the quarter
    assert made["degraded"] == []
