"""All that the detectors say of a park's days since its reference: computed once, read day by day.

Everything about a day depends on it and on the days before it alone, so a replay needs no second pass, with one
exception: a row of dark hours that turns out to be an outage takes its first days out of the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from inference.drift import cusum, distances, rules
from inference.drift.days import Days, ParkDays
from inference.drift.reference import EXPLAINED, PAGE, WARN, Reference, pooled
from inference.drift.statistics import Statistics
from pvforecast.known import Floats

_TESTS = {"ks": distances.ks, "cvm": distances.cvm}


@dataclass(frozen=True)
class Alarm:
    """`since` is the day from which the detector has been rising; `direction` +1 is more than expected or later."""

    detector: str
    score: float
    threshold: float
    direction: int
    since: np.datetime64
    level: str


@dataclass(frozen=True)
class Observed:
    """Days of one park under one reference.

    Attributes
    ----------
    park, expected, statistics, z : shape [n]; the first days may belong to the reference.
    findings, hard : what each rule says of the n days; rule -> its alarms among the watched days.
    days : the watched days, after the reference; `paths` : level -> detector -> what it did on them.
    """

    reference: Reference
    park: ParkDays
    expected: Floats
    statistics: Statistics
    z: Statistics
    findings: tuple[rules.Finding, ...]
    hard: dict[str, rules.Mask]
    days: Days
    paths: dict[str, dict[str, cusum.Path]]

    def up_to(self, day: np.datetime64) -> slice:
        """All days up to `day`, which is one of them."""
        return slice(0, int((day - self.park.days[0]) / np.timedelta64(1, "D")) + 1)

    def alarms(self, row: int) -> tuple[Alarm, ...]:
        """Of one watched day; a detector that alarms at both levels is listed once, as page."""
        day = self.days[row]
        at = self.up_to(day).stop - 1
        found = {
            f.rule: Alarm(f.rule, float(f.score[at]), f.threshold, 1, day, PAGE)
            for f in self.findings if self.hard[f.rule][row]
        }  # fmt: skip
        for level in (WARN, PAGE):
            for name, path in self.paths[level].items():
                if path.alarm[row]:
                    threshold, since = self.reference.thresholds[level][name], self.days[path.began[row]]
                    found[name] = Alarm(name, float(path.score[row]), threshold, int(path.direction[row]), since, level)
        return tuple(found.values())

    def scores(self, row: int) -> dict[str, tuple[float, float]]:
        """Detector -> (score, threshold at the warn level) of one watched day; without those that cannot tell."""
        at = self.up_to(self.days[row]).stop - 1
        found = {f.rule: (float(f.score[at]), f.threshold) for f in self.findings}
        found |= {
            name: (float(path.score[row]), self.reference.thresholds[WARN][name])
            for name, path in self.paths[WARN].items() if not np.isnan(path.score[row])
        }  # fmt: skip
        return found

    def alarm_rows(self) -> dict[str, list[int]]:
        """Level -> watched days with an alarm of that level."""
        hard = np.any(list(self.hard.values()), axis=0)
        return {
            level: np.flatnonzero(hard | _any(paths, len(self.days))).tolist() for level, paths in self.paths.items()
        }


def observe(
    park: ParkDays, reference: Reference, expected: Floats | None = None, complete: np.datetime64 | None = None
) -> Observed:
    """Run all detectors over the days after the reference.

    Parameters
    ----------
    expected : where it is known already.
    complete : the last day that is over; on later ones only rules look, those that the rest of a day cannot undo.
    """
    expected = reference.expected(park) if expected is None else expected
    over = np.ones(len(park.days), bool) if complete is None else park.days <= complete
    findings = tuple(
        replace(found, fires=found.fires & over) if found.rule in rules.WHOLE_DAY else found
        for found in rules.find(park, expected)
    )
    watched = park.days > reference.until
    hard = {finding.rule: _with_silence((finding.fires & watched)[watched]) for finding in findings}
    faulty = np.any([finding.touched for finding in findings], axis=0)
    healthy = replace(park, power=np.where(faulty[:, None], np.nan, park.power))
    measured = reference.measured(healthy, expected)
    statistics = {name: np.where(over, values, np.nan) for name, values in measured.items()}
    z = reference.standardised(park.days, statistics)
    rows = {name: values[watched] for name, values in z.items()}
    ruled = np.any(list(hard.values()), axis=0)
    paths = {}
    for level, thresholds in reference.thresholds.items():
        detectors = tuple(d for d in cusum.DETECTORS if d.name in thresholds)
        apart = _distances(reference, rows) if level == WARN else {}
        paths[level] = cusum.run(detectors, rows, thresholds, ruled, apart)
    return Observed(reference, park, expected, statistics, z, findings, hard, park.days[watched], paths)


def _distances(reference: Reference, z: Statistics) -> dict[str, tuple[Floats, npt.NDArray[np.int64]]]:
    """Score of each day, and which way the recent days lie."""
    wanted = [(test, name) for name in EXPLAINED[reference.kind] for test in _TESTS]
    return {
        f"{test}_{name}": (
            distances.trailing(_TESTS[test], z[name], pooled(reference, name)),
            np.nan_to_num(distances.trailing(_side, z[name], pooled(reference, name)), nan=1.0).astype(np.int64),
        )
        for test, name in wanted if f"{test}_{name}" in reference.thresholds[WARN]
    }  # fmt: skip


def _side(windows: Floats, pool: Floats) -> Floats:
    return np.where(np.median(windows, axis=1) >= np.median(pool), 1.0, -1.0)


def _any(paths: dict[str, cusum.Path], n: int) -> rules.Mask:
    return np.asarray(np.any([np.zeros(n, bool), *(path.alarm for path in paths.values())], axis=0))


def _with_silence(fires: rules.Mask) -> rules.Mask:
    """The first of each run of fires; a rule that alarmed is silent for 7 days."""
    alarms = np.zeros(len(fires), bool)
    silent_until = -1
    for day in np.flatnonzero(fires):
        if day > silent_until:
            alarms[day] = True
            silent_until = int(day) + cusum.COOL_DOWN_DAYS
    return alarms
