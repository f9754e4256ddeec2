"""A simulated park for tests: pvlib's physics under autocorrelated clouds, and a meter that can be tampered with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pvforecast.features import WEATHER_ONLY_SPEC, build, physical_power
from pvforecast.known import HOUR, Floats, History, ParkRecord, Times, WeatherRun
from pvforecast.site import Site

SITE = Site("simulated", 39.74, -105.18, 1829.0, 35.0, 180.0, 4.0, "America/Denver")
MIDNIGHT = np.timedelta64(7 * 3600, "s")
METER_DELAY = 2 * HOUR


def simulated(first: str, days: int, *, site: Site = SITE, scale: float = 0.9, seed: int = 0) -> ParkRecord:
    """`days` days from the local date `first`; one weather run of 48 hours at each local midnight."""
    begin = np.datetime64(first, "s") + MIDNIGHT
    hours = begin + np.arange((days + 1) * 24) * HOUR
    weather = _weather(site, hours, seed)
    power = physical_power(site, weather, hours) * scale * site.ac_capacity_kw
    power *= np.exp(np.random.default_rng(seed + 1).normal(0.0, 0.03, len(hours)))
    runs = []
    for day in range(days):
        part = slice(day * 24, day * 24 + 48)
        at = hours[day * 24]
        runs.append(
            WeatherRun("simulated", at, at, hours[part], {name: v[part] for name, v in weather.variables.items()})
        )
    metered = slice(0, days * 24)
    return ParkRecord(site, tuple(runs), hours[metered], hours[metered] + METER_DELAY, power[metered])


def tampered(record: ParkRecord, from_day: str, change: Callable[[Floats], Floats]) -> ParkRecord:
    """The record with `change` applied to all metered power from the local day on."""
    late = record.valid_at >= np.datetime64(from_day, "s") + MIDNIGHT
    power = record.power_kw.copy()
    power[late] = change(power[late])
    return replace(record, power_kw=power)


def _weather(site: Site, hours: Times, seed: int) -> WeatherRun:
    """GHI = clear sky x an index that remembers the hour before and the day's mood; temperature by season."""
    nothing = History(np.zeros(0, "datetime64[s]"), np.zeros(0))
    clear = build(WEATHER_ONLY_SPEC, site, None, nothing, hours[0], hours)[
        :, WEATHER_ONLY_SPEC.names.index("ghi_clear")
    ]
    rng = np.random.default_rng(seed)
    mood = np.repeat(rng.choice([1.0, 0.95, 0.8, 0.45], len(hours) // 24 + 1, p=[0.45, 0.25, 0.2, 0.1]), 24)[
        : len(hours)
    ]
    index = np.clip(mood + rng.normal(0.0, 0.04, len(hours)), 0.1, 1.05)
    temp = 12.0 - 12.0 * np.cos(np.arange(len(hours)) / 24 / 365.25 * 2 * np.pi) + rng.normal(0, 3, len(hours))
    return WeatherRun("simulated", hours[0], hours[0], hours, {"ghi": clear * index, "temp_air": temp})
