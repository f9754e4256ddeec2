"""Two-sided CUSUM over daily z-scores (Page 1954, Biometrika 41): finds a lasting shift of the mean quickly.

A z is clipped first, so that one absurd day cannot raise an alarm by itself. Missing days leave the sums alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

COOL_DOWN_DAYS = 7
FALL, BOTH, RISE = -1, 0, 1
_WINDOW = 14


@dataclass(frozen=True)
class Cusum:
    """`slack` is subtracted each day: half the shift one wants to find. `clip` bounds a day's z.

    `side`: what counts, `BOTH`, a `RISE` or a `FALL`; `suffix` of the name where a statistic has one for each. `days`:
    a warning and a page take more, however quiet the reference was.
    """

    statistic: str
    slack: float
    clip: float
    side: int = BOTH
    suffix: str = ""
    days: tuple[int, int] = (1, 2)

    @property
    def name(self) -> str:
        return f"cusum_{self.statistic}{self.suffix}"

    def step(self, high: Floats, low: Floats, z: Floats) -> tuple[Floats, Floats]:
        """The two sums after one more day; works on any shape."""
        bounded = np.clip(z, -self.clip, self.clip)
        missing = np.isnan(z)
        risen = high if self.side == FALL else np.maximum(0.0, high + bounded - self.slack)
        fallen = low if self.side == RISE else np.maximum(0.0, low - bounded - self.slack)
        return np.where(missing, high, risen), np.where(missing, low, fallen)


LEVEL = Cusum("level", slack=0.5, clip=2.5, side=FALL, days=(2, 7))
LEVEL_RISE = Cusum("level", slack=0.5, clip=2.5, side=RISE, suffix="_rise", days=(3, 7))
CLEAR_RATIO = Cusum("clr", slack=0.5, clip=2.0)
CLOCK = Cusum("tc", slack=2.0, clip=4.0)
PROVIDER = Cusum("cse", slack=0.0, clip=3.0, side=RISE)
DETECTORS = (LEVEL, LEVEL_RISE, CLEAR_RATIO, CLOCK, PROVIDER)


@dataclass(frozen=True)
class Path:
    """What one detector did.

    Attributes
    ----------
    score : shape [n], the larger of the two sums on each day, before any reset.
    direction : shape [n], +1 or -1, which of the two.
    began : shape [n], index of the day from which that sum has been above zero (when the change began, at a guess).
    alarm : shape [n].
    """

    score: Floats
    direction: npt.NDArray[np.int64]
    began: npt.NDArray[np.int64]
    alarm: npt.NDArray[np.bool_]


def run(
    detectors: tuple[Cusum, ...],
    z: dict[str, Floats],
    thresholds: dict[str, float],
    other_alarms: npt.NDArray[np.bool_],
    distances: dict[str, tuple[Floats, npt.NDArray[np.int64]]] | None = None,
) -> dict[str, Path]:
    """Run detectors side by side from their start.

    An alarm of any of them, or one in `other_alarms` (shape [n], hard rules), sets all sums to zero and holds them
    there for 7 days: one change is one event. `distances` (detector -> score, direction; shape
    [n], NaN where it cannot tell) have no sums: they alarm above their threshold, unless something has within 7 days.
    """
    n = len(other_alarms)
    distances = distances or {}
    sums = {d.name: (np.zeros(1), np.zeros(1)) for d in detectors}
    since = {d.name: [0, 0] for d in detectors}
    paths = {
        d.name: Path(np.zeros(n), np.ones(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool)) for d in detectors
    }
    for name, (score, direction) in distances.items():
        paths[name] = Path(score, direction, np.maximum(np.arange(n) - _WINDOW, 0), np.zeros(n, bool))
    silent_until = -1
    for day in range(n):
        if day > silent_until:
            for name, (score, _) in distances.items():
                paths[name].alarm[day] = score[day] > thresholds[name]
            for detector in detectors:
                name, path = detector.name, paths[detector.name]
                before = sums[name]
                sums[name] = detector.step(*before, z[detector.statistic][day : day + 1])
                for side in (0, 1):
                    if before[side][0] == 0.0:
                        since[name][side] = day
                high, low = float(sums[name][0][0]), float(sums[name][1][0])
                path.score[day], path.direction[day] = max(high, low), 1 if high >= low else -1
                path.began[day] = since[name][0 if high >= low else 1]
                path.alarm[day] = path.score[day] > thresholds[name]
        if other_alarms[day] or any(path.alarm[day] for path in paths.values()):
            sums = {d.name: (np.zeros(1), np.zeros(1)) for d in detectors}
            silent_until = day + COOL_DOWN_DAYS
    return paths


def alarms_a_year(detector: Cusum, z: Floats, threshold: float) -> float:
    """Mean number of alarms in `z`, shape [years, days], each followed by 7 silent days."""
    years, days = z.shape
    high, low, silent = np.zeros(years), np.zeros(years), np.zeros(years, np.int64)
    count = 0
    for day in range(days):
        high, low = detector.step(high, low, z[:, day])
        asleep = silent > 0
        high, low = np.where(asleep, 0.0, high), np.where(asleep, 0.0, low)
        alarm = np.maximum(high, low) > threshold
        count += int(alarm.sum())
        high, low = np.where(alarm, 0.0, high), np.where(alarm, 0.0, low)
        silent = np.where(alarm, COOL_DOWN_DAYS, np.maximum(silent - 1, 0))
    return float(count / years * 365.0 / days)
