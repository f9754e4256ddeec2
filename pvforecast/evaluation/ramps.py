"""Ramps: does the forecast move when the park moves?

Two views. **Events**: a ramp is a change of at least `EVENT` of capacity from one interval to the next (the plain
definition of Kamath 2010, "Understanding wind ramp events through analysis of historical data", IEEE PES T&D); a
forecast ramp counts as a hit when it has the same direction in the same interval. **Ramp score**: both series are
compressed by the swinging door algorithm (Bristol 1990; Florita, Hodge & Orwig 2013, "Identifying wind and solar
ramping events"), and the score is the mean absolute difference of their slopes (Vallance et al. 2017, Solar Energy
150), in fractions of capacity an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

EVENT = 0.2
DOOR = 0.05


@dataclass(frozen=True)
class RampScores:
    """Ramp scores of one or more parks.

    Attributes
    ----------
    events, hits, false_alarms : counts of metered ramps, of those forecast, and of forecast ramps that did not come.
    ramp_score : mean absolute difference of slopes, capacity an hour; 0 is perfect.
    steps : number of neighbouring intervals that were compared.
    """

    events: int
    hits: int
    false_alarms: int
    ramp_score: float
    steps: int

    @property
    def detected(self) -> float:
        """Hits / events (probability of detection); NaN without events."""
        return self.hits / self.events if self.events else float("nan")

    @property
    def false_alarm_ratio(self) -> float:
        """False alarms / forecast ramps; NaN where none was forecast."""
        forecast = self.hits + self.false_alarms
        return self.false_alarms / forecast if forecast else float("nan")

    @property
    def critical_success(self) -> float:
        """Hits / (events + false alarms): the critical success index."""
        total = self.events + self.false_alarms
        return self.hits / total if total else float("nan")


def scores(
    group: npt.NDArray[np.int64], hours: Floats, target: Floats, forecast: Floats, *, event: float = EVENT
) -> RampScores:
    """Score rows that are sorted by group and time.

    Parameters
    ----------
    group : which series a row belongs to: one park and one issue. Shape [n].
    hours : time of each row in hours, ascending within its group; a step longer than the group's usual one is a gap.
    target, forecast : fractions of capacity, shape [n], without NaN.
    """
    if len(group) < 2:
        return RampScores(0, 0, 0, float("nan"), 0)
    step = np.diff(hours)
    usual = float(np.median(step[group[1:] == group[:-1]])) if (group[1:] == group[:-1]).any() else 1.0
    joined = (group[1:] == group[:-1]) & (np.abs(step - usual) < 1e-6)
    metered, expected = np.diff(target)[joined], np.diff(forecast)[joined]
    is_event, is_forecast = np.abs(metered) >= event, np.abs(expected) >= event
    hit = is_event & is_forecast & (np.sign(metered) == np.sign(expected))
    false = is_forecast & ~hit
    total, count = 0.0, 0
    starts = np.flatnonzero(np.concatenate([[True], ~joined]))
    for begin, end in zip(starts, [*starts[1:], len(group)], strict=True):
        if end - begin > 1:
            slopes = [swinging_door(values[begin:end]) / usual for values in (target, forecast)]
            total += float(np.abs(slopes[0] - slopes[1]).sum())
            count += end - begin - 1
    score = total / count if count else float("nan")
    return RampScores(int(is_event.sum()), int(hit.sum()), int(false.sum()), score, count)


def swinging_door(values: Floats, door: float = DOOR) -> Floats:
    """Slope of each step of the series after swinging-door compression. Shape [n - 1], units of `values` a step.

    A segment grows as long as one straight line from its start passes within `door` of every point; then its end
    becomes the start of the next.
    """
    slopes = np.zeros(len(values) - 1)
    start, low, high = 0, -np.inf, np.inf
    for at in range(1, len(values)):
        reach = at - start
        low = max(low, (values[at] - door - values[start]) / reach)
        high = min(high, (values[at] + door - values[start]) / reach)
        if low > high:
            slopes[start : at - 1] = (values[at - 1] - values[start]) / (at - 1 - start)
            start = at - 1
            low, high = values[at] - door - values[start], values[at] + door - values[start]
    slopes[start:] = (values[-1] - values[start]) / (len(values) - 1 - start)
    return slopes
