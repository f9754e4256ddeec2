"""Scores and losses on a hold-out, park by park, small enough to keep for a whole fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast import dataset
from pvforecast.evaluation import metrics
from pvforecast.evaluation.backtest import DAY_AHEAD_HOURS, predict
from pvforecast.evaluation.paired import Days, local_day
from pvforecast.known import HOUR, Floats, ParkRecord
from pvforecast.model.bundle import Bundle

LEAD_BINS = ((0, 6), (6, 12), (12, 24), (24, 48))
"""Hours from issue to the start of the interval: from, and before."""
_DAY = 24 * HOUR


@dataclass(frozen=True)
class Losses:
    """Pinball losses of several models on the same metered daylight hours of one park, shape [n] each.

    Attributes
    ----------
    day : the local day of each hour.
    """

    park_id: str
    day: Days
    models: tuple[Floats, ...]


def issues(record: ParkRecord, begin: np.datetime64, end: np.datetime64) -> list[np.datetime64]:
    """Day-ahead issue times whose 24 hours lie in [begin, end)."""
    return [issue for issue in dataset.daily_issues(record, begin, end) if issue + _DAY <= end]


def losses(record: ParkRecord, models: Sequence[Bundle], begin: np.datetime64, end: np.datetime64) -> Losses:
    """Losses of `models` day-ahead, leads 1-24 h, over the levels that all of them have.

    Features are built once for models of one spec.
    """
    levels = tuple(level for level in models[0].quantiles if all(level in model.quantiles for model in models))
    times = issues(record, begin, end)
    built: dict[str, dataset.Rows] = {}
    columns = []
    for model in models:
        if model.spec.hash not in built:
            rows = dataset.build(record, model.spec, times, DAY_AHEAD_HOURS)
            built[model.spec.hash] = rows.where(rows.daylight & ~np.isnan(rows.target))
        rows = built[model.spec.hash]
        common = predict(model, rows)[:, [model.quantiles.index(level) for level in levels]]
        columns.append(metrics.pinball(rows.target, common, levels))
    rows = built[models[0].spec.hash]
    return Losses(record.site.park_id, local_day(rows.valid_at, record.site.longitude), tuple(columns))


@dataclass(frozen=True)
class Scored:
    """Forecasts of one park beside what was metered, leads to 48 h; shape [n], quantiles [n, levels]."""

    target: Floats
    quantiles: npt.NDArray[np.float32]
    daylight: npt.NDArray[np.bool_]
    lead_hours: Floats


def by_lead(parts: Sequence[Scored], levels: Sequence[float]) -> dict[str, dict[str, float]]:
    """`metrics.summary` over all parks: ``overall`` (leads 1-24 h), then ``lead 1-6`` and so on, by the ends of hours.

    A bin without a metered daylight hour is left out.
    """
    target, quantiles, daylight, lead = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("target", "quantiles", "daylight", "lead_hours")
    )
    bins = {"overall": (0, DAY_AHEAD_HOURS), **{f"lead {low + 1}-{high}": (low, high) for low, high in LEAD_BINS}}
    result = {}
    for name, (low, high) in bins.items():
        at = (lead >= low) & (lead < high)
        if (at & daylight).any():
            result[name] = metrics.summary(target[at], quantiles[at].astype(float), tuple(levels), daylight[at])
    return result
