"""Counters: what steps mean, and that the mean power between readings neither loses nor makes energy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.telemetry.counters import Bin, Counter, step
from pvforecast.telemetry.crosscheck import disagreeing

WRAP = 2**32 / 1000  # kWh of a 32-bit register in Wh


def test_a_step_up_is_energy() -> None:
    assert step(10.0, 12.5, 3600, 100, None) == ("step", 2.5)


def test_a_step_down_that_fits_round_the_register_is_a_rollover() -> None:
    kind, energy = step(WRAP - 0.5, 1.0, 300, 100, WRAP)
    assert (kind, energy) == ("rollover", pytest.approx(1.5))


def test_a_step_down_that_fits_nothing_is_a_reset() -> None:
    assert step(5000.0, 1.0, 300, 100, WRAP) == ("reset", None)
    assert step(5000.0, 1.0, 300, 100, None) == ("reset", None)


def test_more_than_the_park_can_make_is_impossible() -> None:
    assert step(10.0, 1000.0, 300, 100, None) == ("impossible", None)


def bins(counter: Counter, *readings: tuple[float, float], **more: float) -> list[Bin]:
    asked = {"period_s": 300, "capacity_kw": 100.0, **more}
    return [one for at, total in readings for one in counter.add(at, total, **asked)]  # type: ignore[arg-type]


def test_mean_power_comes_out_on_the_grid() -> None:
    found = bins(Counter(0, 100.0), (150, 101.0), (450, 104.0), (600, 104.5))
    assert found == [Bin(0, pytest.approx(30.0), pytest.approx(102.5)), Bin(300, pytest.approx(24.0), 104.5)]


def test_a_first_period_that_began_before_the_first_reading_is_unknown() -> None:
    assert [one.start_s for one in bins(Counter(100, 100.0), (300, 101.0), (600, 102.0))] == [300]


def test_a_reset_leaves_its_period_unknown() -> None:
    found = bins(Counter(0, 100.0), (300, 101.0), (450, 0.1), (600, 0.5), (900, 1.5))
    assert [one.start_s for one in found] == [0, 600]


def test_a_long_pause_leaves_its_periods_unknown() -> None:
    found = bins(Counter(0, 100.0), (300, 101.0), (9000, 110.0), (9300, 111.0), max_gap_s=3600)
    assert [one.start_s for one in found] == [0, 9000]


def test_a_rollover_goes_on() -> None:
    found = bins(Counter(0, WRAP - 1.0), (300, 1.0), modulus_kwh=WRAP)
    assert found == [Bin(0, pytest.approx(24.0), pytest.approx(1.0))]


def test_a_reading_that_is_not_later_changes_nothing() -> None:
    counter = Counter(300, 100.0, 0.0)
    assert bins(counter, (300, 105.0), (200, 90.0)) == []
    assert (counter.at_s, counter.total_kwh) == (300, 100.0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 900), st.floats(0, 5)), min_size=1, max_size=30), st.data())
def test_a_restart_loses_no_period_and_no_energy(steps: list[tuple[int, float]], data: st.DataObject) -> None:
    """A new service is seeded with the end of the last stored period: it continues as if nothing had happened."""
    readings, at, total = [], 0, 1000.0
    for seconds, energy in steps:
        at, total = at + seconds, total + energy
        readings.append((float(at), total))
    one = Counter(0, 1000.0)
    whole = bins(one, *readings, capacity_kw=1e9)
    cut = data.draw(st.integers(0, len(readings)))
    first = bins(Counter(0, 1000.0), *readings[:cut], capacity_kw=1e9)
    other = Counter.at_boundary(first[-1].start_s + 300, first[-1].total_kwh) if first else Counter(0, 1000.0)
    found = first + bins(other, *readings[cut:], capacity_kw=1e9)
    assert [bin.start_s for bin in found] == [bin.start_s for bin in whole]
    if cut < len(readings):
        assert gathered(found, other) == pytest.approx(gathered(whole, one), abs=1e-6)


def gathered(found: list[Bin], counter: Counter) -> float:
    return sum(bin.power_kw for bin in found) * 300 / 3600 + (counter.boundary_kwh or 0.0)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 900), st.floats(0, 5)), min_size=1, max_size=30))
def test_no_energy_is_lost_or_made(steps: list[tuple[int, float]]) -> None:
    counter, at, total, found = Counter(0, 0.0), 0, 0.0, list[Bin]()
    for seconds, energy in steps:
        at, total = at + seconds, total + energy
        found += bins(counter, (float(at), total), capacity_kw=1e9)
    assert counter.boundary_kwh is not None or not found
    known = sum(one.power_kw * 300 / 3600 for one in found) + (counter.boundary_kwh or 0.0)
    assert known == pytest.approx(total, abs=1e-6) or counter.boundary_kwh is None


def samples(power_kw: float, counter_kw: float, minutes: int = 60, device: str = "a") -> pd.DataFrame:
    at = pd.date_range("2026-08-01T10:00Z", periods=minutes, freq="min")
    total = 5000.0 + counter_kw * np.arange(minutes) / 60
    return pd.DataFrame(
        {"inverter_id": device, "measured_at": at, "period_s": 60, "power_kw": power_kw, "energy_total_kwh": total}
    )


HOUR = int(pd.Timestamp("2026-08-01T10:00Z").timestamp()) // 3600


def test_power_and_counter_that_agree_within_reason_say_nothing() -> None:
    assert disagreeing(samples(50.0, 55.0), 3600).tolist() == []
    assert disagreeing(samples(0.1, 0.4), 3600).tolist() == []


def test_power_that_the_counter_does_not_bear_out_is_named() -> None:
    both = pd.concat([samples(50.0, 50.0), samples(50.0, 0.05, device="b")])
    assert disagreeing(both, 3600).tolist() == [HOUR]


def test_too_few_readings_and_a_reset_say_nothing() -> None:
    assert disagreeing(samples(50.0, 5.0, minutes=20), 3600).tolist() == []
    reset = samples(50.0, 50.0).assign(energy_total_kwh=lambda rows: rows.energy_total_kwh.where(rows.index < 30, 0.0))
    assert disagreeing(reset, 3600).tolist() == []
    assert disagreeing(samples(50.0, 5.0).drop(columns="energy_total_kwh"), 3600).tolist() == []
