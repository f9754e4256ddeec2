"""One daily check of one park: a pure function of the reference and of what was known at the check's time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from inference.drift import causes, cusum, explain, rules
from inference.drift.days import DayCutter, Days, ParkDays, last_checkable
from inference.drift.reference import FULL, Reference
from inference.drift.statistics import TRAILING_FIRST, Statistics
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.known import Floats

DETECTOR_SET = "v1"
"""Part of every event's id: changes whenever the detectors do."""


@dataclass(frozen=True)
class Alarm:
    """`since` is the day from which the detector has been rising; `direction` +1 is more than expected or later."""

    detector: str
    score: float
    threshold: float
    direction: int
    since: np.datetime64


@dataclass(frozen=True)
class Check:
    """The outcome for one day.

    Attributes
    ----------
    alarms : empty on a quiet day; one event is made of all of a day's alarms.
    scores : detector -> (score, threshold), whether it alarmed or not.
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
    return _judge(cutter.cut(first, day, as_of), reference, as_of)


def _judge(park: ParkDays, reference: Reference, as_of: np.datetime64) -> Check:
    expected = reference.expected(park)
    findings = rules.find(park, expected)
    monitored = park.days > reference.until
    hard = {finding.rule: _with_silence(finding.fires & monitored) for finding in findings}
    faulty = np.any([finding.touched for finding in findings], axis=0)
    healthy = replace(park, power=np.where(faulty[:, None], np.nan, park.power))
    statistics = reference.measured(healthy, expected)
    z = reference.standardised(park.days, statistics)

    detectors = tuple(d for d in cusum.DETECTORS if d.name in reference.thresholds)
    since_start = {name: values[monitored] for name, values in z.items()}
    paths = cusum.run(detectors, since_start, reference.thresholds, np.any(list(hard.values()), axis=0)[monitored])

    alarms = [
        Alarm(finding.rule, float(finding.score[-1]), finding.threshold, 1, park.days[-1])
        for finding in findings if hard[finding.rule][-1]
    ]  # fmt: skip
    alarms += [
        _last_alarm(name, path, reference, park.days[monitored]) for name, path in paths.items() if path.alarm[-1]
    ]
    scores = {finding.rule: (float(finding.score[-1]), finding.threshold) for finding in findings}
    scores |= {name: (float(path.score[-1]), reference.thresholds[name]) for name, path in paths.items()}
    result = Check(park.site.park_id, park.days[-1], as_of, reference, tuple(alarms), scores)
    return _explained(result, park, expected, statistics, z) if alarms else result


def _last_alarm(name: str, path: cusum.Path, reference: Reference, days: Days) -> Alarm:
    since = days[path.began[-1]]
    return Alarm(name, float(path.score[-1]), reference.thresholds[name], int(path.direction[-1]), since)


def _explained(result: Check, park: ParkDays, expected: Floats, statistics: Statistics, z: Statistics) -> Check:
    since = min(alarm.since for alarm in result.alarms)
    cause = causes.likely([alarm.detector for alarm in result.alarms], park, expected, statistics, since)
    tests = explain.as_dicts(explain.by_distance(result.reference, z))
    shares = explain.as_dicts(explain.by_psi(result.reference, park.days, statistics))
    return replace(result, cause=cause, distances=tuple(tests), psi=tuple(shares))


def _with_silence(fires: rules.Mask) -> rules.Mask:
    """The first of each run of fires; a rule that alarmed is silent for 7 days."""
    alarms = np.zeros(len(fires), bool)
    silent_until = -1
    for day in np.flatnonzero(fires):
        if day > silent_until:
            alarms[day] = True
            silent_until = int(day) + cusum.COOL_DOWN_DAYS
    return alarms
