"""Champion against challenger: a verdict in one word, and why.

A weekly champion has already seen most of any held-out window, so a challenger with another recipe is compared by
recipes, both trained on what was known before the hold-out. The same recipe with fresh data is a `refresh`: it takes
over unless it is significantly worse than the champion's own forecasts of days that the champion had not seen.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from pvforecast.known import Floats

Verdict = Literal["promote", "refresh", "keep", "reject"]

_SAMPLES = 2000
_MIN_DAYS = 3
_BOOTSTRAP_DAYS = 12
_BLOCK = 3
PARK_TOLERANCE = 0.10  # a park's pinball loss may get worse by this share of the champion's


@dataclass(frozen=True)
class Comparison:
    """The outcome, in pinball loss (fraction of capacity).

    Attributes
    ----------
    difference : mean of challenger - champion by day; negative = challenger better.
    interval : its 95 % interval, paired by day.
    """

    verdict: Verdict
    reason: str
    days: int
    challenger: float
    champion: float
    difference: float
    interval: tuple[float, float]
    worst_park: str = ""

    @property
    def promotes(self) -> bool:
        return self.verdict in ("promote", "refresh")

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def first(challenger: float, smart_persistence: float) -> Comparison:
    """Without a champion: promote what beats smart persistence (daylight nMAE)."""
    better = challenger < smart_persistence
    reason = f"first model: daylight nMAE {challenger:.4f} against {smart_persistence:.4f} of smart persistence"
    nan = float("nan")
    return Comparison("promote" if better else "reject", reason, 0, challenger, nan, nan, (nan, nan))


def compare(
    challenger: Floats,
    champion: Floats,
    day: npt.NDArray[np.datetime64],
    park: npt.NDArray[np.object_],
    *,
    same_recipe: bool,
    seed: int = 0,
) -> Comparison:
    """Compare two models by the pinball loss of the same rows.

    Parameters
    ----------
    challenger, champion : loss of each row, shape [n].
    day, park : of each row; days of all parks are resampled together, because they share their weather.
    same_recipe : the challenger is a refresh.
    """
    days = np.unique(day)
    if len(days) < _MIN_DAYS:
        nan = float("nan")
        reason = f"{len(days)} metered days to compare on, at least {_MIN_DAYS} are needed"
        return Comparison("keep", reason, len(days), nan, nan, nan, (nan, nan))
    difference = challenger - champion
    daily = np.array([difference[day == d].mean() for d in days])
    low, high = _interval(daily, seed)
    worst, worst_ratio = _worst_park(challenger, champion, park)
    means = len(days), float(challenger.mean()), float(champion.mean()), float(daily.mean()), (low, high)
    span = f"difference {daily.mean():+.5f}, 95 % interval {low:+.5f}..{high:+.5f} over {len(days)} days"
    if same_recipe:
        if low > 0:
            return Comparison("keep", f"refresh is significantly worse: {span}", *means, worst)
        return Comparison("refresh", f"same recipe, fresh data, not significantly worse: {span}", *means, worst)
    if high < 0 and worst_ratio <= PARK_TOLERANCE:
        return Comparison("promote", f"significantly better: {span}", *means, worst)
    if high < 0:
        return Comparison("keep", f"better overall, but {worst} gets {worst_ratio:.0%} worse: {span}", *means, worst)
    if low > 0:
        return Comparison("reject", f"significantly worse: {span}", *means, worst)
    return Comparison("keep", f"no significant difference: {span}", *means, worst)


def _interval(daily: Floats, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of daily differences.

    Circular block bootstrap with blocks of three days; below `_BOOTSTRAP_DAYS` its intervals are too narrow (12 % of
    equal models fell outside with three days), and Student's t stands in.
    """
    n = len(daily)
    if n < _BOOTSTRAP_DAYS:
        reach = float(stats.t.ppf(0.975, n - 1) * daily.std(ddof=1) / np.sqrt(n))
        return float(daily.mean()) - reach, float(daily.mean()) + reach
    random = np.random.default_rng(seed)
    starts = random.integers(0, n, (_SAMPLES, -(-n // _BLOCK)))
    picks = (starts[:, :, None] + np.arange(_BLOCK)).reshape(_SAMPLES, -1)[:, :n] % n
    low, high = np.quantile(daily[picks].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _worst_park(challenger: Floats, champion: Floats, park: npt.NDArray[np.object_]) -> tuple[str, float]:
    """The park that loses most, and by which share of the champion's loss."""
    ratios = {
        str(p): challenger[park == p].mean() / champion[park == p].mean() - 1.0 for p in np.unique(park.astype(str))
    }
    worst = max(ratios, key=lambda name: ratios[name])
    return worst, float(ratios[worst])
