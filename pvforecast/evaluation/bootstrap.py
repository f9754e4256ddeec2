"""Intervals by block bootstrap over days: what would these scores be in another year of the same kind?

Hours of a day share their weather, and so do parks and neighbouring days: days are resampled whole, all parks
together, in blocks of consecutive days (circular; Politis & Romano 1992). Below `FEW_DAYS` the intervals are too
narrow; they are then given all the same, and `few` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

BLOCK_DAYS = 5
SAMPLES = 2000
FEW_DAYS = 12


@dataclass(frozen=True)
class Interval:
    """A statistic with its 95 % interval and the number of days behind it."""

    value: float
    low: float
    high: float
    days: int

    @property
    def few(self) -> bool:
        return self.days < FEW_DAYS


def picks(days: int, *, block: int = BLOCK_DAYS, samples: int = SAMPLES, seed: int = 0) -> npt.NDArray[np.int64]:
    """Which days each resample consists of. Shape [samples, days]."""
    block = max(1, min(block, days))
    starts = np.random.default_rng(seed).integers(0, days, (samples, -(-days // block)))
    chosen = (starts[:, :, None] + np.arange(block)).reshape(samples, -1)[:, :days] % days
    return chosen.astype(np.int64)


def daily_sums(day: npt.NDArray[np.datetime64], values: Floats) -> Floats:
    """Sums of `values` by day. `day` of shape [n], `values` [n] or [n, k]; returns [days] or [days, k], ascending."""
    _, at = np.unique(day, return_inverse=True)
    result = np.zeros((int(at.max(initial=-1)) + 1, *values.shape[1:]))
    np.add.at(result, at, values)
    return result


def ratio(day: npt.NDArray[np.datetime64], upper: Floats, lower: Floats, *, seed: int = 0) -> Interval:
    """sum(upper) / sum(lower), resampled by day. Arrays of shape [n]; NaN without rows."""
    sums = daily_sums(day, np.stack([upper, lower], axis=1).astype(np.float64))
    if len(sums) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    drawn = sums[picks(len(sums), seed=seed)].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = drawn[:, 0] / drawn[:, 1]
        value = float(sums[:, 0].sum() / sums[:, 1].sum())
    usable = resampled[np.isfinite(resampled)]
    low, high = np.quantile(usable, [0.025, 0.975]) if len(usable) else (np.nan, np.nan)
    return Interval(value, float(low), float(high), len(sums))


def skill(day: npt.NDArray[np.datetime64], ours: Floats, theirs: Floats, *, seed: int = 0) -> Interval:
    """1 - sum(ours) / sum(theirs), losses of the same rows; positive = ours is better. Paired by day."""
    worse = ratio(day, ours, theirs, seed=seed)
    return Interval(1.0 - worse.value, 1.0 - worse.high, 1.0 - worse.low, worse.days)


def standard_errors(day: npt.NDArray[np.datetime64], values: Floats, *, seed: int = 0) -> Floats:
    """Standard error of the mean of each column. `values` of shape [n, k]; returns [k]; NaN below two days."""
    sums = daily_sums(day, np.concatenate([values, np.ones((len(values), 1))], axis=1).astype(np.float64))
    if len(sums) < 2:
        return np.full(values.shape[1], np.nan)
    count = np.zeros((SAMPLES, len(sums)))
    chosen = picks(len(sums), seed=seed)
    np.add.at(count, (np.arange(SAMPLES)[:, None], chosen), 1.0)
    drawn = count @ sums
    result: Floats = (drawn[:, :-1] / drawn[:, -1:]).std(axis=0, ddof=1)
    return result
