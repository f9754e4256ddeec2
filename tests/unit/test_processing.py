"""From delivered rows to hours: last received wins, inverters are summed, half an hour is no hour."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pvforecast.processing import changed_hours, hourly_generation

MIDNIGHT = pd.Timestamp("2013-06-01", tz="UTC")


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
    [made] = hourly_generation(rows(*hour("1", 10, 1.0, 2.0, 3.0, 4.0))).to_dict("records")
    assert made["park_id"] == "p"
    assert made["valid_at"] == MIDNIGHT + pd.Timedelta(hours=10)
    assert made["power_kw"] == 2.5
    assert made["completeness"] == 1.0
    assert made["available_at"] == MIDNIGHT + pd.Timedelta(hours=11, minutes=5)


def test_unequal_periods_weigh_by_their_length() -> None:
    half = rows(("1", "10:00", 1.0), period_s=1800)
    quarters = rows(("1", "10:30", 3.0), ("1", "10:45", 5.0))
    assert list(hourly_generation(pd.concat([half, quarters])).power_kw) == [2.5]


def test_last_received_wins_whatever_the_order_of_delivery() -> None:
    first, correction = rows(*hour("1", 10, 1, 1, 1, 1)), rows(("1", "10:30", 5.0), late_minutes=600)
    for delivered in ([first, correction], [correction, first]):
        [made] = hourly_generation(pd.concat(delivered)).to_dict("records")
        assert made["power_kw"] == 2.0
        assert made["available_at"] == MIDNIGHT + pd.Timedelta(hours=20, minutes=30)


def test_a_quarter_delivered_twice_counts_once() -> None:
    again = pd.concat([rows(*hour("1", 10, 1, 2, 3, 4)), rows(*hour("1", 10, 1, 2, 3, 4), late_minutes=25)])
    [made] = hourly_generation(again).to_dict("records")
    assert (made["power_kw"], made["completeness"]) == (2.5, 1.0)


def test_an_incomplete_hour_is_left_out() -> None:
    made = hourly_generation(rows(*hour("1", 10, 1, 1, 1), *hour("1", 11, 1, 1), *hour("1", 12, 1, 1, 1, 1)))
    assert list(made.valid_at.dt.hour) == [10, 12]  # three quarters are enough, two are not
    assert list(made.completeness) == [0.75, 1.0]


def test_inverters_are_summed_and_an_hour_that_lacks_one_is_left_out() -> None:
    both = [*hour("1", 10, 1, 1, 1, 1), *hour("2", 10, 2, 2, 2, 2)]
    made = hourly_generation(rows(*both, *hour("1", 11, 1, 1, 1, 1), *hour("1", 12, 1, 1, 1, 1), *hour("2", 12, 2, 2)))
    assert list(made.valid_at.dt.hour) == [10]  # at 11 the second is missing, at 12 it is incomplete
    assert list(made.power_kw) == [3.0]


def test_the_least_complete_inverter_counts_and_the_latest_receipt() -> None:
    delivered = pd.concat([rows(*hour("1", 10, 1, 1, 1, 1)), rows(*hour("2", 10, 2, 2, 2), late_minutes=90)])
    [made] = hourly_generation(delivered).to_dict("records")
    assert made["completeness"] == 0.75
    assert made["available_at"] == MIDNIGHT + pd.Timedelta(hours=12)


def test_nothing_delivered_makes_no_hours() -> None:
    assert len(hourly_generation(rows().astype({"measured_at": "datetime64[ns, UTC]"}))) == 0


def hours(*values: tuple[int, float, int]) -> pd.DataFrame:
    """Processed hours of (hour, kW, available at hour)."""
    return pd.DataFrame(
        {
            "valid_at": [MIDNIGHT + pd.Timedelta(hours=start) for start, *_ in values],
            "power_kw": [power for _, power, _ in values],
            "available_at": [MIDNIGHT + pd.Timedelta(hours=at) for *_, at in values],
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
def test_only_what_is_new_or_changed_is_stored_beside_the_old(
    stored: list[tuple[int, float, int]], new: list[float]
) -> None:
    assert list(changed_hours(hours((10, 1.0, 30), (11, 2.0, 30)), hours(*stored)).power_kw) == new
