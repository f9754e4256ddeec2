"""The frozen drift reference of a park: what healthy looks like, and how unusual is unusual enough.

Made once from healthy days and then left alone: a promotion of the serving model changes nothing here, or a model
that has learned a loss would make the loss look normal.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from inference.drift import calibrate, cusum, distances, level, model, rules
from inference.drift.days import DayCutter, Days, ParkDays, last_checkable
from inference.drift.level import Level
from inference.drift.statistics import SCALE_FLOORS, Seasons, Statistics, centred_on_own_past, daily
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.known import Floats, ParkRecord

FULL, PROVISIONAL = "full", "provisional"
MIN_FULL_DAYS = 365  # less does not show every season
MIN_PROVISIONAL_DAYS = 14
MIN_ACCEPTED_DAYS = 5
WARN, PAGE = "warn", "page"
AGEING_A_YEAR = 0.007
"""What modules lose by age alone (0.5 to 0.8 % a year: Jordan 2016, Prog. Photovolt. 24): expected, no drift."""
DETECTOR_SET = "v3"
"""Part of every event's id and of every reference: changes whenever the detectors do."""
SHARES = {
    FULL: {WARN: {"cusum_level": 0.885, "cusum_level_rise": 0.015, "cusum_clr": 0.02, "cusum_tc": 0.03,
                  "cusum_cse": 0.035, "distance": 0.0025},
           PAGE: {"cusum_level": 0.75, "cusum_tc": 0.25}},
    PROVISIONAL: {WARN: {"cusum_clr": 0.2, "cusum_tc": 0.2},
                  PAGE: {"cusum_clr": 0.5, "cusum_tc": 0.5}},
}  # fmt: skip
"""Each detector's share of the budget, by level. ``distance`` is that of each of six tests. What lies in the weather's
data or makes more power than expected calls nobody."""
MOST_PAGES = 0.02
EXPLAINED = {FULL: ("level", "tc", "lrel"), PROVISIONAL: ("clr", "tc", "lrel")}
_DISTANCE_YEARS = 60


@dataclass(frozen=True)
class Budget:
    """False alarms that are wanted at most, of the statistics: `warnings` a year of each park, `fleet_pages` of all.

    Thresholds are frozen with the reference, and so is the number of `parks` that share the pages. A park alone does
    not get all of them: `MOST_PAGES`.
    """

    warnings: float = 0.55
    fleet_pages: float = 2.0
    parks: int = 1

    def of(self, kind: str) -> dict[str, dict[str, float]]:
        """Level -> detector -> alarms a year."""
        total = {WARN: self.warnings, PAGE: min(self.fleet_pages / max(self.parks, 1), MOST_PAGES)}
        return {
            level: {name: share * total[level] for name, share in shares.items()}
            for level, shares in SHARES[kind].items()
        }


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
    thresholds : level -> detector name -> threshold; a detector without one is off.
    realised : level -> alarms a year of its detectors together on the resampled reference, by those thresholds.
    data_versions : lake tables and the versions it was made from.
    scale : by which an accepted change multiplied what is expected.
    day_level : what turns a day's energy ratio into its level; None when provisional.
    """

    park_id: str
    kind: str
    first: np.datetime64
    until: np.datetime64
    booster_ubj: bytes
    days: Days
    statistics: Statistics
    thresholds: dict[str, dict[str, float]]
    pool_parks: tuple[str, ...]
    realised: dict[str, float] = field(default_factory=dict)
    data_versions: dict[str, int] = field(default_factory=dict)
    day_level: Level | None = None
    scale: float = 1.0
    _seasons: Seasons = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seasons", Seasons(self.days, self.statistics))

    @property
    def reference_id(self) -> str:
        """First 16 hex digits of the SHA-256 over the content."""
        return hashlib.sha256(self.facts().encode() + self.booster_ubj).hexdigest()[:16]

    def expected(self, park: ParkDays) -> Floats:
        """Expected power of healthy days under that weather, fraction of capacity, shape [n, 24]."""
        if self.kind != FULL:
            return model.physical(park)
        middle = self.days[0] + (self.days[-1] - self.days[0]) // 2
        years = np.maximum((park.days - middle).astype(np.float64) / 365.25, 0.0)
        aged = self.scale * (1.0 - AGEING_A_YEAR) ** years
        return np.asarray(model.predict(self.booster_ubj, park) * aged[:, None])

    def measured(self, park: ParkDays, expected: Floats) -> Statistics:
        """Daily statistics as the pool has them; shape [n]."""
        raw = daily(park, expected)
        if self.day_level is None:
            return centred_on_own_past(park.days, raw)
        return raw | {"level": self.day_level.z(level.describe(park, expected), raw["lrel"])}

    def standardised(self, days: Days, statistics: Statistics) -> Statistics:
        """z of each day against the pool's season; shape [n]."""
        return self._seasons.standardise(days, statistics)

    def facts(self) -> str:
        """Everything but the booster as JSON; the inverse is `from_facts`."""
        return json.dumps(
            {
                "park_id": self.park_id,
                "kind": self.kind,
                "detector_set": DETECTOR_SET,
                "first": str(self.first),
                "until": str(self.until),
                "days": self.days.astype(str).tolist(),
                "statistics": {name: [_json(v) for v in values] for name, values in self.statistics.items()},
                "thresholds": self.thresholds,
                "realised": self.realised,
                "pool_parks": self.pool_parks,
                "data_versions": self.data_versions,
                "scale": self.scale,
                "day_level": None
                if self.day_level is None
                else [b64encode(part).decode() for part in (self.day_level.centre_ubj, self.day_level.spread_ubj)],
            },
            sort_keys=True,
        )


def from_facts(facts: str, booster_ubj: bytes) -> Reference:
    """The inverse of `Reference.facts`."""
    values = json.loads(facts)
    statistics = {name: np.array(column, np.float64) for name, column in values["statistics"].items()}
    first, until = (np.datetime64(values[name], "D") for name in ("first", "until"))
    boosters = values["day_level"]
    return Reference(
        values["park_id"], values["kind"], first, until, booster_ubj, np.array(values["days"], "datetime64[D]"),
        statistics, values["thresholds"], tuple(values["pool_parks"]), values["realised"], values["data_versions"],
        Level(*(b64decode(part) for part in boosters)) if boosters else None, values["scale"],
    )  # fmt: skip


def make(
    record: ParkRecord,
    until: np.datetime64,
    others: Sequence[ParkRecord] = (),
    *,
    budget: Budget | None = None,
    data_versions: dict[str, int] | None = None,
) -> Reference:
    """Make a reference from what was known at `until` (an instant).

    Parameters
    ----------
    others : parks of a similar climate, used when the park itself has less than a year of days.
    budget : how many false alarms are wanted at most; the default when None.

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
        expected = model.predict_out_of_fold(own)
        statistics = daily(own, expected)
        day_level, z = level.fit(own.days, level.describe(own, expected), statistics["lrel"])
        statistics["level"] = z
        kind, booster, days = FULL, model.train(own), own.days
        pool: tuple[str, ...] = (record.site.park_id,)
    else:
        known = (_healthy(other, until) for other in others)
        pools = [park for park in known if park and len(park.days) >= MIN_FULL_DAYS]
        columns = [centred_on_own_past(park.days, daily(park, model.physical(park))) for park in pools]
        days = np.concatenate([np.zeros(0, "datetime64[D]"), *(park.days for park in pools)])
        statistics = {name: np.concatenate([np.zeros(0), *(c[name] for c in columns)]) for name in SCALE_FLOORS}
        kind, booster, day_level = PROVISIONAL, b"", None
        pool = tuple(park.site.park_id for park in pools)
    statistics = {name: np.round(values, 9) for name, values in statistics.items()}  # as they will be stored
    wanted = (budget or Budget()).of(kind)
    found = {level: _calibrated(kind, days, statistics, rates, level == PAGE) for level, rates in wanted.items()}
    return Reference(
        record.site.park_id, kind, first, last, booster, days, statistics,
        {name: thresholds for name, (thresholds, _) in found.items()}, pool,
        {name: rate for name, (_, rate) in found.items()}, data_versions or {}, day_level,
    )  # fmt: skip


def accept(cutter: DayCutter, reference: Reference, change_at: np.datetime64, as_of: np.datetime64) -> Reference:
    """The reference with what the park has given since `change_at` (a day) as the new normal, sums from there on.

    Raises
    ------
    InvalidInput
        a provisional reference, which follows by itself within six weeks; or a day that it is made from.
    NotEnoughData
        fewer than 5 valid days since.
    """
    if reference.kind != FULL:
        raise InvalidInput("its reference is provisional", field="PARK", hint="it follows by itself within six weeks")
    last = last_checkable(cutter.site, as_of)
    if change_at > last:
        raise InvalidInput(f"{change_at} is not over yet", field="--change-at", hint=f"{last} or before")
    if change_at <= reference.first:
        raise InvalidInput(f"{change_at} is where the reference begins", field="--change-at", hint="a later day")
    park = cutter.cut(change_at, last, as_of)
    ratio = daily(park, reference.expected(park))["lrel"]
    ratio = ratio[np.isfinite(ratio)]
    if len(ratio) < MIN_ACCEPTED_DAYS:
        raise NotEnoughData(
            f"{len(ratio)} valid days since {change_at}", field="--change-at",
            hint=f"accept after {MIN_ACCEPTED_DAYS} of them",
        )  # fmt: skip
    scale = round(reference.scale * float(np.exp(np.median(ratio))), 6)
    return replace(reference, scale=scale, until=change_at - np.timedelta64(1, "D"))


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


def _calibrated(
    kind: str, days: Days, statistics: Statistics, wanted: dict[str, float], page: bool
) -> tuple[dict[str, float], float]:
    """Thresholds within a rate budget, and the alarms a year that they let through on the resampled reference."""
    if len(days) == 0:
        return {}, 0.0
    z = Seasons(days, statistics).standardise(days, statistics)
    rows = calibrate.pseudo_years(days, seed=0)
    thresholds, realised = {}, 0.0
    for detector in cusum.DETECTORS:
        if detector.name in wanted:
            years = z[detector.statistic][rows]
            found = calibrate.cusum_threshold(detector, years, wanted[detector.name], page)
            thresholds[detector.name] = found
            realised += cusum.alarms_a_year(detector, years, found)
    for name in EXPLAINED[kind] if "distance" in wanted else ():
        years, pool = z[name][rows[:_DISTANCE_YEARS]], z[name][~np.isnan(z[name])]
        for test, distance in (("ks", distances.ks), ("cvm", distances.cvm)):
            thresholds[f"{test}_{name}"] = calibrate.distance_threshold(distance, years, pool, wanted["distance"])
            realised += wanted["distance"]
    return {name: round(value, 6) for name, value in thresholds.items()}, round(realised, 3)


def _json(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
