"""From delivered rows to intervals: last received wins, inverters become one power, half an hour is no hour."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.processing import METER, Limit, Plant, differing, newest, roll_up, roster

MIDNIGHT = pd.Timestamp("2013-06-01", tz="UTC")
LATER = MIDNIGHT + pd.Timedelta(days=2)
PLANT = Plant("p", 100.0)


def hourly(raw: pd.DataFrame, plant: Plant = PLANT, now: pd.Timestamp = LATER) -> pd.DataFrame:
    return roll_up(raw, plant, 3600, now)


def rows(*quarters: tuple[str, str, float], period_s: int = 900, late_minutes: int = 20) -> pd.DataFrame:
    """Raw rows of (inverter, HH:MM, kW), each received 20 minutes after its start."""
    measured = [pd.Timestamp(f"2013-06-01 {text}", tz="UTC") for _, text, _ in quarters]
    return pd.DataFrame(
        {
            "park_id": "p",
            "inverter_id": [inverter for inverter, *_ in quarters],
            "measured_at": measured,
            "period_s": np.int32(period_s),
            "power_kw": [power for *_, power in quarters],
            "received_at": [moment + pd.Timedelta(minutes=late_minutes) for moment in measured],
        }
    )


def hour(inverter: str, start: int, *powers: float) -> list[tuple[str, str, float]]:
    return [(inverter, f"{start:02}:{15 * quarter:02}", power) for quarter, power in enumerate(powers)]


def test_an_hour_is_the_mean_of_its_quarters_and_known_when_the_last_was_received() -> None:
    [made] = hourly(rows(*hour("1", 10, 1.0, 2.0, 3.0, 4.0))).to_dict("records")
    assert made["park_id"] == "p"
    assert made["valid_at"] == MIDNIGHT + pd.Timedelta(hours=10)
    assert made["power_kw"] == 2.5
    assert made["completeness"] == 1.0
    assert made["available_at"] == MIDNIGHT + pd.Timedelta(hours=11, minutes=5)


def test_unequal_periods_weigh_by_their_length() -> None:
    half = rows(("1", "10:00", 1.0), period_s=1800)
    quarters = rows(("1", "10:30", 3.0), ("1", "10:45", 5.0))
    assert list(hourly(pd.concat([half, quarters])).power_kw) == [2.5]


def test_last_received_wins_whatever_the_order_of_delivery() -> None:
    first, correction = rows(*hour("1", 10, 1, 1, 1, 1)), rows(("1", "10:30", 5.0), late_minutes=600)
    for delivered in ([first, correction], [correction, first]):
        [made] = hourly(pd.concat(delivered)).to_dict("records")
        assert made["power_kw"] == 2.0
        assert made["available_at"] == MIDNIGHT + pd.Timedelta(hours=20, minutes=30)


def test_a_quarter_delivered_twice_counts_once() -> None:
    again = pd.concat([rows(*hour("1", 10, 1, 2, 3, 4)), rows(*hour("1", 10, 1, 2, 3, 4), late_minutes=25)])
    [made] = hourly(again).to_dict("records")
    assert (made["power_kw"], made["completeness"]) == (2.5, 1.0)


def test_an_hour_that_is_not_whole_is_waited_for_and_then_taken_as_it_is() -> None:
    delivered = rows(*hour("1", 10, 1, 1, 1), *hour("1", 11, 1, 1), *hour("1", 12, 1, 1, 1, 1))
    made = hourly(delivered)
    assert list(made.valid_at.dt.hour) == [10, 12]  # three quarters are enough, two are not
    assert list(made.completeness) == [0.75, 1.0]
    assert made.available_at[0] == MIDNIGHT + pd.Timedelta(hours=11, minutes=30)
    early = hourly(delivered, now=MIDNIGHT + pd.Timedelta(hours=11, minutes=29))
    assert list(early.valid_at.dt.hour) == [12]


def test_inverters_are_summed_and_an_hour_that_lacks_the_larger_part_is_left_out() -> None:
    both = [*hour("1", 10, 1, 1, 1, 1), *hour("2", 10, 2, 2, 2, 2)]
    made = hourly(rows(*both, *hour("1", 11, 1, 1, 1, 1), *hour("1", 12, 1, 1, 1, 1), *hour("2", 12, 2, 2)))
    assert list(made.valid_at.dt.hour) == [10]  # at 11 the second is missing, at 12 half of it
    assert list(made.power_kw) == [3.0]


def test_a_small_inverter_that_falls_silent_is_taken_to_do_as_the_others() -> None:
    whole = [row for n in range(4) for row in hour(str(n), 10, 2, 2, 2, 2)] + hour("small", 10, 1, 1, 1, 1)
    silent = [row for n in range(4) for row in hour(str(n), 11, 1, 1, 1, 1)]
    made = hourly(rows(*whole, *silent))
    assert list(made.power_kw) == [9.0, 4.5]
    assert list(made.completeness) == [1.0, pytest.approx(8 / 9)]


def test_completeness_is_the_part_of_the_park_that_was_heard_and_the_latest_receipt_counts() -> None:
    delivered = pd.concat([rows(*hour("1", 10, 1, 1, 1, 1)), rows(*hour("2", 10, 2, 2, 2), late_minutes=90)])
    [made] = hourly(delivered).to_dict("records")
    assert made["completeness"] == pytest.approx((1 + 2 * 0.75) / 3)
    assert made["available_at"] == MIDNIGHT + pd.Timedelta(hours=12)


def test_an_inverter_is_missed_for_three_days_and_then_no_longer() -> None:
    one = pd.concat([rows(*hour("1", 10, 2, 2, 2, 2)).assign(measured_at=lambda r, d=d: r.measured_at + d * DAY,
                    received_at=lambda r, d=d: r.received_at + d * DAY) for d in range(5)])  # fmt: skip
    other = rows(*hour("2", 10, 2, 2, 2, 2))
    made = hourly(pd.concat([one, other]), now=MIDNIGHT + 9 * DAY)
    assert list(made.valid_at) == [MIDNIGHT + pd.Timedelta(hours=10) + d * DAY for d in (0, 4)]
    assert list(made.power_kw) == [4.0, 2.0]


def test_the_parks_own_meter_goes_before_its_inverters_where_it_covers_the_hour() -> None:
    both = [
        *hour("1", 10, 1, 1, 1, 1),
        *hour("2", 10, 2, 2, 2, 2),
        *hour("1", 11, 1, 1, 1, 1),
        *hour("2", 11, 2, 2, 2, 2),
    ]
    meter = rows((METER, "10:00", 2.9), period_s=3600)
    assert list(hourly(pd.concat([rows(*both), meter])).power_kw) == [2.9, 3.0]
    assert list(hourly(meter).power_kw) == [2.9]


def test_an_inverter_that_sends_hours_beside_quarters_counts_once() -> None:
    twice = pd.concat([rows(*hour("1", 10, 1, 1, 1, 1)), rows(("1", "10:00", 7.0), period_s=3600)])
    assert list(hourly(twice).power_kw) == [1.0]  # the shorter means
    gap = pd.concat([rows(*hour("1", 10, 1, 1)), rows(("1", "10:00", 7.0), period_s=3600)])
    assert list(hourly(gap).power_kw) == [7.0]  # what covers the hour


def test_a_row_that_crosses_the_hour_is_divided() -> None:
    crossing = rows(("1", "09:30", 2.0), ("1", "10:30", 4.0), ("1", "11:30", 9.0), period_s=3600)
    made = hourly(crossing)
    assert list(made.power_kw) == [3.0, 6.5]
    assert list(made.valid_at.dt.hour) == [10, 11]


def test_quarters_of_the_park_are_made_of_rows_that_are_no_longer_than_they() -> None:
    delivered = pd.concat([rows(*hour("1", 10, 1, 2, 3, 4)), rows(("1", "11:00", 7.0), period_s=3600)])
    made = roll_up(delivered, PLANT, 900, LATER)
    assert list(made.power_kw) == [1.0, 2.0, 3.0, 4.0]
    assert set(made.period_s) == {900}
    assert made.available_at[0] == MIDNIGHT + pd.Timedelta(hours=10, minutes=20)


def test_what_was_stated_stands_with_the_hour() -> None:
    told = rows(*hour("1", 10, 50, 50, 50, 50), *hour("1", 11, 50, 50, 50, 50), *hour("1", 12, 99, 99, 99, 99))
    told["curtailed"] = [True, None, None, None] + [None] * 8
    told["available_fraction"] = [None] * 4 + [0.5, 0.5, 1.0, 1.0] + [None] * 4
    made = hourly(told)
    assert list(made["flags"]) == ["curtailed", "outage", "clipped"]
    assert made.available_fraction[1] == 0.75


def test_the_availability_schedule_of_the_park_is_stated_too() -> None:
    at = MIDNIGHT + pd.Timedelta(hours=11)
    plant = Plant(
        "p", 100.0, None, (Limit(at, at + pd.Timedelta(hours=1), 1.0, 50.0), Limit(at + DAY, None, 0.0, None))
    )
    delivered = rows(*hour("1", 10, 50, 50, 50, 50), *hour("1", 11, 50, 50, 50, 50), *hour("1", 12, 50, 50, 50, 50))
    assert list(hourly(delivered, plant)["flags"]) == ["", "curtailed", ""]
    tomorrow = delivered.assign(measured_at=delivered.measured_at + DAY)
    assert list(hourly(tomorrow, plant)["flags"]) == ["", "outage", "outage"]


def test_a_connection_below_the_inverters_clips_and_does_not_curtail() -> None:
    delivered = rows(*hour("1", 10, 60, 60, 60, 60), *hour("1", 11, 50, 50, 50, 50))
    assert list(hourly(delivered, Plant("p", 100.0, 60.0))["flags"]) == ["clipped", ""]


def test_nothing_delivered_makes_no_hours() -> None:
    assert len(hourly(rows().astype({"measured_at": "datetime64[ns, UTC]"}))) == 0


DAY = pd.Timedelta(days=1)
quarter = st.tuples(st.sampled_from(["1", "2", "3"]), st.integers(0, 4 * 24 * 4 - 1), st.integers(0, 8), st.booleans())


@settings(max_examples=25, deadline=None)
@given(st.lists(quarter, min_size=1, max_size=120), st.integers(0, 95))
def test_an_interval_is_the_same_whatever_stretch_is_looked_at(
    sent: list[tuple[str, int, int, bool]], cut: int
) -> None:
    """With its rows and who was heard before, an hour needs nothing else of the past or the future."""
    raw = pd.DataFrame(
        {
            "inverter_id": [row[0] for row in sent],
            "measured_at": [MIDNIGHT + pd.Timedelta(minutes=15 * row[1]) for row in sent],
            "period_s": np.int32(900),
            "power_kw": [float(row[2]) for row in sent],
        }
    )
    raw["received_at"] = raw.measured_at + pd.to_timedelta([20 + 700 * row[3] for row in sent], unit="min")
    now, at, heard = MIDNIGHT + 9 * DAY, MIDNIGHT + pd.Timedelta(hours=cut), roster(raw)
    whole = roll_up(raw, PLANT, 3600, now, heard)
    parts = [
        roll_up(part, PLANT, 3600, now, heard)
        for part in (raw[raw.measured_at < at], raw[raw.measured_at >= at])
    ]  # fmt: skip
    kept = [part for part in parts if len(part)]
    together = pd.concat(kept, ignore_index=True) if kept else whole.iloc[:0]
    pd.testing.assert_frame_equal(together, whole)


def hours(*values: tuple[int, float, int]) -> pd.DataFrame:
    """Processed hours of (hour, kW, available at hour)."""
    return pd.DataFrame(
        {
            "park_id": "p",
            "period_s": 3600,
            "valid_at": [MIDNIGHT + pd.Timedelta(hours=start) for start, *_ in values],
            "power_kw": [power for _, power, _ in values],
            "available_at": [MIDNIGHT + pd.Timedelta(hours=at) for *_, at in values],
            "completeness": 1.0,
            "available_fraction": np.nan,
            "export_limit_kw": np.nan,
            "flags": "",
        }
    )


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        ((), [1.0, 2.0]),
        ([(10, 1.0, 11)], [2.0]),
        ([(10, 1.0, 11), (11, 2.0, 12)], []),
        ([(10, 9.0, 11), (11, 2.0, 12)], [1.0]),
        ([(10, 1.0, 11), (10, 9.0, 12), (11, 2.0, 12)], [1.0]),  # the newest is what counts
        ([(10, 9.0, 11), (10, 1.0, 12), (11, 2.0, 12)], []),
        ([(9, 1.0, 10)], [1.0, 2.0]),
    ],
)
def test_only_what_is_new_or_changed_differs_from_what_is_stored(
    stored: list[tuple[int, float, int]], new: list[float]
) -> None:
    made = hours((10, 1.0, 30), (11, 2.0, 30))
    assert list(made[differing(made, newest(hours(*stored)))].power_kw) == new


def test_another_flag_is_a_change() -> None:
    made, stored = hours((10, 1.0, 30)), hours((10, 1.0, 11))
    assert list(differing(made, stored)) == [False]
    assert list(differing(made.assign(flags="snow"), stored)) == [True]
