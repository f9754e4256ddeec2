"""The rolling-origin backtest: fit, issue, refit, as it would have happened.

A refit sees a record cut to what was available at its instant (`as_known`); a forecast sees `ParkRecord.known_at` of
its issue time. Nothing else enters, so what became known later can change no forecast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pvforecast import dataset
from pvforecast.errors import InvalidInput
from pvforecast.evaluation import issues as issuing
from pvforecast.evaluation import metrics, references
from pvforecast.evaluation.references import POINTS, References, Shown
from pvforecast.features import horizon
from pvforecast.known import HOUR, Floats, ParkRecord, Times, Words
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train

MODEL, CHAMPION = "model", "champion"
_DAY = np.timedelta64(86_400, "s")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is tested, and how.

    Attributes
    ----------
    train_until : the first fit knows what was available then, and nothing later.
    test_from, test_until : forecasts are issued in [test_from, test_until), UTC.
    issue_hours : local hours at which a forecast is issued each day; not used with `at_runs`.
    at_runs : issue whenever a new weather run becomes available.
    retrain_days : refit every so many days after `train_until`; None: never.
    quantiles : levels; None: the recipe's own.
    learning_issues : most issue times a park to learn from, where issues are not the daily ones.
    """

    train_until: np.datetime64
    test_from: np.datetime64
    test_until: np.datetime64
    horizon_hours: int = 48
    issue_hours: tuple[int, ...] = (0,)
    at_runs: bool = False
    retrain_days: int | None = None
    quantiles: tuple[float, ...] | None = None
    learning_issues: int = 1500

    def __post_init__(self) -> None:
        if not self.train_until <= self.test_from < self.test_until:
            raise InvalidInput(
                f"train until {self.train_until}, test from {self.test_from} until {self.test_until}: out of order",
                field="--test-from",
                hint="what is learned must lie before what is tested",
            )

    def refits(self) -> list[np.datetime64]:
        """When models are fitted: at `train_until`, then every `retrain_days`; only those that serve in the test."""
        if self.retrain_days is None:
            return [self.train_until]
        step = self.retrain_days * _DAY
        count = int((self.test_until - self.train_until - np.timedelta64(1, "s")) // step) + 1
        every = [self.train_until + n * step for n in range(count)]
        before = [instant for instant in every if instant <= self.test_from]
        return [before[-1], *(instant for instant in every if instant > self.test_from)]

    def issues(self, record: ParkRecord) -> list[np.datetime64]:
        """Issue times of one park's test."""
        return issuing.issues(record, self.test_from, self.test_until, hours=self.issue_hours, at_runs=self.at_runs)


@dataclass(frozen=True)
class Stage:
    """A fit, and the baselines fitted beside it; serves issues from `as_of` (the first: from the test's start)."""

    as_of: np.datetime64
    bundle: Bundle
    references: References | None


@dataclass(frozen=True)
class ParkForecasts:
    """Every forecast of one park's test: one row for each issue time and interval, metered or not.

    Attributes
    ----------
    target : metered power as a fraction of `capacity_kw`, finally known; NaN where not metered.
    clear : clear-sky power, fraction. `weather` : the run that was known reached this interval.
    flags : what was wrong with the park, by blanks.
    quantiles : forecaster -> float32 [n, levels]; a point forecast repeats its point. NaN = missing.
    """

    park_id: str
    levels: tuple[float, ...]
    longitude: float
    issued_at: Times
    valid_at: Times
    capacity_kw: Floats
    target: Floats
    daylight: npt.NDArray[np.bool_]
    clear: Floats
    weather: npt.NDArray[np.bool_]
    flags: Words
    quantiles: Mapping[str, npt.NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.valid_at)

    @property
    def interval_hours(self) -> float:
        """Length of an interval."""
        times = np.unique(self.valid_at)
        return float(np.diff(times).min() / HOUR) if len(times) > 1 else 1.0

    @property
    def lead_hours(self) -> Floats:
        """Hours from issue to the start of the interval."""
        return (self.valid_at - self.issued_at).astype("timedelta64[s]").astype(np.float64) / 3600.0


def recipe_for(records: Sequence[ParkRecord], quantiles: tuple[float, ...] | None) -> Recipe:
    """The recipe a backtest trains: the default one, for the weather columns of these records and these levels."""
    return Recipe.for_records(records, **({} if quantiles is None else {"quantiles": quantiles}))


def as_known(record: ParkRecord, as_of: np.datetime64) -> ParkRecord:
    """The record as it stood at `as_of`: without rows, runs, corrections and facts that came later."""
    kept = record.available_at <= as_of
    return replace(
        record,
        site=record.site_at(as_of),
        sites=tuple(entry for n, entry in enumerate(record.sites) if n == 0 or entry[0] <= as_of),
        runs=tuple(run for run in record.runs if run.available_at <= as_of),
        valid_at=record.valid_at[kept],
        available_at=record.available_at[kept],
        power_kw=record.power_kw[kept],
        flags=None if record.flags is None else record.flags[kept],
    )


def from_source(record: ParkRecord, source: str) -> ParkRecord:
    """The record with the weather runs of one source only."""
    return replace(record, runs=tuple(run for run in record.runs if run.source == source))


def learning_rows(records: Sequence[ParkRecord], recipe: Recipe, plan: Plan, as_of: np.datetime64) -> dataset.Rows:
    """Rows to learn from: those of the weekly training; with other issue times also rows issued as in the test.

    Where issues follow the runs, only these: at other times the runs would look shorter than they are. At most
    `plan.learning_issues` issue times a park, drawn with a fixed seed: more of them see the same hours again.
    """
    weekly = [] if plan.at_runs else [dataset.training_rows(records, recipe.spec, as_of, plan.horizon_hours)]
    if not plan.at_runs and plan.issue_hours == (0,):
        return weekly[0]
    as_tested = [
        dataset.build(record, recipe.spec, _learning_issues(record, plan, as_of), plan.horizon_hours, healthy=True)
        for record in records
    ]
    return dataset.concat([*weekly, *as_tested])


def fit(
    records: Mapping[str, ParkRecord],
    plan: Plan,
    recipe: Recipe | None = None,
    *,
    with_references: bool = True,
    say: Say = lambda _: None,
) -> list[Stage]:
    """Every fit of the test, ascending; each on what was available at its instant.

    Raises
    ------
    NotEnoughData
        too little was known at one of the instants.
    """
    names = references.weather_names(list(records.values()))
    shown = _learning_shown(records, plan, names) if with_references else {}
    stages = []
    for as_of in plan.refits():
        say(f"fit on what was known at {as_of}")
        known = {park: as_known(record, as_of) for park, record in records.items()}
        chosen = recipe or recipe_for(list(known.values()), plan.quantiles)
        bundle = train(learning_rows(list(known.values()), chosen, plan, as_of), chosen, as_of)
        beside = _fit_references(known, shown, as_of, bundle.quantiles) if with_references else None
        stages.append(Stage(as_of, bundle, beside))
    return stages


def forecasts(
    record: ParkRecord,
    number: int,
    stages: Sequence[Stage],
    plan: Plan,
    names: tuple[str, ...],
    champion: Bundle | None = None,
) -> ParkForecasts:
    """Every forecast of one park, each by the newest fit before its issue.

    Parameters
    ----------
    number : the park's place among the records, as the references know it.
    names : `references.weather_names` of all records.
    """
    times = np.array(plan.issues(record), "datetime64[s]")
    stage_of = np.clip(np.searchsorted([stage.as_of for stage in stages], times, side="right") - 1, 0, None)
    parts = []
    for at in np.unique(stage_of):
        stage = stages[at]
        rows = dataset.build(record, stage.bundle.spec, times[stage_of == at], plan.horizon_hours)
        shown = references.show(record, number, rows.issued_at, rows.valid_at, names)
        quantiles = {MODEL: predict(stage.bundle, rows).astype(np.float32)}
        levels = stage.bundle.quantiles
        quantiles |= {
            name: np.repeat(shown.points[name][:, None], len(levels), 1).astype(np.float32) for name in POINTS
        }
        if stage.references is not None:
            quantiles |= stage.references.quantiles(shown)
        if champion is not None:
            quantiles[CHAMPION] = _of_champion(champion, record, times[stage_of == at], plan, levels)
        parts.append(_part(record, rows, shown, levels, quantiles))
    return _joined(record, parts, stages[0].bundle.quantiles)


def predict(bundle: Bundle, rows: dataset.Rows) -> Floats:
    """Quantiles as they are served: zero when the sun is down. Shape [n, quantiles]."""
    return np.where(rows.daylight[:, None], bundle.predict(rows.features, park_id=rows.park_id).astype(np.float64), 0.0)


def uncovered(forecast: ParkForecasts, plan: Plan) -> int:
    """How many intervals of [test_from, test_until) no forecast of the park reaches."""
    reached = np.unique(forecast.valid_at)
    if len(reached) < 2:
        return int((plan.test_until - plan.test_from) // HOUR)
    step = np.diff(reached).min()
    asked = int((plan.test_until - plan.test_from) // step)
    inside = int(((reached >= plan.test_from) & (reached < plan.test_until)).sum())
    return max(asked - inside, 0)


def _learning_issues(record: ParkRecord, plan: Plan, until: np.datetime64) -> list[np.datetime64]:
    times = issuing.learning_issues(record, until, hours=plan.issue_hours, at_runs=plan.at_runs)
    if len(times) <= plan.learning_issues:
        return times
    chosen = np.random.default_rng(0).choice(len(times), plan.learning_issues, replace=False)
    return [times[at] for at in np.sort(chosen)]


def _learning_shown(records: Mapping[str, ParkRecord], plan: Plan, names: tuple[str, ...]) -> dict[str, Shown]:
    """What the baselines saw in the past, up to the last fit; each row as known at its own issue time."""
    last = plan.refits()[-1]
    result = {}
    for number, (park, record) in enumerate(records.items()):
        times = _learning_issues(record, plan, last)
        valid = [horizon(issue, plan.horizon_hours, record.site.period) for issue in times]
        issued = [np.full(len(hours), issue) for issue, hours in zip(times, valid, strict=True)]
        nothing = [np.zeros(0, "datetime64[s]")]
        result[park] = references.show(
            record, number, np.concatenate(issued or nothing), np.concatenate(valid or nothing), names
        )
    return result


def _fit_references(
    known: Mapping[str, ParkRecord], shown: Mapping[str, Shown], as_of: np.datetime64, levels: tuple[float, ...]
) -> References:
    parts, targets = [], []
    for park, record in known.items():
        part = shown[park].where(shown[park].issued_at < as_of)
        capacity = {issue: record.site_at(issue).ac_capacity_kw for issue in np.unique(part.issued_at)}
        targets.append(record.truth(part.valid_at, healthy=True) / np.array([capacity[t] for t in part.issued_at]))
        parts.append(part)
    return references.fit(references.concat(parts), np.concatenate(targets), levels)


def _of_champion(
    champion: Bundle, record: ParkRecord, times: Times, plan: Plan, levels: tuple[float, ...]
) -> npt.NDArray[np.float32]:
    """The champion's quantiles at the levels of the test."""
    own = predict(champion, dataset.build(record, champion.spec, times, plan.horizon_hours))
    columns = [metrics.at_level(own, champion.quantiles, level) for level in levels]
    return np.stack(columns, axis=1).astype(np.float32)


def _part(
    record: ParkRecord,
    rows: dataset.Rows,
    shown: Shown,
    levels: tuple[float, ...],
    quantiles: dict[str, npt.NDArray[np.float32]],
) -> ParkForecasts:
    unique, of_row = np.unique(rows.issued_at, return_inverse=True)
    capacity = np.array([record.site_at(issue).ac_capacity_kw for issue in unique])
    return ParkForecasts(
        record.site.park_id,
        levels,
        record.site.longitude,
        rows.issued_at,
        rows.valid_at,
        capacity[of_row],
        rows.target,
        rows.daylight,
        shown.clear,
        np.asarray(~np.isnan(shown.weather).all(axis=1)),
        record.flags_of(rows.valid_at),
        quantiles,
    )


def _joined(record: ParkRecord, parts: list[ParkForecasts], levels: tuple[float, ...]) -> ParkForecasts:
    if len(parts) == 1:
        return parts[0]
    names = ("issued_at", "valid_at", "capacity_kw", "target", "daylight", "clear", "weather", "flags")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    forecasters = parts[0].quantiles
    joined = {name: np.concatenate([part.quantiles[name] for part in parts]) for name in forecasters}
    return ParkForecasts(
        park_id=record.site.park_id, levels=levels, longitude=record.site.longitude, quantiles=joined, **arrays
    )
