"""When a drift is over: derived from the observed days alone, so that every check comes to the same answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.drift.observe import Observed
from inference.drift.reference import PAGE, WARN

QUIET_DAYS = 7
"""Valid days after the last alarm on which a clearance rests."""
QUIET_Z = {"level": 0.5, "clr": 0.7, "tc": 1.0, "cse": 0.8}
"""How near to usual the mean of a statistic's clipped z has to lie on them."""
_CLIP = 3.0


@dataclass(frozen=True)
class Episode:
    """From the alarm that opened it to the day that closed it. `mean_z`: what the closing rests on.

    `sound_from`: the first day on which the park was itself again.
    """

    opened: np.datetime64
    closed: np.datetime64
    sound_from: np.datetime64
    quiet_days: int
    mean_z: dict[str, float]


def closing(observed: Observed, row: int = -1) -> Episode | None:
    """The episode that this watched day closes, if it does."""
    row = row % len(observed.days)
    found = [episode for episode in _closed(observed, row) if episode.closed == observed.days[row]]
    return found[0] if found else None


def still_open(observed: Observed, row: int = -1) -> np.datetime64 | None:
    """The day whose alarm opened the episode that this day is part of; None when nothing is open."""
    row = row % len(observed.days)
    closed = _closed(observed, row)
    after = closed[-1].closed if closed else np.datetime64("1900-01-01")
    alarms = [day for day in _alarm_days(observed, row) if day > after]
    return alarms[0] if alarms else None


def _closed(observed: Observed, row: int) -> list[Episode]:
    episodes: list[Episode] = []
    opened: np.datetime64 | None = None
    last: np.datetime64 | None = None
    alarms = set(_alarm_days(observed, row))
    watched = observed.park.days >= observed.days[0]
    for at, day in enumerate(observed.days[: row + 1]):
        if day in alarms:
            opened, last = opened or day, day
        elif opened is not None and last is not None:
            quiet = watched & (observed.park.days > last) & (observed.park.days <= observed.days[at])
            mean = _mean_z(observed, quiet)
            if mean is not None:
                episodes.append(Episode(opened, day, _sound_from(observed, opened, day), QUIET_DAYS, mean))
                opened = last = None
    return episodes


def _sound_from(observed: Observed, opened: np.datetime64, closed: np.datetime64) -> np.datetime64:
    """The day after the last that a rule found; where a sum alarmed, only the quiet days are sure."""
    inside = (observed.days >= opened) & (observed.days <= closed)
    if any(path.alarm[inside].any() for path in observed.paths[WARN].values()):
        return closed - np.timedelta64(QUIET_DAYS - 1, "D")
    touched = np.any([finding.touched for finding in observed.findings], axis=0) & (observed.park.days <= closed)
    last: np.datetime64 = observed.park.days[np.flatnonzero(touched)[-1]]
    return last + np.timedelta64(1, "D")


def _mean_z(observed: Observed, quiet: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> dict[str, float] | None:
    """Over the last valid days; None while there are too few, a rule fires, or a mean lies too far off.

    Of a young park without others to borrow from only the hard rules tell anything: as many metered days have to do.
    """
    means = {}
    by_rules_alone = not observed.paths[WARN]
    if by_rules_alone and np.isfinite(observed.park.power[quiet]).any(axis=1).sum() < QUIET_DAYS:
        return None
    for name, limit in QUIET_Z.items():
        z = observed.z.get(name)
        if z is None:
            continue
        valid = z[quiet][np.isfinite(z[quiet])][-QUIET_DAYS:]
        if name in ("tc", "level") and len(valid) < QUIET_DAYS and not by_rules_alone:
            return None
        if len(valid):
            means[name] = round(float(np.clip(valid, -_CLIP, _CLIP).mean()), 3)
            if abs(means[name]) > limit and len(valid) == QUIET_DAYS:
                return None
    if any(finding.touched[quiet][-QUIET_DAYS:].any() for finding in observed.findings):
        return None
    return means


def _alarm_days(observed: Observed, row: int) -> list[np.datetime64]:
    rows = observed.alarm_rows()
    return [observed.days[at] for at in sorted({*rows[WARN], *rows[PAGE]}) if at <= row]
