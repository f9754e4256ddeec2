"""Two models on the same hours: is one worse, over all parks and in each park?

Days are resampled, not hours: the hours of one day share their weather, and so do parks on the same day. Neighbouring
days depend on each other a little, so that whole blocks of days are drawn (circular block bootstrap, Politis & Romano
1992). It gives the standard error of a mean; Student's t turns that into intervals and p values, because percentiles of
a bootstrap are too narrow over few days and cannot reach the small p values that a fleet's correction asks for.
Many parks are many chances of a false alarm: p values of parks are corrected after Holm (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from pvforecast.evaluation import bootstrap
from pvforecast.known import Floats, Times

Days = npt.NDArray[np.datetime64]

_SAMPLES = 2000
_DEGREES_AN_HOUR = 15.0


@dataclass(frozen=True)
class Daily:
    """Losses summed by local day and park.

    Attributes
    ----------
    days, parks : the axes, ascending.
    challenger, champion : shape [days, parks], sums of the losses of the day's hours, 0 where none was metered.
    hours : shape [days, parks], how many hours the sums are of.
    """

    days: Days
    parks: tuple[str, ...]
    challenger: Floats
    champion: Floats
    hours: Floats


@dataclass(frozen=True)
class Change:
    """How much the loss differs, as a share of the champion's: challenger / champion - 1; negative = better.

    Attributes
    ----------
    days : on which anything was metered.
    interval : 95 % interval; NaN with fewer than two days.
    p_worse : one-sided p value of "worse by no more than the tolerance".
    """

    days: int
    challenger: float
    champion: float
    share: float
    interval: tuple[float, float]
    p_worse: float


def local_day(valid_at: Times, longitude: float) -> Days:
    """The day of each interval by the sun's clock at `longitude` (degrees east).

    A calendar day of UTC would cut the daylight of American and Pacific parks in two, and an issue time is another
    instant in each time zone; by the sun's clock all parks of a fleet share their days.
    """
    return (valid_at + np.timedelta64(round(longitude / _DEGREES_AN_HOUR * 3600), "s")).astype("datetime64[D]")


def daily(challenger: Floats, champion: Floats, day: Days, park: npt.NDArray[np.object_]) -> Daily:
    """Sum the losses of single hours, shape [n] each; hours in which a loss is NaN are left out of both."""
    both = ~(np.isnan(challenger) | np.isnan(champion))
    days, row = np.unique(day[both].astype("datetime64[D]"), return_inverse=True)
    parks, column = np.unique(park[both].astype(str), return_inverse=True)
    shape = (len(days), len(parks))
    cell = row * len(parks) + column

    def summed(values: Floats | None) -> Floats:
        return np.bincount(cell, values, shape[0] * shape[1]).astype(float).reshape(shape)

    return Daily(days, tuple(str(p) for p in parks), summed(challenger[both]), summed(champion[both]), summed(None))


def pooled(losses: Daily) -> Daily:
    """All parks as one."""
    total = (losses.challenger, losses.champion, losses.hours)
    return Daily(losses.days, ("all",), *(values.sum(axis=1, keepdims=True) for values in total))


def changes(losses: Daily, tolerance: float = 0.0, *, seed: int = 0) -> list[Change]:
    """The change in each park; days of all parks are drawn together.

    Parameters
    ----------
    tolerance : `p_worse` is about getting worse by more than this share of the champion's loss.
    """
    if not len(losses.days):
        return []
    weights = _draws(len(losses.days), seed)
    level = _means(losses.champion, losses)
    share = _ratio(_means(losses.challenger - losses.champion, losses), level)
    error = _ratio(_error(losses.challenger - losses.champion, losses, weights), level)
    beyond = losses.challenger - (1.0 + tolerance) * losses.champion
    score = _ratio(_means(beyond, losses), _error(beyond, losses, weights))
    found = []
    for at in range(len(losses.parks)):
        days = int((losses.hours[:, at] > 0).sum())
        reach = float(stats.t.ppf(0.975, days - 1)) * float(error[at]) if days > 1 else float("nan")
        p = float(stats.t.sf(score[at], days - 1)) if days > 1 else float("nan")
        hours = losses.hours[:, at].sum()
        found.append(
            Change(
                days,
                float(losses.challenger[:, at].sum() / hours),
                float(level[at]),
                float(share[at]),
                (float(share[at]) - reach, float(share[at]) + reach),
                p,
            )
        )
    return found


def holm(p: Floats, alpha: float) -> npt.NDArray[np.bool_]:
    """Which hypotheses fall, with a chance of at most `alpha` that any of those is true (Holm 1979).

    NaN is no test: it never falls, and is not counted.
    """
    order = np.argsort(p)  # NaN last
    tests = int((~np.isnan(p)).sum())
    limits = alpha / np.maximum(tests - np.arange(len(p)), 1)
    below = p[order] <= limits
    fallen = np.zeros(len(p), bool)
    fallen[order] = np.cumprod(below).astype(bool)
    return fallen


def _block(days: int) -> int:
    """Length of a block: shorter where there are few days, for of three days one block of three is no draw."""
    return max(1, min(bootstrap.BLOCK_DAYS, days // 4))


@lru_cache(maxsize=4)
def _draws(days: int, seed: int) -> Floats:
    """How often each day is drawn, shape [samples, days]; equal for equal arguments."""
    picks = bootstrap.picks(days, block=_block(days), samples=_SAMPLES, seed=seed)
    cell = np.arange(_SAMPLES)[:, None] * days + picks
    return np.bincount(cell.ravel(), minlength=_SAMPLES * days).astype(float).reshape(_SAMPLES, days)


def _means(sums: Floats, losses: Daily) -> Floats:
    means: Floats = sums.sum(axis=0) / losses.hours.sum(axis=0)
    return means


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN for 0 / 0: a park at a standstill that both foresaw."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return above / below


def _error(sums: Floats, losses: Daily, weights: Floats) -> Floats:
    """Standard error of each park's mean over its hours; a draw without any day of a park does not count for it."""
    means = _ratio(weights @ sums, weights @ losses.hours)
    drawn = np.maximum((~np.isnan(means)).sum(axis=0), 1)
    centre = np.nansum(means, axis=0) / drawn
    spread = np.sqrt(np.nansum((means - centre) ** 2, axis=0) / drawn)
    days = (losses.hours > 0).sum(axis=0)
    # Drawing from the sample itself understates its spread, as a variance over n instead of n - 1 does.
    error: Floats = spread * np.sqrt(days / np.maximum(days - _block(len(losses.days)), 1))
    return error
