"""A park whose level has changed for good: what it did before is brought to what it does now.

A string that fell out, soiling that stays, a repair: from then on the park gives another share of what it gave. A model
learns that only when the new days outnumber the old ones. Here the change is found in the errors of forecasts made
without their truth, in bright hours of steady sun, where weather errs least; and the older targets are scaled to it.
"""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True)
class Change:
    """`factor` is the level from `at` on, over that before."""

    at: np.datetime64
    factor: float


def find(rows: Rows, median: Floats) -> dict[str, Change]:
    """Lasting changes of level, by park.

    Parameters
    ----------
    median : forecast of each row by a model that has not seen its day, fraction of capacity. Shape [n].
    """
    index = columns.column(rows.features, rows.spec.names, "clear_sky_index")
    spread = columns.column(rows.features, rows.spec.names, "clear_sky_index_spread")
    bright = (index > _BRIGHT) & (spread < _STEADY) & (median > _MIN_POWER) & (rows.lead_hours < 24)
    found = {}
    for park in np.unique(rows.park_id[bright].astype(str)):
        own = bright & (rows.park_id == park)
        change = _of_park(rows.valid_at[own].astype("datetime64[D]"), rows.target[own], median[own])
        if change is not None:
            found[str(park)] = change
    return found


def levelled(rows: Rows, changes: Mapping[str, Change]) -> Floats:
    """Targets with those from before a change at the level of after it. Shape [n]."""
    target = rows.target.copy()
    for park, change in changes.items():
        target[(rows.park_id == park) & (rows.valid_at < change.at)] *= change.factor
    return target


def _of_park(day: npt.NDArray[np.datetime64], target: Floats, median: Floats) -> Change | None:
    days, at = np.unique(day, return_inverse=True)
    made, expected = (np.bincount(at, weights=values, minlength=len(days)) for values in (target, median))
    ratio = np.log(np.maximum(made, 0.01) / expected)
    best: tuple[float, int] | None = None
    for split in range(_MIN_DAYS, len(days) - _MIN_DAYS + 1):
        if days[-1] - days[split] > np.timedelta64(_LAST_DAYS, "D"):
            continue
        before, after = ratio[:split], ratio[split:]
        # Medians: single bad days are no level. Days in a row resemble each other: three of them count as one.
        error = np.sqrt(3.0 * (_variance(before) / len(before) + _variance(after) / len(after)))
        score = abs(float(np.median(after) - np.median(before))) / max(float(error), 1e-6)
        if best is None or score > best[0]:
            best = (score, split)
    if best is None or best[0] < _SURE:
        return None
    factor = float(np.exp(np.median(ratio[best[1] :]) - np.median(ratio[: best[1]])))
    if not _LEAST <= abs(factor - 1.0) <= _MOST:
        return None
    return Change(days[best[1]].astype("datetime64[s]"), round(factor, 4))


def _variance(values: Floats) -> float:
    """By the spread of the central half: single days count little."""
    low, high = np.quantile(values, [0.25, 0.75])
    return float(((high - low) / 1.349) ** 2)
