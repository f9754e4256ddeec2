"""What is planted: each fault with sizes of its own, at a random day. Hard ones are of data, slow ones of plants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.drifts.climates import Floats
from benchmarks.drifts.simulator import Park

HARD = ("unit", "outage", "frozen", "clock")
SLOW = ("loss_10", "soiling", "provider_bias")


@dataclass(frozen=True)
class Fault:
    """`plant(park, first hour, random)` returns the park as it is from then on, and what was drawn.

    `causes`: the names of the diagnosis that would be right.
    """

    name: str
    causes: tuple[str, ...]
    plant: Callable[[Park, int, np.random.Generator], tuple[Park, str]]


def _metered(
    change: Callable[[Park, Floats, np.random.Generator], tuple[Floats, str]],
) -> Callable[..., tuple[Park, str]]:
    """A fault of what the meter says from the first hour on."""

    def plant(park: Park, at: int, random: np.random.Generator) -> tuple[Park, str]:
        power = park.power.copy()
        power[at:], drawn = change(park, power[at:].copy(), random)
        return replace(park, power=power), drawn

    return plant


def _unit(_park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
    factor = float(random.choice([1_000.0, 0.001, 4.0, 0.25, 60.0]))
    return power * factor, f"x{factor:g}"


def _outage(_park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
    days = int(random.integers(3, 15))
    power[: days * 24] = np.where(np.isnan(power[: days * 24]), np.nan, 0.0)
    return power, f"{days} d"


def _frozen(park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
    """From an hour of the first days in which the park makes something."""
    lively = np.flatnonzero(power[:72] > 0.05 * park.site.ac_capacity_kw)
    at = int(random.choice(lively[: max(len(lively) // 2, 1)])) if len(lively) else 12
    days = int(random.integers(2, 10))
    power[at : at + 24 * days] = power[at]
    return power, f"{days} d"


def _clock(_park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
    hours = int(random.choice([-2, -1, 1, 2]))
    return np.roll(power, hours), f"{hours:+d} h"


def _loss(low: float, high: float) -> Callable[[Park, Floats, np.random.Generator], tuple[Floats, str]]:
    def change(_park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
        share = float(random.uniform(low, high))
        return power * (1.0 - share), f"-{share:.0%}"

    return change


def _soiling(_park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
    a_day = float(random.uniform(0.0025, 0.0035))
    return power * np.maximum(1.0 - a_day * np.arange(len(power)) / 24.0, 0.5), f"-{a_day:.2%} a day"


def _clipping(park: Park, power: Floats, random: np.random.Generator) -> tuple[Floats, str]:
    usual = float(np.nanquantile(park.power, 0.995))
    limit = float(random.uniform(0.4, 0.65)) * usual
    return np.minimum(power, limit), f"at {limit / usual:.0%}"


def _provider(park: Park, at: int, random: np.random.Generator) -> tuple[Park, str]:
    factor = 1.0 + float(random.uniform(0.08, 0.12))
    ghi = park.ghi.copy()
    ghi[park.runs_at >= park.hours[at]] *= factor
    return replace(park, ghi=ghi), f"x{factor:.2f}"


def _snow(park: Park, at: int, random: np.random.Generator) -> tuple[Park, str]:
    """Modules covered for some days from the first day of frost on; what comes through melts them free again."""
    day = at // 24
    coldest = park.truth_air.reshape(-1, 24)[day : day + 45].max(axis=1)
    frost = np.flatnonzero(coldest < 1.0)
    if len(frost) == 0:
        raise NoFrost
    first = day + int(frost[0])
    days = int(random.integers(2, 6))
    power = park.power.copy()
    for n in range(days):
        hours = slice((first + n) * 24, (first + n + 1) * 24)
        through = float(random.uniform(0.0, 0.08)) if n < days - 1 else 0.3
        power[hours] *= through
    return replace(park, power=power), f"{days} d from day {first - day}"


class NoFrost(Exception):
    """It does not snow here."""


ALL = (
    Fault("unit", ("unit_error",), _metered(_unit)),
    Fault("outage", ("outage",), _metered(_outage)),
    Fault("frozen", ("frozen_sensor",), _metered(_frozen)),
    Fault("clock", ("clock_shift",), _metered(_clock)),
    Fault("loss_10", ("loss_or_soiling",), _metered(_loss(0.08, 0.12))),
    Fault("loss_20", ("loss_or_soiling",), _metered(_loss(0.15, 0.3))),
    Fault("soiling", ("loss_or_soiling",), _metered(_soiling)),
    Fault("provider_bias", ("provider_bias",), _provider),
    Fault("clipping", ("clipping",), _metered(_clipping)),
    Fault("snow", ("snow",), _snow),
)
