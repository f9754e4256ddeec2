"""One daily check of one park: a pure function of the reference and of what was known at the check's time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from inference.drift import causes, episodes, explain
from inference.drift.days import DayCutter, last_checkable
from inference.drift.episodes import Episode
from inference.drift.observe import Alarm, Observed, observe
from inference.drift.reference import FULL, PAGE, WARN, Reference
from inference.drift.statistics import TRAILING_FIRST
from pvforecast.errors import InvalidInput, NotEnoughData

DETECTOR_SET = "v2"
"""Part of every event's id: changes whenever the detectors do."""


@dataclass(frozen=True)
class Check:
    """The outcome for one day.

    Attributes
    ----------
    alarms : empty on a quiet day; one event is made of all of a day's alarms.
    scores : detector -> (score, threshold at the warn level), whether it alarmed or not.
    opened : day whose alarm opened the episode that this day belongs to; cleared : the episode that it closes.
    distances, psi : Alibi Detect's and PSI's explanation (see `explain`), only where there is an alarm.
    """

    park_id: str
    day: np.datetime64
    checked_at: np.datetime64
    reference: Reference
    alarms: tuple[Alarm, ...]
    scores: dict[str, tuple[float, float]]
    cause: causes.Cause | None = None
    distances: tuple[dict[str, Any], ...] = ()
    psi: tuple[dict[str, Any], ...] = ()
    opened: np.datetime64 | None = None
    cleared: Episode | None = None

    @property
    def level(self) -> str:
        """page when any alarm is that rare, else warn; snow melts and calls nobody."""
        snow = self.cause is not None and self.cause.likely == "snow"
        return PAGE if not snow and any(alarm.level == PAGE for alarm in self.alarms) else WARN

    @property
    def provisional(self) -> bool:
        return self.reference.kind != FULL


def check(cutter: DayCutter, reference: Reference, as_of: np.datetime64) -> Check:
    """Check the newest day that is complete at `as_of`.

    Raises
    ------
    InvalidInput
        that day is not after the reference.
    NotEnoughData
        nothing of the day was metered by then.
    """
    day = last_checkable(cutter.site, as_of)
    if day <= reference.until:
        raise InvalidInput(
            f"the day to check, {day}, belongs to the reference (until {reference.until})",
            field="as_of", hint="check a later day, or make a reference that ends earlier",
        )  # fmt: skip
    known = cutter.span(as_of)
    if known is None or known[1] < day:
        raise NotEnoughData(
            f"{cutter.site.park_id}: nothing metered on {day} was known at {as_of}Z",
            field="as_of", hint="is the meter's data late? the newest day is " + (str(known[1]) if known else "none"),
        )  # fmt: skip
    first = reference.until - np.timedelta64(TRAILING_FIRST, "D")
    return judge(observe(cutter.cut(first, day, as_of), reference), -1, as_of)


def judge(observed: Observed, row: int, as_of: np.datetime64) -> Check:
    """What the day in `row` of the watched days came to, with its cause where there is an alarm."""
    alarms = observed.alarms(row)
    day, reference = observed.days[row], observed.reference
    until = observed.up_to(day)
    shares = explain.by_psi(
        reference, observed.park.days[until], {name: values[until] for name, values in observed.statistics.items()}
    )
    result = Check(
        observed.park.site.park_id, day, as_of, reference, alarms, observed.scores(row),
        psi=tuple(explain.as_dicts(shares)), opened=episodes.still_open(observed, row),
    )  # fmt: skip
    if not alarms:
        return replace(result, cleared=episodes.closing(observed, row))
    tests = explain.as_dicts(explain.by_distance(reference, {name: z[until] for name, z in observed.z.items()}))
    return replace(result, cause=causes.likely(observed, alarms, day), distances=tuple(tests))
