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

from pvforecast.evaluation import paired
from pvforecast.evaluation.paired import Change, Days
from pvforecast.known import Floats

Verdict = Literal["promote", "refresh", "keep", "reject"]

ALPHA = 0.025
"""One-sided: of a recipe that is no better, at most this share looks significantly better; and of fleets in which no
park is harmed, at most this share names one."""
MIN_GAIN = 0.01  # another recipe must win at least this share of the champion's loss, however sure the win is
PARK_TOLERANCE = 0.05  # a park's loss may get worse by this share of the champion's
MIN_DAYS = 14  # metered days, before another recipe or a single park is judged
MIN_REFRESH_DAYS = 3
_NAMED = 5  # parks in a reason


@dataclass(frozen=True)
class Comparison:
    """The outcome, in pinball loss (fraction of capacity).

    Attributes
    ----------
    difference : challenger - champion, mean over the hours; negative = challenger better.
    interval : its 95 % interval, paired by day.
    worst_park : that with the largest loss of the challenger, as a share of the champion's; not necessarily worse.
    harmed : parks that get worse by more than `PARK_TOLERANCE`, significantly after Holm's correction; worst first.
    parks : the change in each park.
    unjudged : parks with fewer than `MIN_DAYS` metered days.
    """

    verdict: Verdict
    reason: str
    days: int
    challenger: float
    champion: float
    difference: float
    interval: tuple[float, float]
    worst_park: str = ""
    harmed: tuple[str, ...] = ()
    parks: tuple[tuple[str, Change], ...] = ()
    unjudged: tuple[str, ...] = ()

    @property
    def promotes(self) -> bool:
        return self.verdict in ("promote", "refresh")

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def first(challenger: float, smart_persistence: float, why: str = "first model") -> Comparison:
    """Without a champion that could be scored: promote what beats smart persistence (daylight nMAE)."""
    better = challenger < smart_persistence
    reason = f"{why}: daylight nMAE {challenger:.4f} against {smart_persistence:.4f} of smart persistence"
    nan = float("nan")
    return Comparison("promote" if better else "reject", reason, 0, challenger, nan, nan, (nan, nan))


def compare(
    challenger: Floats,
    champion: Floats,
    day: Days,
    park: npt.NDArray[np.object_],
    *,
    same_recipe: bool,
    seed: int = 0,
) -> Comparison:
    """Compare two models by the pinball loss of the same hours.

    Parameters
    ----------
    challenger, champion : loss of each hour, shape [n].
    day, park : of each hour. Days of all parks are resampled together, because they share their weather: `day` must
        be the same for all parks on the same day (`paired.local_day`), not an issue time.
    same_recipe : the challenger is a refresh.
    """
    losses = paired.daily(challenger, champion, day, park)
    days, needed = len(losses.days), MIN_REFRESH_DAYS if same_recipe else MIN_DAYS
    if days < needed:
        nan = float("nan")
        reason = f"too little data: {days} metered days to compare on, at least {needed} are needed"
        return Comparison("keep", reason, days, nan, nan, nan, (nan, nan))
    (overall,) = paired.changes(paired.pooled(losses), seed=seed)
    parks = dict(zip(losses.parks, paired.changes(losses, PARK_TOLERANCE, seed=seed), strict=True))
    harmed = _harmed(parks)
    verdict, reason = _judge(overall, harmed, same_recipe)
    low, high = (bound * overall.champion for bound in overall.interval)
    return Comparison(
        verdict,
        reason,
        days,
        overall.challenger,
        overall.champion,
        overall.share * overall.champion,
        (low, high),
        max(parks, key=lambda name: np.nan_to_num(parks[name].share, nan=-np.inf)),
        tuple(harmed),
        tuple(parks.items()),
        tuple(name for name, change in parks.items() if change.days < MIN_DAYS),
    )


def _judge(overall: Change, harmed: dict[str, Change], same_recipe: bool) -> tuple[Verdict, str]:
    low, high = overall.interval
    span = f"loss {overall.share:+.1%}, 95 % interval {low:+.1%} to {high:+.1%}, over {overall.days} days"
    hurt = ", ".join(f"{name} ({change.share:+.0%})" for name, change in list(harmed.items())[:_NAMED])
    hurt += f" and {len(harmed) - _NAMED} more" if len(harmed) > _NAMED else ""
    if same_recipe:
        if low > 0:
            return "keep", f"refresh is significantly worse: {span}"
        if harmed:
            return "keep", f"refresh harms {hurt}: {span}"
        return "refresh", f"same recipe, fresh data, not significantly worse: {span}"
    if low > 0:
        return "reject", f"significantly worse: {span}"
    if high < 0 and harmed:
        return "reject", f"better overall, but harms {hurt}: {span}"
    if high < 0 and overall.share > -MIN_GAIN:
        return "keep", f"significantly better, but by less than {MIN_GAIN:.0%}: {span}"
    if high < 0:
        return "promote", f"significantly better: {span}"
    return "keep", f"no significant difference: {span}" + (f"; harms {hurt}" if harmed else "")


def _harmed(parks: dict[str, Change]) -> dict[str, Change]:
    judged = {name: change for name, change in parks.items() if change.days >= MIN_DAYS}
    fallen = paired.holm(np.array([change.p_worse for change in judged.values()]), ALPHA)
    found = [(name, change) for (name, change), falls in zip(judged.items(), fallen, strict=True) if falls]
    return dict(sorted(found, key=lambda item: -item[1].share))
