"""A park's quantiles as a whole distribution, on the scale of a standard normal score.

Between the levels, power is a monotone cubic of the normal score (Fritsch & Carlson 1980, SIAM J. Numer. Anal. 17):
straight lines would lie above a skewed distribution between any two levels, and shift the sum of many parks. Beyond the
outermost levels the slope there goes on, and floor and ceiling cut it. The curve is kept as short straight pieces, so
that scores from powers (fitting) and powers from scores (scenarios) are each other's inverse.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator
from scipy.special import ndtri

from pvforecast.errors import InvalidInput

Floats = npt.NDArray[np.float64]

_FARTHEST = 3.5
"""Normal scores are cut here: 1 in 4,300 each side."""
_PIECE = 0.2
"""Normal scores further apart than this get corners between them."""


def nodes(quantiles: Floats, levels: tuple[float, ...], ceiling: Floats | float = np.inf) -> tuple[Floats, Floats]:
    """The corners of the quantile function, the levels among them.

    Parameters
    ----------
    quantiles : shape [n, levels], any unit of power, ascending along the last axis.
    levels : ascending, within (0, 1), two at least.
    ceiling : shape [n] or one number: the most that is possible, same unit. The floor is zero.

    Returns
    -------
    Normal scores, shape [k], and powers at them, shape [n, k].

    Raises
    ------
    InvalidInput
        levels and quantiles do not fit each other.
    """
    at = np.asarray(levels, np.float64)
    if len(at) < 2 or (np.diff(at) <= 0).any() or at[0] <= 0 or at[-1] >= 1:
        raise InvalidInput(f"{list(levels)} are not ascending levels", field="levels", hint="two or more within (0, 1)")
    if quantiles.ndim != 2 or quantiles.shape[1] != len(at):
        raise InvalidInput(f"shape {quantiles.shape} for {len(at)} levels", field="quantiles", hint="[n, levels]")
    score = ndtri(at)
    # Rounded: slopes between subnormal numbers overflow.
    power = np.round(np.maximum.accumulate(quantiles.astype(np.float64), axis=1), 9)
    curve = PchipInterpolator(score, power, axis=1)
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / _PIECE)) + 1)[:-1] for a, b in pairwise(score)]
    inner = np.append(np.concatenate(pieces), score[-1])
    slope = curve(score[[0, -1]], 1)
    low = power[:, 0] - slope[:, 0] * (score[0] + _FARTHEST)
    high = power[:, -1] + slope[:, 1] * (_FARTHEST - score[-1])
    corners = np.column_stack([low, np.maximum.accumulate(curve(inner), axis=1), high])
    corners[:, 1 + np.searchsorted(inner, score)] = power
    top = np.broadcast_to(np.asarray(ceiling, np.float64), (len(power),))
    return np.concatenate([[-_FARTHEST], inner, [_FARTHEST]]), np.clip(corners, 0.0, top[:, np.newaxis])


def power_at(score: Floats, corners: Floats, wanted: Floats) -> Floats:
    """Power at normal scores.

    Parameters
    ----------
    score, corners : of `nodes`, shapes [k] and [n, k].
    wanted : normal scores, shape [m], the same for each of the n.

    Returns
    -------
    Shape [m, n].
    """
    cut = np.clip(wanted, score[0], score[-1])
    left = np.clip(np.searchsorted(score, cut, side="right") - 1, 0, len(score) - 2)
    share = (cut - score[left]) / (score[left + 1] - score[left])
    result: Floats = corners[:, left].T * (1.0 - share)[:, np.newaxis] + corners[:, left + 1].T * share[:, np.newaxis]
    return result


def score_of(target: Floats, score: Floats, corners: Floats) -> Floats:
    """The normal score at which the distribution reaches each target (its probability integral transform).

    Where several scores give the target (power zero at dusk, capacity at a clear noon), the middle of them.

    Parameters
    ----------
    target : shape [n], the unit of `corners`, NaN where not metered.

    Returns
    -------
    Shape [n]; NaN where the target is NaN.
    """
    value = target[:, np.newaxis]
    below = (corners < value).sum(axis=1)  # corners that lie under the target
    upto = (corners <= value).sum(axis=1)  # and those at or under it
    ends = [_crossing(target, score, corners, count) for count in (below, upto)]
    return np.where(np.isnan(target), np.nan, (ends[0] + ends[1]) / 2.0)


def _crossing(target: Floats, score: Floats, corners: Floats, count: npt.NDArray[np.int64]) -> Floats:
    """Where the line between corner `count` - 1 and corner `count` meets the target."""
    right = np.clip(count, 1, len(score) - 1)
    rows = np.arange(len(target))
    low, high = corners[rows, right - 1], corners[rows, right]
    rise = np.where(high > low, high - low, 1.0)
    share = np.where(high > low, (target - low) / rise, np.where(count >= right, 1.0, 0.0))
    result: Floats = score[right - 1] + np.clip(share, 0.0, 1.0) * (score[right] - score[right - 1])
    return result
