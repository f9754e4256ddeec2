"""One daily check of one park: a pure function of the reference and of what was known at the check's time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from inference.drift import causes, episodes, explain, tabular
from inference.drift.days import DayCutter, last_checkable, utc_offset
from inference.drift.episodes import Episode
from inference.drift.observe import Alarm, Observed, observe
from inference.drift.reference import FULL, PAGE, WARN, Reference
from inference.drift.statistics import TRAILING_FIRST
from inference.drift.tabular import Tabular
from pvforecast.errors import InvalidInput, NotEnoughData


@dataclass(frozen=True)
class Check:
    """The outcome for one day.

    Attributes
    ----------
    alarms : empty on a quiet day; one event is made of all of a day's alarms.
    scores : detector -> (score, threshold at the warn level), whether it alarmed or not.
    opened : day whose alarm opened the episode that this day belongs to; cleared : the episode that it closes.
    distances, psi, weather : Alibi Detect's and PSI's explanation (see `explain`, `tabular`); its own tests only where
        there is an alarm.
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
    weather: Tabular | None = None
    opened: np.datetime64 | None = None
    cleared: Episode | None = None

    @property
    def level(self) -> str:
        return WARN if self.cause is None else level(self.alarms, self.cause)

    @property
    def provisional(self) -> bool:
        return self.reference.kind != FULL


def level(alarms: Sequence[Alarm], cause: causes.Cause) -> str:
    """page when any alarm is that rare, else warn; what is only to be watched (snow melts) calls nobody."""
    return PAGE if cause.advice != causes.WATCH and any(alarm.level == PAGE for alarm in alarms) else WARN


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
    return judge(observe(cutter.cut(_first(reference), day, as_of), reference), -1, as_of)


def _first(reference: Reference) -> np.datetime64:
    first: np.datetime64 = reference.until - np.timedelta64(TRAILING_FIRST, "D")
    return first


def today(cutter: DayCutter, reference: Reference, as_of: np.datetime64) -> tuple[Check, ...]:
    """What the rules find on days that are not to be checked yet at `as_of`: a fault of the morning, told at noon.

    The check of the whole day finds the same again, and its event has the same id.
    """
    over = last_checkable(cutter.site, as_of)
    begun = (as_of.astype("datetime64[s]") + utc_offset(cutter.site)).astype("datetime64[D]")
    if over <= reference.until:
        return ()
    observed = observe(cutter.cut(_first(reference), begun, as_of), reference, complete=over)
    rows = [row for row, day in enumerate(observed.days) if day > over and observed.alarms(row)]
    return tuple(judge(observed, row, as_of) for row in rows)


def judge(observed: Observed, row: int, as_of: np.datetime64) -> Check:
    """What the day in `row` of the watched days came to, with its cause where there is an alarm."""
    alarms = observed.alarms(row)
    day, reference = observed.days[row], observed.reference
    until = observed.up_to(day)
    z = {name: values[until] for name, values in observed.z.items()}
    shares = explain.by_psi(
        reference, observed.park.days[until], {name: values[until] for name, values in observed.statistics.items()}
    )
    result = Check(
        observed.park.site.park_id, day, as_of, reference, alarms, observed.scores(row),
        psi=tuple(explain.as_dicts(shares)), weather=tabular.measure(reference, z, explained=bool(alarms)),
        opened=episodes.still_open(observed, row),
    )  # fmt: skip
    if not alarms:
        return replace(result, cleared=episodes.closing(observed, row))
    return replace(
        result, cause=causes.likely(observed, alarms, day),
        distances=tuple(explain.as_dicts(explain.by_distance(reference, z))),
    )  # fmt: skip
