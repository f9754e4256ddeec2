"""How good what was served was, a day: error, coverage and skill; and when a model has grown stale. Pure.

A day is scored on the last forecast that was issued in the 24 hours before it began, daylight hours only, beside smart
persistence as it was known at the same instant. Errors are fractions of capacity.

A model is **stale** when its error, as a share of that of smart persistence, has grown on sound days beyond what it had
on its own hold-out: by more than chance over the last weeks would do (a jackknife over days).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from inference.drift.days import starts
from inference.drift.served import Forecast, Promise
from pvforecast.evaluation import baselines, metrics
from pvforecast.features import daylight
from pvforecast.known import HOUR, Floats, ParkRecord, Times

WINDOW_DAYS, LEAST_DAYS = 28, 10
"""So many days back, and so many scored sound days of one model at least."""
GROWN = 1.25
"""How many times its hold-out's share of smart persistence the error has to be, at least."""
SURE = 2.33  # standard errors: chance alone comes as far once in a hundred
_LEAST_HOURS = 5
BAND = (0.1, 0.9)


@dataclass(frozen=True)
class Score:
    """One day of one park.

    Attributes
    ----------
    hours : daylight hours that were metered.
    persistence : nMAE of smart persistence on the same hours; `skill` is 1 - nmae / persistence.
    coverage : share of hours inside the 80 % band; None where the levels do not reach its edges.
    sound : nothing had drifted: the day tells of the model, not of the park.
    promise : of the model's own hold-out, where it is known.
    """

    park_id: str
    day: str
    model_version: str
    hours: int
    nmae: float
    persistence: float
    bias: float
    coverage: float | None
    sound: bool = True
    promise: Promise | None = None

    @property
    def skill(self) -> float | None:
        return 1.0 - self.nmae / self.persistence if self.persistence > 0.0 else None

    def judged(self, *, sound: bool, promise: Promise | None) -> Score:
        return replace(self, sound=sound, promise=promise)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"skill": self.skill}


@dataclass(frozen=True)
class Stale:
    """Why a model is, or is not: relative errors, `lower` the lower bound of `error` by `SURE`."""

    since: str
    days: int
    error: float
    lower: float
    promised: float

    @property
    def threshold(self) -> float:
        return GROWN * self.promised

    def __bool__(self) -> bool:
        return self.lower > self.threshold


def score(record: ParkRecord, day: np.datetime64, forecast: Forecast, as_of: np.datetime64) -> Score | None:
    """Of what was known at `as_of`; None where too little of the day was forecast or metered."""
    site = record.site_at(forecast.issued_at)
    begin = starts(site, np.array([day], "datetime64[D]"))[0]
    hours = begin + np.arange(24) * HOUR
    truth = record.truth(hours, as_of, healthy=True, under_snow=True) / site.ac_capacity_kw
    power = {level: _hourly(forecast.valid_at, kw, hours) / site.ac_capacity_kw for level, kw in
             forecast.power_kw.items()}  # fmt: skip
    median = power.get(0.5)
    if median is None:
        return None
    kept = daylight(site, hours, HOUR) & np.isfinite(truth) & np.isfinite(median)
    if kept.sum() < _LEAST_HOURS:
        return None
    rival = baselines.smart_persistence(record.known_at(forecast.issued_at), hours)
    low, high = (power.get(level) for level in BAND)
    inside = None if low is None or high is None else metrics.picp(truth[kept], low[kept], high[kept])
    return Score(
        site.park_id, str(day), forecast.model_version, int(kept.sum()), metrics.nmae(truth[kept], median[kept]),
        metrics.nmae(truth[kept], rival[kept]), metrics.bias(truth[kept], median[kept]), inside,
    )  # fmt: skip


def stale(scores: Sequence[Score]) -> Stale | None:
    """Whether the model of the newest day is; None while too few sound days are scored, or its hold-out unknown.

    Parameters
    ----------
    scores : of one park's sound days, ascending.
    """
    if not scores or scores[-1].promise is None:
        return None
    newest = scores[-1]
    first = np.datetime64(newest.day) - np.timedelta64(WINDOW_DAYS - 1, "D")
    kept = [one for one in scores if one.model_version == newest.model_version and np.datetime64(one.day) >= first]
    ours = np.array([one.nmae * one.hours for one in kept])
    theirs = np.array([one.persistence * one.hours for one in kept])
    if len(kept) < LEAST_DAYS or not (theirs.sum() - theirs > 0.0).all():
        return None
    error = float(ours.sum() / theirs.sum())
    without = (ours.sum() - ours) / (theirs.sum() - theirs)
    spread = float(np.sqrt((len(kept) - 1) * ((without - without.mean()) ** 2).mean()))
    promised = 1.0 - newest.promise.skill if newest.promise is not None else 0.0
    return Stale(kept[0].day, len(kept), error, error - SURE * spread, promised)


def turns(scores: Sequence[Score]) -> tuple[Stale | None, str | None]:
    """What the newest of a park's sound days changes: the finding that opens an episode, or the day whose it closes."""
    opened: str | None = None
    before: str | None = None
    found: Stale | None = None
    for at in range(len(scores)):
        found, before = stale(scores[: at + 1]), opened
        if found is not None:
            opened = (opened or scores[at].day) if found else None
    if found and before is None:
        return found, None
    return None, before if opened is None else None


def _hourly(valid_at: Times, power: Floats, hours: Times) -> Floats:
    """Mean of each hour's intervals; NaN where there are none. Shape as `hours`."""
    at = np.searchsorted(hours, valid_at, side="right") - 1
    inside = (at >= 0) & (valid_at < hours[-1] + HOUR)
    count = np.bincount(at[inside], minlength=len(hours))
    total = np.bincount(at[inside], weights=power[inside], minlength=len(hours))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
