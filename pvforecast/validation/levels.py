"""Every check with its level, in one table; docs/validation.md shows the same."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["reject", "quarantine", "flag"]


class Check(NamedTuple):
    """One check. `name` stands in reasons, flags, reports and metrics."""

    name: str
    level: Level
    of: str
    says: str


CHECKS = (
    Check("schema", "reject", "all tables", "columns are there, of their type, times in UTC: or nothing is stored"),
    Check("wrong_park", "quarantine", "generation", "the row is of a park that is registered"),
    Check("no_number", "quarantine", "generation", "power is there and finite"),
    Check("odd_period", "quarantine", "generation", "the period divides an hour"),
    Check("above_capacity", "quarantine", "generation", "at most 150 % of ac_capacity_kw"),
    Check("below_zero", "quarantine", "generation", "at least -5 % of ac_capacity_kw: night consumption"),
    Check("night_power", "quarantine", "generation", "at most 2 % of capacity while the sun is 7 degrees down"),
    Check("watts_as_kilowatts", "quarantine", "generation", "not half an inverter day beyond ten times the capacity"),
    Check("a_thousandth", "quarantine", "generation", "no inverter's day that follows the sun at a thousandth"),
    Check("implausible", "quarantine", "generation, weather", "fractions 0-1, limits not negative"),
    Check("out_of_range", "quarantine", "weather", "values that occur on Earth, in canonical units"),
    Check("ghi_above_sun", "quarantine", "weather", "GHI <= 1.5 x extraterrestrial x mu^1.2 + 100 W/m²"),
    Check("dni_above_sun", "quarantine", "weather", "DNI <= extraterrestrial normal irradiance"),
    Check("dhi_above_sun", "quarantine", "weather", "DHI <= 0.95 x extraterrestrial x mu^1.2 + 50 W/m²"),
    Check("dhi_above_ghi", "quarantine", "weather", "DHI <= 1.1 x GHI + 50 W/m²"),
    Check("run_above_sun", "quarantine", "weather", "not a fifth of a run's bright hours above the sun: kJ/m²?"),
    Check("run_in_kilowatts", "quarantine", "weather", "not a whole run's GHI below 2 W/m² in daylight: kW/m²?"),
    Check("run_in_percent", "quarantine", "weather", "not a run with cloud cover or humidity beyond 1"),
    Check("components_disagree", "flag", "weather", "GHI = DNI x mu + DHI within 25 % and 50 W/m²"),
    Check("frozen_ghi", "flag", "weather", "no GHI above 20 W/m² that stands still for 4 intervals"),
    Check("gaps", "flag", "generation, weather", "every interval of the load is there"),
    Check("curtailed", "flag", "generation", "not held below what was possible"),
    Check("outage", "flag", "generation", "power in bright daylight"),
    Check("snow", "flag", "generation", "power under a bright sky after frost"),
    Check("frozen", "flag", "generation", "no power that stands still for 3 hours"),
    Check("clipped", "flag", "generation", "below the inverter's or the connection's limit; informational"),
    Check("counter", "flag", "generation", "power and energy counter agree within 25 % and 0.5 kWh; informational"),
    Check("season", "flag", "generation", "daily clear-sky share within the park's own season"),
    Check("clock", "flag", "generation", "in step with the sun; what is found is corrected, unless switched off"),
)  # fmt: skip

LEVELS: dict[str, Level] = {check.name: check.level for check in CHECKS}
_SAYS = {check.name: check.says for check in CHECKS}


def reason(name: str, hint: str = "") -> str:
    """How a check that failed is told: its name first, so that reasons can be counted by it."""
    return f"{name}: must be {_SAYS[name]}" if not hint else f"{name}: {hint}"


def name_of(told: str) -> str:
    """The check that a stored reason names; `other` for one that was set aside before it came here."""
    for part in told.replace(";", ":").split(":"):
        if part.strip() in LEVELS:
            return part.strip()
    return "other"
