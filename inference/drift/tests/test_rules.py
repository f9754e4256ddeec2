from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from inference.drift import model, rules
from inference.drift.days import DayCutter, ParkDays
from inference.drift.tests.parks import simulated

FIRST, LAST, AS_OF = np.datetime64("2021-06-01"), np.datetime64("2021-06-20"), np.datetime64("2021-07-01T00:00:00", "s")
DAY = 8


@pytest.fixture(scope="module")
def park() -> ParkDays:
    return DayCutter(simulated("2021-06-01", 20)).cut(FIRST, LAST, AS_OF)


def _fired(park: ParkDays, change: Callable[[np.ndarray], None]) -> dict[str, list[int]]:
    power = park.power.copy()
    change(power)
    found = rules.find(replace(park, power=power), model.physical(park))
    return {finding.rule: np.flatnonzero(finding.fires).tolist() for finding in found if finding.fires.any()}


def test_a_healthy_park_breaks_no_rule(park: ParkDays) -> None:
    assert _fired(park, lambda _power: None) == {}


def test_kilowatts_read_as_watts(park: ParkDays) -> None:
    def change(power: np.ndarray) -> None:
        power[DAY, 12:] *= 1_000.0

    assert _fired(park, change)["above_capacity"] == [DAY]


def test_an_outage_fires_after_twelve_bright_hours_and_touches_its_first_day(park: ParkDays) -> None:
    power = park.power.copy()
    power[DAY:, 15:] = 0.0
    power[DAY + 1 :] = 0.0
    found = rules.outage(replace(park, power=power), model.physical(park))
    assert np.flatnonzero(found.fires)[0] == DAY + 1
    assert np.flatnonzero(found.touched)[0] == DAY


def test_nothing_at_all_fires_after_six_bright_hours_of_the_same_day(park: ParkDays) -> None:
    def change(power: np.ndarray) -> None:
        power[DAY, 10:] = 0.0

    assert _fired(park, change)["dead"] == [DAY]


def test_one_dark_day_is_no_outage(park: ParkDays) -> None:
    def change(power: np.ndarray) -> None:
        power[DAY, 6:14] = 0.0

    assert "outage" not in _fired(park, change)


def test_a_gap_in_the_data_is_no_outage(park: ParkDays) -> None:
    def change(power: np.ndarray) -> None:
        power[DAY : DAY + 4] = np.nan

    assert _fired(park, change) == {}


def test_power_in_the_night(park: ParkDays) -> None:
    def change(power: np.ndarray) -> None:
        power[DAY, 0:2] = 0.1

    assert _fired(park, change) == {"night_power": [DAY]}


def test_a_frozen_sensor_but_neither_night_nor_the_nameplate(park: ParkDays) -> None:
    def freeze(power: np.ndarray) -> None:
        power[DAY, 10:13] = 0.4

    def at_nameplate(power: np.ndarray) -> None:
        power[DAY, 10:14] = 1.0

    def limited(power: np.ndarray) -> None:
        np.minimum(power, 0.35, out=power)

    assert _fired(park, freeze) == {"frozen_values": [DAY]}
    assert _fired(park, at_nameplate) == {}
    assert _fired(park, limited) == {}
