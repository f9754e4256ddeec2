"""The as-of rule: what was not available at an instant is not known at it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.known import HISTORY_DAYS, HOUR, ParkRecord, WeatherRun
from tests.bundles import site

START = np.datetime64("2013-06-01T00:00:00", "s")
MINUTE = np.timedelta64(60, "s")


def hours(*after: int) -> np.ndarray:
    return START + np.array(after, np.int64) * HOUR


def record(rows: list[tuple[int, int, float]] = (), runs: tuple[WeatherRun, ...] = ()) -> ParkRecord:  # type: ignore[assignment]
    """Rows of (hour, available after START in minutes, kW), in the order that a record promises."""
    rows = sorted(rows)
    return ParkRecord(
        site(),
        runs,
        hours(*(hour for hour, *_ in rows)),
        START + np.array([minutes for _, minutes, _ in rows], np.int64) * MINUTE,
        np.array([power for *_, power in rows], float),
    )


def run(run_at: int, available_at: int, name: str = "nwp") -> WeatherRun:
    valid_at = hours(*range(run_at, run_at + 4))
    return WeatherRun(name, hours(run_at)[0], hours(available_at)[0], valid_at, {"ghi": np.full(4, float(run_at))})


arrivals = st.lists(
    st.tuples(st.integers(0, 30), st.integers(-60, 5000), st.floats(0, 5)), max_size=40, unique_by=lambda row: row[:2]
)


@settings(max_examples=200, deadline=None)
@given(arrivals, st.integers(0, 40))
def test_nothing_is_known_before_it_was_available(rows: list[tuple[int, int, float]], as_of_hour: int) -> None:
    as_of = hours(as_of_hour)[0]
    expected = {}
    for hour, minutes, power in sorted(rows):
        if minutes <= as_of_hour * 60 and hour < as_of_hour:
            expected[hour] = power  # of the versions available by then, the last
    history = record(rows).known_at(as_of).history
    assert list(history.valid_at) == list(hours(*expected))
    assert list(history.power_kw) == list(expected.values())


def test_a_corrected_hour_has_its_old_value_until_the_correction_arrives() -> None:
    corrected = record([(5, 6 * 60 + 20, 1.0), (5, 50 * 60, 2.0)])
    before, at = hours(50)[0] - np.timedelta64(1, "s"), hours(50)[0]
    assert list(corrected.known_at(before).history.power_kw) == [1.0]
    assert list(corrected.known_at(at).history.power_kw) == [2.0]
    assert list(corrected.known_at(hours(6)[0]).history.power_kw) == []
    assert list(corrected.truth(hours(5))) == [2.0]


def test_an_hour_that_has_not_begun_is_not_known_whatever_its_row_says() -> None:
    early = record([(9, 0, 1.0), (10, 0, 2.0), (11, 0, 3.0)])
    assert list(early.known_at(hours(10)[0]).history.valid_at) == list(hours(9))


def test_history_reaches_back_fifteen_days() -> None:
    whole = HISTORY_DAYS * 24
    long = record([(hour, hour * 60 + 80, float(hour)) for hour in range(whole + 30)])
    kept = long.known_at(hours(whole + 20)[0]).history
    assert kept.valid_at[0] == hours(20)[0]
    assert kept.valid_at[-1] == hours(whole + 18)[0]  # the hour after it was received 20 minutes too late


def test_the_latest_run_that_was_available_is_chosen() -> None:
    runs = (run(0, 3), run(6, 9), run(12, 15))
    choose = record(runs=runs).known_at
    assert choose(hours(2)[0]).weather is None
    assert choose(hours(3)[0]).weather is runs[0]
    assert choose(hours(14)[0]).weather is runs[1]  # the third has started, and can't be had yet
    assert choose(hours(15)[0]).weather is runs[2]


def test_an_old_run_that_arrives_late_does_not_replace_a_newer_one() -> None:
    late, newer = run(0, 20), run(6, 9)
    assert record(runs=(newer, late)).known_at(hours(30)[0]).weather is newer


def test_truth_is_what_was_metered_and_nan_elsewhere() -> None:
    metered = record([(1, 120, 1.0), (3, 240, 3.0)])
    np.testing.assert_array_equal(metered.truth(hours(0, 1, 2, 3, 4)), [np.nan, 1.0, np.nan, 3.0, np.nan])
    np.testing.assert_array_equal(record().truth(hours(0, 1)), [np.nan, np.nan])


def test_truth_as_of_an_instant_has_no_later_correction() -> None:
    """What a model may learn from at `as_of`: the value that was metered, not the one corrected since."""
    corrected = record([(1, 120, 1.0), (1, 3000, 9.0), (2, 3100, 2.0)])
    early, late = hours(3)[0], hours(60)[0]
    np.testing.assert_array_equal(corrected.truth(hours(1, 2), early), [1.0, np.nan])
    np.testing.assert_array_equal(corrected.truth(hours(1, 2), late), corrected.truth(hours(1, 2)))
    np.testing.assert_array_equal(corrected.truth(hours(1, 2), START), [np.nan, np.nan])


def test_a_park_without_any_data_is_known_to_have_none() -> None:
    known = record().known_at(START)
    assert known.weather is None
    assert len(known.history.valid_at) == len(known.history.power_kw) == 0


def test_the_last_day_is_that_of_the_newest_run_that_began_a_day_ago_and_keeps_hours_under_snow() -> None:
    runs = tuple(run(at, at + 6) for at in (0, 12, 24, 36))
    kept = record([(hour, hour * 60 + 60, float(hour)) for hour in range(60)], runs)
    flags = np.array([{40: "snow", 41: "outage"}.get(hour, "") for hour in range(60)])
    assert replace(kept, flags=flags).known_at(hours(54)[0]).past is None  # that of 24 is four hours long
    longer = tuple(replace(each, valid_at=each.valid_at[0] + np.arange(48) * HOUR,
                           variables={"ghi": np.arange(48.0), "x_haze": np.zeros(48)}) for each in runs)  # fmt: skip
    past = replace(kept, flags=flags, runs=longer).known_at(hours(48)[0]).past
    assert past is not None
    assert past.weather.run_at == hours(24)[0]
    assert list(past.weather.valid_at) == list(hours(*range(24, 49)))
    assert set(past.weather.variables) == {"ghi"}
    assert list(past.metered.valid_at) == list(hours(*(hour for hour in range(24, 48) if hour != 41)))
    assert replace(kept, runs=longer).known_at(hours(23)[0]).past is None  # the first run began 23 h ago
