"""The frozen drift reference of a park: what healthy looks like, and how unusual is unusual enough.

Made once from healthy days and then left alone: a promotion of the serving model changes nothing here, or a model
that has learned a loss would make the loss look normal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from inference.drift import calibrate, cusum, distances, model, rules
from inference.drift.days import DayCutter, Days, ParkDays
from inference.drift.statistics import SCALE_FLOORS, Seasons, Statistics, centred_on_own_past, daily
from pvforecast.errors import NotEnoughData
from pvforecast.known import Floats, ParkRecord

FULL, PROVISIONAL = "full", "provisional"
MIN_FULL_DAYS = 365  # less does not show every season
MIN_PROVISIONAL_DAYS = 14
ALARMS_A_YEAR = {FULL: 0.2, PROVISIONAL: 0.1}
"""Wanted false alarms of one detector in a year; what comes true was about 1.4 times that on unseen data."""
EXPLAINED = ("clr", "tc", "lrel")
_DISTANCE_YEARS = 60


@dataclass(frozen=True)
class Reference:
    """Frozen; content decides the id.

    Attributes
    ----------
    kind : ``full``, or ``provisional`` for a park with less than a year of its own: expectation from the physical
        model, centred on the park's own recent past, seasons and thresholds from the pooled `pool_parks`.
    first, until : days it was made from (of the park itself), both included.
    booster_ubj : weather-only median model; empty when provisional.
    days, statistics : shape [m], the pool of healthy days that new days are compared with.
    thresholds : detector name -> threshold; a detector without one is off.
    """

    park_id: str
    kind: str
    first: np.datetime64
    until: np.datetime64
    booster_ubj: bytes
    days: Days
    statistics: Statistics
    thresholds: dict[str, float]
    pool_parks: tuple[str, ...]
    _seasons: Seasons = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seasons", Seasons(self.days, self.statistics))

    @property
    def reference_id(self) -> str:
        """First 16 hex digits of the SHA-256 over the content."""
        return hashlib.sha256(self.facts().encode() + self.booster_ubj).hexdigest()[:16]

    def expected(self, park: ParkDays) -> Floats:
        """Expected power of healthy days under that weather, fraction of capacity, shape [n, 24]."""
        return model.predict(self.booster_ubj, park) if self.kind == FULL else model.physical(park)

    def measured(self, park: ParkDays, expected: Floats) -> Statistics:
        """Daily statistics as the pool has them; shape [n]."""
        raw = daily(park, expected)
        return raw if self.kind == FULL else centred_on_own_past(park.days, raw)

    def standardised(self, days: Days, statistics: Statistics) -> Statistics:
        """z of each day against the pool's season; shape [n]."""
        return self._seasons.standardise(days, statistics)

    def facts(self) -> str:
        """Everything but the booster as JSON; the inverse is `from_facts`."""
        return json.dumps(
            {
                "park_id": self.park_id,
                "kind": self.kind,
                "first": str(self.first),
                "until": str(self.until),
                "days": self.days.astype(str).tolist(),
                "statistics": {name: [_json(v) for v in values] for name, values in self.statistics.items()},
                "thresholds": self.thresholds,
                "pool_parks": self.pool_parks,
            },
            sort_keys=True,
        )


def from_facts(facts: str, booster_ubj: bytes) -> Reference:
    """The inverse of `Reference.facts`."""
    values = json.loads(facts)
    statistics = {name: np.array(column, np.float64) for name, column in values["statistics"].items()}
    first, until = (np.datetime64(values[name], "D") for name in ("first", "until"))
    return Reference(
        values["park_id"], values["kind"], first, until, booster_ubj, np.array(values["days"], "datetime64[D]"),
        statistics, values["thresholds"], tuple(values["pool_parks"]),
    )  # fmt: skip


def make(record: ParkRecord, until: np.datetime64, others: Sequence[ParkRecord] = ()) -> Reference:
    """Make a reference from what was known at `until` (an instant).

    Parameters
    ----------
    others : parks of a similar climate, used when the park itself has less than a year of days.

    Raises
    ------
    NotEnoughData
        fewer than 14 days are known.
    """
    own = _healthy(record, until)
    if own is None or len(own.days) < MIN_PROVISIONAL_DAYS:
        raise NotEnoughData(
            f"{record.site.park_id} has {0 if own is None else len(own.days)} days of metering before {until}",
            field="until", hint=f"a reference needs at least {MIN_PROVISIONAL_DAYS}",
        )  # fmt: skip
    first, last = own.days[0], own.days[-1]
    if len(own.days) >= MIN_FULL_DAYS:
        statistics = daily(own, model.predict_out_of_fold(own))
        kind, booster, days = FULL, model.train(own), own.days
        pool: tuple[str, ...] = (record.site.park_id,)
    else:
        known = (_healthy(other, until) for other in others)
        pools = [park for park in known if park and len(park.days) >= MIN_FULL_DAYS]
        columns = [centred_on_own_past(park.days, daily(park, model.physical(park))) for park in pools]
        days = np.concatenate([np.zeros(0, "datetime64[D]"), *(park.days for park in pools)])
        statistics = {name: np.concatenate([np.zeros(0), *(c[name] for c in columns)]) for name in SCALE_FLOORS}
        kind, booster = PROVISIONAL, b""
        pool = tuple(park.site.park_id for park in pools)
    statistics = {name: np.round(values, 9) for name, values in statistics.items()}  # as they will be stored
    thresholds = _thresholds(days, statistics, ALARMS_A_YEAR[kind]) if len(days) else {}
    return Reference(record.site.park_id, kind, first, last, booster, days, statistics, thresholds, pool)


def pooled(reference: Reference, statistic: str) -> Floats:
    """z of all reference days, without NaN: what the distribution tests compare recent days with. Shape [m]."""
    z = reference.standardised(reference.days, {statistic: reference.statistics[statistic]})[statistic]
    return z[~np.isnan(z)]


def _healthy(record: ParkRecord, until: np.datetime64) -> ParkDays | None:
    """The days known at `until`, power blanked on those that a hard rule finds."""
    cutter = DayCutter(record)
    known = cutter.span(until)
    if known is None or known[1] < known[0]:
        return None
    park = cutter.cut(*known, until)
    faulty = np.any([finding.touched for finding in rules.find(park, model.physical(park))], axis=0)
    return ParkDays(park.site, park.days, park.features, np.where(faulty[:, None], np.nan, park.power))


def _thresholds(days: Days, statistics: Statistics, alarms_wanted: float) -> dict[str, float]:
    z = Seasons(days, statistics).standardise(days, statistics)
    thresholds = {}
    for number, detector in enumerate(cusum.DETECTORS):
        years = calibrate.pseudo_years(days, z[detector.statistic], seed=number)
        thresholds[detector.name] = calibrate.cusum_threshold(detector, years, alarms_wanted)
    for number, name in enumerate(EXPLAINED):
        years = calibrate.pseudo_years(days, z[name], seed=100 + number, years=_DISTANCE_YEARS)
        pool = z[name][~np.isnan(z[name])]
        for test, distance in (("ks", distances.ks), ("cvm", distances.cvm)):
            thresholds[f"{test}_{name}"] = calibrate.distance_threshold(distance, years, pool, alarms_wanted)
    return {name: round(value, 6) for name, value in thresholds.items()}


def _json(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
