"""Energy counters: what a step means, and the mean power between readings.

A counter only grows, up to the end of its register. A step down is a rollover when the energy since, taken round the
end of the register, fits what the park can make in that time; otherwise the counter was reset, and the interval is
unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

_SLACK = 1.5  # of capacity, as in the contract of power
_RESOLUTION_KWH = 1.0  # what a counter may jump by in no time

Kind = Literal["step", "rollover", "reset", "impossible"]


class Step(NamedTuple):
    """Energy between two readings, kWh; None where it can't be told."""

    kind: Kind
    energy_kwh: float | None


def step(before_kwh: float, now_kwh: float, seconds: float, capacity_kw: float, modulus_kwh: float | None) -> Step:
    """What two readings of a counter say, `seconds` apart.

    Parameters
    ----------
    modulus_kwh : where the counter's register rolls over to 0; None: it does not.
    """
    most = _SLACK * capacity_kw * seconds / 3600 + _RESOLUTION_KWH
    energy = now_kwh - before_kwh
    if energy >= 0:
        return Step("step", energy) if energy <= most else Step("impossible", None)
    if modulus_kwh is not None and 0 <= energy + modulus_kwh <= most:
        return Step("rollover", energy + modulus_kwh)
    return Step("reset", None)


class Bin(NamedTuple):
    """One period of the grid: its start in s, the mean power, and the counter at its end."""

    start_s: int
    power_kw: float
    total_kwh: float


@dataclass
class Counter:
    """The last reading of one device, and the period that is not over yet.

    Attributes
    ----------
    at_s, total_kwh : the reading.
    boundary_kwh : the energy from the start of the period to that reading; None where it is not known.
    """

    at_s: float
    total_kwh: float
    boundary_kwh: float | None = None

    @classmethod
    def at_boundary(cls, end_s: float, total_kwh: float) -> Counter:
        """As it stood at the end of a stored period: nothing between is lost."""
        return cls(end_s, total_kwh, 0.0)

    def add(
        self,
        at_s: float,
        total_kwh: float,
        *,
        period_s: int,
        capacity_kw: float,
        modulus_kwh: float | None = None,
        max_gap_s: float = 3600,
    ) -> Iterator[Bin]:
        """Take a reading; gives the periods it completes. One that is not later than the last changes nothing.

        Energy is spread evenly over the time between two readings. A reset, an impossible step and a pause of more
        than `max_gap_s` leave the periods they touch unknown.
        """
        seconds = at_s - self.at_s
        if seconds <= 0:
            return
        energy = step(self.total_kwh, total_kwh, seconds, capacity_kw, modulus_kwh).energy_kwh
        if energy is None or seconds > max_gap_s:
            self.at_s, self.total_kwh, self.boundary_kwh = at_s, total_kwh, 0.0 if at_s % period_s == 0 else None
            return
        power = energy / seconds  # kWh a second
        at, total = self.at_s, self.total_kwh
        gathered = 0.0 if self.boundary_kwh is None and at % period_s == 0 else self.boundary_kwh
        end = (at // period_s + 1) * period_s
        while end <= at_s:
            part = power * (end - at)
            total = (total + part) % modulus_kwh if modulus_kwh else total + part
            if gathered is not None:
                yield Bin(int(end - period_s), (gathered + part) * 3600 / period_s, total)
            gathered, at, end = 0.0, end, end + period_s
        self.boundary_kwh = None if gathered is None else gathered + power * (at_s - at)
        self.at_s, self.total_kwh = at_s, total_kwh
