"""The backtest: train on the past, score the future, beside the baselines. One code path for every score shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pvforecast import dataset
from pvforecast.dataset import Rows
from pvforecast.errors import NotEnoughData
from pvforecast.evaluation import metrics, references, rolling, table
from pvforecast.evaluation.assess import DAY_AHEAD, Figures, assess, scores
from pvforecast.evaluation.imbalance import Prices
from pvforecast.evaluation.references import POINTS
from pvforecast.evaluation.rolling import MODEL, ParkForecasts, Plan, Stage
from pvforecast.evaluation.table import Table
from pvforecast.features import daylight, horizon
from pvforecast.known import Floats, ParkRecord
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe

DAY_AHEAD_HOURS = 24
KEPT_PARKS = 4  # whose forecasts are kept whole, for the plots


@dataclass(frozen=True)
class Scores:
    """Scores of one park over one test period.

    Attributes
    ----------
    model : `metrics.summary` of the model.
    baselines : baseline name -> daylight nMAE on the same hours.
    optimistic : the weather was observed, not forecast.
    """

    park_id: str
    test_from: str
    test_until: str
    model: dict[str, float]
    baselines: dict[str, float]
    optimistic: bool

    @property
    def skill(self) -> float:
        """1 - daylight nMAE / that of smart persistence; NaN where that never erred: a park at a standstill."""
        reference = self.baselines["smart_persistence"]
        return 1.0 - self.model["daylight_nmae"] / reference if reference > 0 else float("nan")


@dataclass(frozen=True)
class Counts:
    """What was asked of one park and what came, over all issues and leads.

    Attributes
    ----------
    asked, missing : rows (issue and interval) asked for, and those of them without a forecast.
    uncovered : intervals of the test that no issue reaches.
    metered : rows with a metered value, which alone are scored.
    weather : share of the daylight rows of the first 24 hours that the known weather run reached; NaN without any.
    """

    asked: int
    missing: int
    uncovered: int
    metered: int
    weather: float


@dataclass(frozen=True)
class Outcome:
    """A backtest: what was fitted, and every scored row.

    Attributes
    ----------
    stages : the fits, ascending; the last is `bundle`.
    table : scored rows of all parks; None where nothing was metered.
    kept : whole forecasts of the model of some parks, for plots.
    skipped : park id -> why it took no part, or was not scored.
    """

    plan: Plan
    stages: list[Stage]
    table: Table | None
    counts: dict[str, Counts]
    optimistic: dict[str, bool]
    kept: dict[str, ParkForecasts] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def bundle(self) -> Bundle:
        return self.stages[-1].bundle

    @property
    def observed_weather(self) -> bool:
        return any(self.optimistic.values())

    def figures(self) -> Figures:
        """`assess` of the scored rows, with what was asked and how it was run; plain values, ready for JSON."""
        whole: dict[str, Any] = {
            "observed_weather": self.observed_weather,
            "train_until": str(self.plan.train_until),
            "test_from": str(self.plan.test_from),
            "test_until": str(self.plan.test_until),
            "fits": [str(stage.as_of) for stage in self.stages],
            "horizon_hours": self.plan.horizon_hours,
            "issues": "at runs" if self.plan.at_runs else list(self.plan.issue_hours),
            "levels": list(self.bundle.quantiles),
            "asked": sum(counts.asked for counts in self.counts.values()),
            "missing": sum(counts.missing for counts in self.counts.values()),
            "uncovered": sum(counts.uncovered for counts in self.counts.values()),
            "metered": sum(counts.metered for counts in self.counts.values()),
            "weather_covered": _mean([counts.weather for counts in self.counts.values()]),
            "not_scored": self.skipped,
            "notes": list(self.notes),
        }
        return whole | (assess(self.table) if self.table is not None else {})

    def scores(self) -> dict[str, Scores]:
        """By park, those that have metered daylight hours: day-ahead, as `Scores`."""
        if self.table is None:
            return {}
        ahead = self.table.where(self.table.lead < DAY_AHEAD)
        return {
            park: _scores(ahead.where(ahead.park_id == park), park, self.optimistic[park])
            for park in dict.fromkeys(ahead.park_id[ahead.daylight].astype(str))
        }


def run(
    records: Mapping[str, ParkRecord],
    plan: Plan,
    recipe: Recipe | None = None,
    *,
    with_references: bool = True,
    champion: Bundle | None = None,
    prices: Prices | None = None,
    unmetered: bool = False,
    sink: Callable[[ParkForecasts], None] | None = None,
    say: rolling.Say = lambda _: None,
) -> Outcome:
    """Run the whole backtest: every fit, every issue, every park; one park's forecasts in memory at a time.

    Parameters
    ----------
    recipe : None: the default one for these records and the plan's quantiles.
    with_references : also the baselines that learn (`references`).
    unmetered : parks without a metered hour in the test are forecast too; nothing to score is no error.
    sink : is given each park's forecasts, as they come.

    Raises
    ------
    NotEnoughData
        too little to learn from; or nothing metered to score, unless `unmetered`.
    """
    stages = rolling.fit(records, plan, recipe, with_references=with_references, say=say)
    names = references.weather_names(list(records.values()))
    parts: list[Table] = []
    counts: dict[str, Counts] = {}
    kept: dict[str, ParkForecasts] = {}
    skipped: dict[str, str] = {}
    for number, (park, record) in enumerate(records.items()):
        say(f"forecasts of {park}")
        forecast = rolling.forecasts(record, number, stages, plan, names, champion)
        counts[park] = _counts(forecast, plan)
        metered = ~np.isnan(forecast.target) & forecast.daylight & (forecast.lead_hours < DAY_AHEAD)
        if not metered.any():
            skipped[park] = "has no metered daylight hour in the test"
        if sink is not None and (metered.any() or unmetered):
            sink(forecast)
        if metered.any():
            parts.append(table.of_forecasts(forecast, prices))
        if len(kept) < KEPT_PARKS and (metered.any() or unmetered):
            kept[park] = replace(forecast, quantiles={MODEL: forecast.quantiles[MODEL]})
    if not parts and not unmetered:
        raise NotEnoughData(
            f"no metered hours in [{plan.test_from}, {plan.test_until})",
            field="test_until",
            hint="test where there is generation; or only forecast: --unmetered",
        )
    optimistic = {park: any("observed" in run.source for run in record.runs) for park, record in records.items()}
    notes = _notes(counts, champion, plan)
    whole = table.concat(parts) if parts else None
    return Outcome(plan, stages, whole, counts, optimistic, kept, skipped, notes)


def backtest(
    records: Mapping[str, ParkRecord],
    recipe: Recipe,
    train_until: np.datetime64,
    test_until: np.datetime64,
    horizon_hours: int = 48,
) -> tuple[Bundle, dict[str, Scores]]:
    """One fit at `train_until`, day-ahead forecasts from there on, beside the point baselines.

    Returns
    -------
    The trained bundle, and the scores by park.

    Raises
    ------
    NotEnoughData
        too little to learn from, or nothing metered in the test.
    """
    plan = Plan(train_until, train_until, test_until, horizon_hours)
    outcome = run(records, plan, recipe, with_references=False)
    return outcome.bundle, outcome.scores()


def score(bundle: Bundle, record: ParkRecord, issues: Sequence[np.datetime64], hours: int = DAY_AHEAD_HOURS) -> Scores:
    """Score a bundle on given issue times of one park; hours without a metered value are left out."""
    rows = dataset.build(record, bundle.spec, issues, hours)
    shown = references.show(record, 0, rows.issued_at, rows.valid_at, ()).points
    metered = ~np.isnan(rows.target)
    rows, shown = rows.where(metered), {name: values[metered] for name, values in shown.items()}
    quantiles = predict(bundle, rows)
    day = rows.daylight
    return Scores(
        record.site.park_id,
        str(issues[0]),
        str(issues[-1]),
        metrics.summary(rows.target, quantiles, bundle.quantiles, day),
        {name: metrics.nmae(rows.target[day], values[day]) for name, values in shown.items()},
        optimistic=any("observed" in run.source for run in record.runs),
    )


def predict(bundle: Bundle, rows: Rows) -> Floats:
    """Quantiles as they are served: zero when the sun is down. Shape [n, quantiles]."""
    return rolling.predict(bundle, rows)


def metered_daylight(record: ParkRecord, issues: Sequence[np.datetime64]) -> bool:
    """Whether there is anything to score: a metered daylight hour within a day of one of the issue times."""
    if not len(issues):
        return False
    hours = np.concatenate([horizon(issue, DAY_AHEAD_HOURS, record.site.period) for issue in issues])
    return bool((daylight(record.site, hours, record.site.period) & ~np.isnan(record.truth(hours))).any())


def _scores(rows: Table, park: str, optimistic: bool) -> Scores:
    day = rows.daylight
    return Scores(
        park,
        str(rows.issued_at.min()),
        str(rows.issued_at.max()),
        scores(rows, rows.model),
        {name: metrics.nmae(rows.target[day], rows.tracks[name].median[day]) for name in POINTS},
        optimistic,
    )


def _counts(forecast: ParkForecasts, plan: Plan) -> Counts:
    first = forecast.daylight & (forecast.lead_hours < DAY_AHEAD)
    return Counts(
        len(forecast),
        int(np.isnan(forecast.quantiles[MODEL]).any(axis=1).sum()),
        rolling.uncovered(forecast, plan),
        int((~np.isnan(forecast.target)).sum()),
        float(forecast.weather[first].mean()) if first.any() else float("nan"),
    )


def _notes(counts: Mapping[str, Counts], champion: Bundle | None, plan: Plan) -> tuple[str, ...]:
    notes = []
    covered = _mean([count.weather for count in counts.values()])
    if covered < 0.9:
        advice = "" if plan.at_runs else "; if runs come in at other hours: --issue-hours or --issue-at-runs"
        notes.append(
            f"the weather run known at issue reaches {covered:.0%} of the daylight of the first 24 hours{advice}"
        )
    if champion is not None and np.datetime64(champion.info["trained_until"], "s") > plan.test_from:
        until = champion.info["trained_until"]
        notes.append(f"the champion has learned from hours of this test (up to {until}): its scores are optimistic")
    return tuple(notes)


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
