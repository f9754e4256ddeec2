"""The likely cause of an alarm, where the pattern tells, with the numbers that speak for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.drift.observe import Alarm, Observed
from inference.drift.statistics import CLEAR_EXPECTED, CLEAR_INDEX
from pvforecast.known import Floats

FIX_DATA, RETRAIN, WATCH = "fix_data", "retrain", "watch"
LOSS = "loss_or_soiling"

ADVICE = {
    "unit_error": FIX_DATA,
    "outage": FIX_DATA,
    "clock_shift": FIX_DATA,
    "frozen_sensor": FIX_DATA,
    "clipping": RETRAIN,
    LOSS: RETRAIN,
    "model_stale": RETRAIN,
    "provider_bias": WATCH,
    "snow": WATCH,
    "unknown": WATCH,
}
CLOCK_HOURS = 0.4  # a clock is wrong by an hour or by half of one
FROST, THAW = 0.0, 10.0  # °C: as cold as this within four days, and no warmer on the last
SNOW_RATIOS = 0.002, 0.6
ALIKE = 0.7  # correlation of metered with expected, above which a day has its shape and lacks only its size
SKY_DAYS, SKY_Z = 10, 0.1
FEW_SKY_DAYS, FEW_SKY_Z = 5, 0.6
FLAT, FLAT_ABOVE, FLAT_SHARE, FLAT_DAYS, FLAT_GAP = 0.985, 1.08, 0.3, 7, 0.05
_BRIGHT = 0.6
_MIN_HOURS = 10
_LEVEL_WORDS = ("level", "level_rise", "clr", "lrel")

Evidence = dict[str, float | str]


@dataclass(frozen=True)
class Cause:
    """`advice` is what helps against it: fix_data, retrain or watch."""

    likely: str
    evidence: Evidence

    @property
    def advice(self) -> str:
        return ADVICE[self.likely]


def likely(observed: Observed, alarms: Sequence[Alarm], day: np.datetime64) -> Cause:
    """Judge the days from the first alarm's `since` to `day`.

    Evidence, each where it can be told: ``since``; ``power_ratio`` median metered / expected of clear bright hours;
    ``ratio_bright`` and ``ratio_medium`` the same of the brighter and the other ones; ``flat_share`` of the last week's
    hours that expected more than its highest power, how many stand at it; ``hours_late`` median shift of the day's
    centre; ``sky_z`` how unusually bright the provider's clearest hours are, on ``sky_days``; ``warmest``,
    ``coldest`` °C of the last day and of four; ``energy_ratio`` and ``shape`` (correlation of metered with expected
    hours) of three days; ``onset`` step or ramp.
    """
    since = min(alarm.since for alarm in alarms)
    evidence: Evidence = {"since": str(since), **_of_days(observed, since, day), **_of_weather(observed, since, day)}
    return Cause(_name({alarm.detector: alarm for alarm in alarms}, evidence), evidence)


def _of_days(observed: Observed, since: np.datetime64, day: np.datetime64) -> Evidence:
    park, expected = observed.park, observed.expected
    window = (park.days >= since) & (park.days <= day)
    found: Evidence = {}
    known = window[:, None] & ~np.isnan(park.power) & ~np.isnan(expected)
    clear = known & (expected > CLEAR_EXPECTED) & (park.feature("clear_sky_index") > CLEAR_INDEX)
    bright = expected > _BRIGHT * _top(expected[known])
    for name, hours in (("power_ratio", clear), ("ratio_bright", clear & bright), ("ratio_medium", clear & ~bright)):
        if hours.sum() >= (1 if name == "power_ratio" else _MIN_HOURS):
            found[name] = round(float(np.median(park.power[hours] / expected[hours])), 4)
    week = known & (park.days > day - np.timedelta64(FLAT_DAYS, "D"))[:, None]
    if week.any():
        highest = park.power[week].max()
        above = (week & (expected > FLAT_ABOVE * highest)).sum()
        if above >= _MIN_HOURS // 2 and highest > 0.0:
            found["flat_share"] = round(float((week & (park.power > FLAT * highest)).sum() / above), 3)
    late = observed.statistics["tc"][window]
    if np.isfinite(late[-3:]).any():
        found["hours_late"] = round(float(np.nanmedian(late[-3:])), 3)
    last = known & (park.days > day - np.timedelta64(3, "D"))[:, None] & (expected > 0.03)
    if last.sum() >= 3:
        power, forecast = park.power[last], expected[last]
        found["energy_ratio"] = round(float(power.sum() / forecast.sum()), 6)
        if power.std() > 0.0 and forecast.std() > 0.0:
            found["shape"] = round(float(np.corrcoef(power, forecast)[0, 1]), 3)
    onset = _onset(observed.statistics["lrel"], window)
    return found | ({"onset": onset} if onset else {})


def _of_weather(observed: Observed, since: np.datetime64, day: np.datetime64) -> Evidence:
    found: Evidence = {}
    until = observed.up_to(day)
    lasting = int((day - since) / np.timedelta64(1, "D")) + 1
    sky = observed.z["cse"][until][-min(max(lasting, 2), SKY_DAYS) :]
    if np.isfinite(sky).any():
        found["sky_z"] = round(float(np.nanmean(np.clip(sky, -3.0, 3.0))), 3)
        found["sky_days"] = int(np.isfinite(sky).sum())
    air = observed.park.feature("temp_air")[until][-4:]
    if np.isfinite(air).any():
        found["warmest"], found["coldest"] = round(float(np.nanmax(air[-1:])), 1), round(float(np.nanmin(air)), 1)
    return found


def _name(alarms: dict[str, Alarm], evidence: Evidence) -> str:
    def number(name: str, otherwise: float) -> float:
        return float(evidence.get(name, otherwise))

    cold = number("coldest", 99.0) <= FROST and number("warmest", 99.0) <= THAW
    energy, late = number("energy_ratio", 1.0), number("hours_late", 0.0)
    if "frozen_values" in alarms:
        return "frozen_sensor"
    if "above_capacity" in alarms or ("scale" in alarms and energy > 1.0):
        return "unit_error"
    alike = energy > 1e-5 and number("shape", 0.0) > ALIKE
    if "dead" in alarms:  # snow would let something through, and a unit error leaves a small day of the usual shape
        return "unit_error" if alike and energy < SNOW_RATIOS[0] else "outage"
    if not alarms.keys().isdisjoint({"outage", "scale"}):
        if cold and SNOW_RATIOS[0] < energy < SNOW_RATIOS[1]:
            return "snow"
        return "unit_error" if alike else "outage"
    if "night_power" in alarms or (abs(late) >= CLOCK_HOURS and _any_of(alarms, ("tc",))):
        return "clock_shift"
    level = [alarm.direction for name, alarm in alarms.items() if name.partition("_")[2] in _LEVEL_WORDS]
    fallen = level[0] < 0 if level else energy < 1.0
    enough = SKY_Z if number("sky_days", 0.0) > FEW_SKY_DAYS else FEW_SKY_Z
    if "cusum_cse" in alarms or (number("sky_z", 0.0) > enough and fallen):
        return "provider_bias"
    if not fallen:
        return "unknown"
    gap = number("ratio_medium", 1.0) - number("ratio_bright", 0.0)
    if number("flat_share", 0.0) >= FLAT_SHARE and gap >= FLAT_GAP:
        return "clipping"
    if cold and energy < SNOW_RATIOS[1]:
        return "snow"
    return LOSS if _any_of(alarms, _LEVEL_WORDS) else "unknown"


def _any_of(alarms: dict[str, Alarm], statistics: Sequence[str]) -> bool:
    return any(name.partition("_")[2] in statistics for name in alarms)


def _top(expected: Floats) -> float:
    return float(np.quantile(expected, 0.98)) if len(expected) else 1.0


def _onset(lrel: Floats, window: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str | None:
    """Whether the window's ratios rather lie on a level or on a slope from nothing."""
    values = lrel[window]
    at = np.flatnonzero(np.isfinite(values))
    if len(at) < 8:
        return None
    y = values[at]
    slope = (at * y).sum() / max((at * at).sum(), 1)
    return "ramp" if ((y - slope * at) ** 2).sum() < ((y - y.mean()) ** 2).sum() else "step"
