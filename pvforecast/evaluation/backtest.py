"""The backtest: train on the past, score the future, beside the baselines. One code path for every score shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pvforecast import dataset
from pvforecast.dataset import Rows
from pvforecast.errors import NotEnoughData
from pvforecast.evaluation import baselines, metrics
from pvforecast.features import daylight, horizon
from pvforecast.known import Floats, ParkRecord
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train

DAY_AHEAD_HOURS = 24
BASELINES = {
    "persistence_24h": baselines.persistence,
    "smart_persistence": baselines.smart_persistence,
    "physical": baselines.physical,
}


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


def backtest(
    records: Mapping[str, ParkRecord],
    recipe: Recipe,
    train_until: np.datetime64,
    test_until: np.datetime64,
    horizon_hours: int = 48,
) -> tuple[Bundle, dict[str, Scores]]:
    """Train on what was known at `train_until`, score every park that has metered hours in [train_until, test_until).

    Day-ahead: issue 00:00 local, the first 24 hours.

    Returns
    -------
    The trained bundle, and the scores by park.
    """
    rows = dataset.training_rows(records.values(), recipe.spec, train_until, horizon_hours)
    bundle = train(rows, recipe, train_until)
    scores = {}
    for park_id, record in records.items():
        issues = dataset.daily_issues(record, train_until, test_until)
        if metered_daylight(record, issues):
            scores[park_id] = score(bundle, record, issues)
    if not scores:
        raise NotEnoughData(f"no metered hours in [{train_until}, {test_until})", field="test_until")
    return bundle, scores


def score(bundle: Bundle, record: ParkRecord, issues: Sequence[np.datetime64], hours: int = DAY_AHEAD_HOURS) -> Scores:
    """Score a bundle on given issue times of one park; hours without a metered value are left out."""
    rows = dataset.build(record, bundle.spec, issues, hours)
    shown = {
        name: np.concatenate([baseline(record.known_at(t), horizon(t, hours)) for t in issues])
        for name, baseline in BASELINES.items()
    }
    metered = ~np.isnan(rows.target)
    rows, shown = rows.where(metered), {name: values[metered] for name, values in shown.items()}
    quantiles = predict(bundle, rows)
    day = rows.daylight
    sources = {run.source for run in record.runs}
    return Scores(
        record.site.park_id,
        str(issues[0]),
        str(issues[-1]),
        metrics.summary(rows.target, quantiles, bundle.quantiles, day),
        {name: metrics.nmae(rows.target[day], values[day]) for name, values in shown.items()},
        optimistic=any("observed" in source for source in sources),
    )


def predict(bundle: Bundle, rows: Rows) -> Floats:
    """Quantiles as they are served: zero when the sun is down. Shape [n, quantiles]."""
    return np.where(rows.daylight[:, None], bundle.predict(rows.features).astype(np.float64), 0.0)


def metered_daylight(record: ParkRecord, issues: Sequence[np.datetime64]) -> bool:
    """Whether there is anything to score: a metered daylight hour within a day of one of the issue times."""
    if not issues:
        return False
    hours = np.concatenate([horizon(issue, DAY_AHEAD_HOURS) for issue in issues])
    return bool((daylight(record.site, hours) & ~np.isnan(record.truth(hours))).any())
