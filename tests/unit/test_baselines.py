"""What anyone can have for nothing: from what was known, and only from that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pvforecast import features
from pvforecast.evaluation import baselines
from pvforecast.known import HOUR, History, Known
from tests.bundles import NOW, record, site

SITE = site(ac_capacity_kw=2.0)
AHEAD = features.horizon(NOW, 48)
CLEAR_AHEAD = features.clear_sky_power(SITE, AHEAD)


def known(days: int, share: float = 0.5, skip: tuple[int, ...] = ()) -> Known:
    """`days` whole days before NOW at a fixed share of clear sky; day 1 is the last; those in `skip` are missing."""
    hours = NOW - np.arange(days * 24, 0, -1) * HOUR
    back = ((NOW - hours).astype(int) + 86_399) // 86_400
    kept = ~np.isin(back, skip)
    power = share * features.clear_sky_power(SITE, hours) * SITE.ac_capacity_kw
    return Known(SITE, NOW, None, History(hours[kept], power[kept]))


def test_persistence_is_the_newest_known_day_at_the_same_hour() -> None:
    whole = known(9)
    yesterday = whole.history.power_kw[-24:] / SITE.ac_capacity_kw
    np.testing.assert_allclose(baselines.persistence(whole, AHEAD), np.tile(yesterday, 2))
    day_before = whole.history.power_kw[-48:-24] / SITE.ac_capacity_kw
    np.testing.assert_allclose(baselines.persistence(known(9, skip=(1,)), AHEAD), np.tile(day_before, 2))


def test_smart_persistence_keeps_the_share_of_clear_sky() -> None:
    by_day = CLEAR_AHEAD > 0.05
    for skip in ((), (1,), (1, 2, 3)):
        smart = baselines.smart_persistence(known(9, 0.5, skip), AHEAD)
        np.testing.assert_allclose(smart[by_day], 0.5 * CLEAR_AHEAD[by_day], rtol=1e-9)
        assert (smart[CLEAR_AHEAD == 0] == 0).all()


def test_smart_persistence_beats_the_plain_one_as_days_change() -> None:
    ideal = 0.5 * CLEAR_AHEAD
    week_old = known(9, 0.5, skip=(1, 2, 3, 4, 5, 6))
    plain = np.abs(baselines.persistence(week_old, AHEAD) - ideal).mean()
    smart = np.abs(baselines.smart_persistence(week_old, AHEAD) - ideal).mean()
    assert smart < 0.1 * plain


def test_a_day_with_a_gap_is_filled_from_the_day_before_and_nan_is_a_gap() -> None:
    whole = known(9)
    power = whole.history.power_kw.copy()
    power[-12] = np.nan
    filled = baselines.persistence(replace(whole, history=History(whole.history.valid_at, power)), AHEAD[:24])
    np.testing.assert_allclose(filled[12], whole.history.power_kw[-36] / SITE.ac_capacity_kw)


def test_nothing_known_gives_nothing_and_no_nan() -> None:
    nothing = known(0)
    for baseline in (baselines.persistence, baselines.smart_persistence, baselines.physical):
        np.testing.assert_array_equal(baseline(nothing, AHEAD), 0.0)
    older = known(20, skip=tuple(range(1, 11)))  # all older than the eight days that are looked back
    np.testing.assert_array_equal(baselines.persistence(older, AHEAD), 0.0)


def test_the_physical_baseline_is_the_weather_runs_pvwatts() -> None:
    simulated = record(SITE).known_at(NOW)
    physical = baselines.physical(simulated, AHEAD)
    np.testing.assert_array_equal(physical, features.physical_power(SITE, simulated.weather, AHEAD))
    assert 0.2 < physical.max() <= 1.0


def test_the_future_changes_no_baseline() -> None:
    simulated = record(SITE)
    poisoned = replace(simulated, power_kw=np.where(simulated.available_at > NOW, 1e9, simulated.power_kw))
    for baseline in (baselines.persistence, baselines.smart_persistence, baselines.physical):
        np.testing.assert_array_equal(*(baseline(each.known_at(NOW), AHEAD) for each in (simulated, poisoned)))
