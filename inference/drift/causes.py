"""The likely cause of an alarm, where the pattern tells, with the numbers that speak for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.drift.days import ParkDays
from inference.drift.statistics import CLEAR_EXPECTED, CLEAR_INDEX, Statistics
from pvforecast.known import Floats

FIX_DATA, RETRAIN, WATCH = "fix_data", "retrain", "watch"

_BY_RULE = {
    "above_capacity": "unit_error",
    "outage": "outage",
    "night_power": "clock_shift",
    "frozen_values": "frozen_sensor",
}
_ADVICE = {
    "unit_error": FIX_DATA,
    "outage": FIX_DATA,
    "clock_shift": FIX_DATA,
    "frozen_sensor": FIX_DATA,
    "clipping": RETRAIN,
    "loss_or_soiling": RETRAIN,
    "unknown": WATCH,
}
CLOCK_HOURS = 0.4  # a clock is wrong by an hour or by half of one
UNIT_RATIO = 3.0
CLIPPED_EXPECTED, CLIPPED_GAP = 0.6, 0.1
_MIN_HOURS = 10


@dataclass(frozen=True)
class Cause:
    """`advice` is what helps against it: fix_data, retrain or watch."""

    likely: str
    evidence: dict[str, float | str]

    @property
    def advice(self) -> str:
        return _ADVICE[self.likely]


def likely(
    detectors: Sequence[str], park: ParkDays, expected: Floats, statistics: Statistics, since: np.datetime64
) -> Cause:
    """Judge the days from `since` on.

    Evidence: ``since``; ``power_ratio`` median metered / expected of clear bright hours; ``ratio_bright`` and
    ``ratio_medium`` the same above and below 60 % of capacity; ``hours_late`` median shift of the day's centre.
    """
    window = park.days >= since
    evidence: dict[str, float | str] = {"since": str(since)}
    clear = (expected > CLEAR_EXPECTED) & (park.feature("clear_sky_index") > CLEAR_INDEX) & ~np.isnan(park.power)
    clear &= window[:, None]
    bright = expected > CLIPPED_EXPECTED
    for name, hours in (("power_ratio", clear), ("ratio_bright", clear & bright), ("ratio_medium", clear & ~bright)):
        if hours.sum() >= (1 if name == "power_ratio" else _MIN_HOURS):
            evidence[name] = round(float(np.median(park.power[hours] / expected[hours])), 4)
    late = statistics["tc"][window]
    if np.isfinite(late).any():
        evidence["hours_late"] = round(float(np.nanmedian(late)), 3)
    return Cause(_name(detectors, evidence), evidence)


def _name(detectors: Sequence[str], evidence: dict[str, float | str]) -> str:
    for rule, cause in _BY_RULE.items():
        if rule in detectors:
            return cause
    late, ratio = float(evidence.get("hours_late", 0.0)), float(evidence.get("power_ratio", 1.0))
    if "cusum_tc" in detectors and abs(late) >= CLOCK_HOURS:
        return "clock_shift"
    if ratio > UNIT_RATIO or ratio < 1.0 / UNIT_RATIO:
        return "unit_error"
    if ratio >= 1.0:
        return "unknown"
    gap = float(evidence.get("ratio_medium", 0.0)) - float(evidence.get("ratio_bright", 0.0))
    if {"ratio_medium", "ratio_bright"} <= evidence.keys() and gap >= CLIPPED_GAP:
        return "clipping"
    return "loss_or_soiling" if "cusum_clr" in detectors else "unknown"
