"""Thresholds from the reference's own undrifted days: the false-alarm rate is a number we choose.

A nominal p-value is not a false-alarm rate here: days are autocorrelated and the tests are repeated daily. So whole
14-day blocks of reference z-scores are drawn, each from its own season, into pseudo-years without drift, and a
threshold is moved until alarms come as rarely as wanted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from inference.drift.cusum import COOL_DOWN_DAYS, Cusum, alarms_a_year
from inference.drift.days import Days
from inference.drift.distances import WINDOW
from inference.drift.statistics import day_of_year
from pvforecast.known import Floats

BLOCK_DAYS = 14
BLOCK_SEASON_DAYS = 30
PSEUDO_YEARS = 300
OFTEN = 0.5
_BLOCKS_A_YEAR = 26
_HALVINGS = 14


def pseudo_years(days: Days, seed: int, years: int = PSEUDO_YEARS) -> npt.NDArray[np.int64]:
    """Resampled years, as rows of `days`. Shape [years, 364]; gaps of the reference stay gaps.

    `days` need not be consecutive (several parks may be pooled): a block is 14 rows that are consecutive days.
    """
    rng = np.random.default_rng(seed)
    step = np.diff(days.astype(np.int64)) == 1
    whole = np.array([bool(step[i : i + BLOCK_DAYS - 1].all()) for i in range(len(days) - BLOCK_DAYS + 1)], bool)
    begins = np.flatnonzero(whole)
    of_year = day_of_year(days)[begins]
    chosen = np.empty((years, _BLOCKS_A_YEAR), np.int64)
    for block in range(_BLOCKS_A_YEAR):
        apart = np.abs(of_year - block * BLOCK_DAYS)
        near = begins[np.minimum(apart, 365 - apart) <= BLOCK_SEASON_DAYS]
        chosen[:, block] = rng.choice(near if len(near) else begins, years)
    rows = chosen[:, :, None] + np.arange(BLOCK_DAYS)
    return np.asarray(rows.reshape(years, -1))


def cusum_threshold(detector: Cusum, years: Floats, alarms_wanted: float, page: bool = False) -> float:
    """The threshold at which `detector` raises `alarms_wanted` alarms a pseudo-year; more than its `days` can reach."""
    least = detector.days[page] * (detector.clip - detector.slack)
    return _threshold(lambda h: alarms_a_year(detector, years, h), least, 60.0, alarms_wanted, 6.0 / len(years))


def distance_threshold(
    distance: Callable[[Floats, Floats], Floats], years: Floats, pool: Floats, alarms_wanted: float
) -> float:
    """The distance that windows of 14 valid days exceed `alarms_wanted` times a year (with 7 silent days).

    `distance(windows [k, 14], pool [m]) -> [k]`.
    """
    scores = []
    for year in years:
        valid = year[~np.isnan(year)]
        if len(valid) >= WINDOW:
            scores.append(distance(np.lib.stride_tricks.sliding_window_view(valid, WINDOW), pool))
    top = max((float(s.max()) for s in scores), default=0.0)

    def rate(threshold: float) -> float:
        return sum(_episodes(s > threshold) for s in scores) / len(years)

    return _threshold(rate, 0.0, top, alarms_wanted, 6.0 / len(years))


def _threshold(rate: Callable[[float], float], low: float, high: float, wanted: float, countable: float) -> float:
    """Where `rate` is as wanted; rates below `countable` are extrapolated from that and from `OFTEN`.

    The rate of alarms falls exponentially with the threshold (of a CUSUM: Siegmund 1985, Sequential Analysis).
    """
    if wanted >= countable:
        return _bisect(rate, low, high, wanted)
    often, seldom = (_bisect(rate, low, high, each) for each in (OFTEN, countable))
    return seldom + (seldom - often) * float(np.log(countable / wanted) / np.log(OFTEN / countable))


def _episodes(above: npt.NDArray[np.bool_]) -> int:
    """Alarms when each is followed by 7 silent days."""
    count, silent_until = 0, -1
    for day in np.flatnonzero(above):
        if day > silent_until:
            count, silent_until = count + 1, int(day) + COOL_DOWN_DAYS
    return count


def _bisect(rate: Callable[[float], float], low: float, high: float, wanted: float) -> float:
    """The smallest threshold found whose rate is at most `wanted`; `rate` falls with the threshold."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if rate(middle) > wanted else (low, middle)
    return high
