"""A park whose level has changed for good: what it did before is brought to what it does now.

A string that fell out, soiling that stays, a repair: from then on the park gives another share of what it gave. A model
learns that only when the new days outnumber the old ones. Here the change is found in the errors of forecasts made
without their truth, in bright hours of steady sun, where weather errs least; and the older targets are scaled to it.

Nobody looked for a change on one day rather than on another, so it takes many days and much certainty. Where the drift
job has told of one, a few days will do: there is one place to look at, and it has been found by other means already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast.dataset import Rows
from pvforecast.known import Floats
from pvforecast.model import columns

_BRIGHT = 0.85  # clear-sky index
_STEADY = 0.1  # its spread over three hours
_MIN_POWER = 0.1  # of capacity, of the forecast
_MIN_DAYS = 10  # with bright hours, after the change and before
_LAST_DAYS = 120  # a change before these is old: the new days have taught it
_LEAST, _MOST = 0.04, 0.5  # smaller changes are learned in time, larger ones are faults
_SURE = 6.0  # standard errors
_MIN_TOLD_DAYS = 3  # after a change that was told of
_SURE_IF_TOLD = 2.0
_AROUND = (-3, 10)  # days, of the day that was told: sums of small falls begin before the fall, or notice it later


@dataclass(frozen=True)
class Change:
    """`factor` is the level from `at` on, over that before."""

    at: np.datetime64
    factor: float


def find(rows: Rows, median: Floats, told: Mapping[str, Change] | None = None) -> dict[str, Change]:
    """Lasting changes of level, by park.

    Parameters
    ----------
    median : forecast of each row by a model that has not seen its day, fraction of capacity. Shape [n].
    told : park id -> since about when its level is said to be another, and by how much. Only its direction is believed;
        the rows decide whether it is so, and the size.
    """
    told = told or {}
    index = columns.column(rows.features, rows.spec.names, "clear_sky_index")
    spread = columns.column(rows.features, rows.spec.names, "clear_sky_index_spread")
    bright = (index > _BRIGHT) & (spread < _STEADY) & (median > _MIN_POWER) & (rows.lead_hours < 24)
    found = {}
    for park in np.unique(rows.park_id[bright].astype(str)):
        own = bright & (rows.park_id == park)
        days, ratio = _daily(rows.valid_at[own].astype("datetime64[D]"), rows.target[own], median[own])
        change = _found(days, ratio)
        if change is None and park in told:
            change = _confirmed(days, ratio, told[park])
        if change is not None:
            found[str(park)] = change
    return found


def levelled(rows: Rows, changes: Mapping[str, Change]) -> Floats:
    """Targets with those from before a change at the level of after it. Shape [n]."""
    target = rows.target.copy()
    for park, change in changes.items():
        target[(rows.park_id == park) & (rows.valid_at < change.at)] *= change.factor
    return target


Days = npt.NDArray[np.datetime64]


def _daily(day: Days, target: Floats, median: Floats) -> tuple[Days, Floats]:
    """Days with such hours, ascending, and the logarithm of what was made over what was forecast on them."""
    days, at = np.unique(day, return_inverse=True)
    made, expected = (np.bincount(at, weights=values, minlength=len(days)) for values in (target, median))
    return days, np.log(np.maximum(made, 0.01) / expected)


def _found(days: Days, ratio: Floats) -> Change | None:
    """The surest change of the last days, if it is one."""
    splits = _recent(days, range(_MIN_DAYS, len(days) - _MIN_DAYS + 1))

    def error(before: Floats, after: Floats) -> float:
        return _variance(before) / len(before) + _variance(after) / len(after)

    step, score, split = _surest(ratio, splits, error)
    return _change(days, split, step) if score >= _SURE else None


def _confirmed(days: Days, ratio: Floats, told: Change) -> Change | None:
    """The change of about the day that was told, if the days after it bear it out.

    Few days: what they say is believed the less, the less sure it is.
    """
    away = (days - told.at.astype("datetime64[D]")).astype(int)
    splits = _recent(days, range(_MIN_DAYS, len(days) - _MIN_TOLD_DAYS + 1))
    near = [split for split in splits if _AROUND[0] <= away[split] <= _AROUND[1]]

    def error(before: Floats, after: Floats) -> float:
        return _variance(before) * (1.0 / len(before) + 1.0 / len(after))  # a few days have no spread to speak of

    step, score, split = _surest(ratio, near, error)
    if score < _SURE_IF_TOLD or (step > 0.0) != (told.factor > 1.0):
        return None
    return _change(days, split, step * (1.0 - score**-2))


def _recent(days: Days, splits: Iterable[int]) -> list[int]:
    return [split for split in splits if days[-1] - days[split] <= np.timedelta64(_LAST_DAYS, "D")]


def _surest(ratio: Floats, splits: Sequence[int], error: Callable[[Floats, Floats], float]) -> tuple[float, float, int]:
    """The logarithmic step that is surest, in how many standard errors it is so, and before which day it lies."""
    best = (0.0, 0.0, 0)
    for split in splits:
        before, after = ratio[:split], ratio[split:]
        # Medians: single bad days are no level. Days in a row resemble each other: three of them count as one.
        step = float(np.median(after) - np.median(before))
        score = abs(step) / max(float(np.sqrt(3.0 * error(before, after))), 1e-6)
        if score > best[1]:
            best = (step, score, split)
    return best


def _change(days: Days, split: int, step: float) -> Change | None:
    factor = float(np.exp(step))
    if not _LEAST <= abs(factor - 1.0) <= _MOST:
        return None
    return Change(days[split].astype("datetime64[s]"), round(factor, 4))


def _variance(values: Floats) -> float:
    """By the spread of the central half: single days count little."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(((high - low) / 1.349) ** 2)
