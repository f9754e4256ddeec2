"""One park on trial: a reference, its healthy days watched, then every fault planted and watched again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.drifts import faults, naive
from benchmarks.drifts.simulator import Park
from inference.drift import causes, check
from inference.drift.days import DayCutter, ParkDays, check_time, starts
from inference.drift.observe import Observed, observe
from inference.drift.reference import FULL, Budget, Reference, make
from pvforecast.known import HOUR, Floats, ParkRecord

REFERENCE_DAYS, YOUNG_DAYS = 380, 46
RUN_IN_DAYS, WATCHED_DAYS = 30, 60
FLEET_PARKS = 100
_DAY = np.timedelta64(1, "D")


@dataclass
class Trial:
    """What came of one park. `found`: a row per planted fault; `days` watched while healthy."""

    park_id: str
    climate: str
    kind: str
    days: int = 0
    false: dict[str, list[str]] = field(default_factory=dict)
    naive_false: dict[str, int] = field(default_factory=dict)
    found: list[dict[str, Any]] = field(default_factory=list)
    calibration_s: float = 0.0
    realised: dict[str, float] = field(default_factory=dict)


def run(park: Park, draws: int, seed: int, pool: tuple[ParkRecord, ...] = ()) -> Trial:
    """`draws` times each fault. `pool`: parks with a year of days, for one without."""
    record = park.record()
    cutter = DayCutter(record)
    first = (park.hours[0] + round(park.site.longitude / 15.0) * HOUR).astype("datetime64[D]")
    last = first + len(park.hours) // 24 - 1
    young = len(park.hours) // 24 <= REFERENCE_DAYS
    until = check_time(park.site, first + (YOUNG_DAYS if young else REFERENCE_DAYS) - 1)
    begun = time.process_time()
    reference = make(record, until, pool, budget=Budget(parks=FLEET_PARKS))
    took = time.process_time() - begun
    whole = cutter.cut(first, last, check_time(park.site, last))
    expected = reference.expected(whole)
    healthy = observe(whole, reference, expected)
    trial = Trial(park.site.park_id, park.climate, reference.kind, len(healthy.days), calibration_s=round(took, 2),
                  realised=reference.realised)  # fmt: skip
    for level, rows in healthy.alarm_rows().items():
        trial.false[level] = [_told(healthy, row) for row in rows if level == "warn" or _paged(healthy, row)]
    known = whole.days <= reference.until
    lrel = healthy.statistics["lrel"]
    trial.naive_false = {name: int(alarms.sum()) for name, alarms in naive.recipes(whole.power, lrel, known).items()}
    watched = 30 if young else WATCHED_DAYS
    free = len(healthy.days) - RUN_IN_DAYS // (3 if young else 1) - watched
    for number, fault in enumerate(faults.ALL):
        for draw in range(draws):
            random = np.random.default_rng([seed, hash_of(park.site.park_id), number, draw])
            begin = healthy.days[RUN_IN_DAYS // (3 if young else 1) + int(random.integers(0, max(free, 1)))]
            row = _planted(park, fault, begin, watched, whole, expected, reference, random)
            if row is not None:
                trial.found.append({"park": park.site.park_id, **row})
    return trial


def hash_of(name: str) -> int:
    """The same on every run, as `hash` is not."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(name)) % 2**31


def _planted(
    park: Park, fault: faults.Fault, begin: np.datetime64, watched: int, whole: ParkDays, expected: Floats,
    reference: Reference, random: np.random.Generator,
) -> dict[str, Any] | None:  # fmt: skip
    at = int((starts(park.site, np.array([begin]))[0] - park.hours[0]) / HOUR)
    try:
        faulty, drawn = fault.plant(park, at, random)
    except faults.NoFrost:
        return None
    span = (whole.days >= begin - RUN_IN_DAYS * _DAY) & (whole.days < begin + watched * _DAY)
    if reference.kind != FULL:
        span |= whole.days < begin  # its own past is what it is centred on
    days = whole.days[span]
    if fault.name == "provider_bias":
        seen = DayCutter(faulty.record()).cut(days[0], days[-1], check_time(park.site, days[-1]))
        found = observe(seen, reference)
    else:
        power = faulty.power.reshape(-1, 24)[at // 24 - int((begin - days[0]) / _DAY) :][: len(days)]
        kept = whole.select(span)
        found = observe(replace(kept, power=power / park.site.ac_capacity_kw), reference, expected[span])
    row: dict[str, Any] = {"fault": fault.name, "drawn": drawn, "begin": str(begin), "naive": {}}
    onset = begin + (int(drawn.rsplit(" ", 1)[1]) if fault.name == "snow" else 0) * _DAY
    for level, rows in found.alarm_rows().items():
        hits = [r for r in rows if found.days[r] >= onset and (level == "warn" or _paged(found, r))]
        row[level] = int((found.days[hits[0]] - onset) / _DAY) + 1 if hits else None
        if hits and level == "warn":
            alarms = found.alarms(hits[0])
            cause = causes.likely(found, alarms, found.days[hits[0]])
            row |= {"cause": cause.likely, "right": cause.likely in fault.causes, "evidence": cause.evidence,
                    "detectors": [alarm.detector for alarm in alarms]}  # fmt: skip
    before = whole.days <= reference.until
    both = np.concatenate([np.ones(before.sum(), bool), found.park.days[found.park.days > reference.until] < days[0]])
    late = found.park.days > reference.until
    power = np.concatenate([whole.power[before], found.park.power[late]])
    past = reference.statistics["lrel"] if reference.kind == FULL else found.statistics["lrel"][~late]
    if len(past) == before.sum():
        recipes = naive.recipes(power, np.concatenate([past, found.statistics["lrel"][late]]), both)
        when = np.concatenate([whole.days[before], found.park.days[late]])
        for name, alarms_a_day in recipes.items():
            hits = np.flatnonzero(alarms_a_day & (when >= onset))
            row["naive"][name] = int((when[hits[0]] - onset) / _DAY) + 1 if len(hits) else None
    return row


def _paged(observed: Observed, row: int) -> bool:
    alarms = observed.alarms(row)
    return check.level(alarms, causes.likely(observed, alarms, observed.days[row])) == "page"


def _told(observed: Observed, row: int) -> str:
    alarms = observed.alarms(row)
    cause = causes.likely(observed, alarms, observed.days[row])
    return f"{observed.days[row]} {'+'.join(alarm.detector for alarm in alarms)} {cause.likely}"
