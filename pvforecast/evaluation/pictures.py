"""What a hold-out looks like: reliability, error by hour and lead, fan charts, and which features matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pvforecast.evaluation import assess, metrics, plots, rolling, table
from pvforecast.evaluation.assess import DAY_AHEAD
from pvforecast.evaluation.holdout import Scored
from pvforecast.evaluation.rolling import ParkForecasts, Plan, Stage
from pvforecast.evaluation.table import Table
from pvforecast.known import HOUR, ParkRecord
from pvforecast.model.bundle import Bundle

FANS = 1  # parks whose forecasts are shown: the first by id


def forecasts(bundle: Bundle, record: ParkRecord, begin: np.datetime64, end: np.datetime64) -> ParkForecasts:
    """Forecasts of one park, 48 h from each midnight whose day lies in [begin, end), beside the point baselines."""
    last = end - np.timedelta64(round(3600 * DAY_AHEAD) - 1, "s")  # an issue before it has its day within
    return rolling.forecasts(record, 0, [Stage(begin, bundle, None)], Plan(begin, begin, last), ())


def as_scored(forecast: ParkForecasts, end: np.datetime64) -> Scored:
    """The metered hours that are over at `end`."""
    over = ~np.isnan(forecast.target) & (forecast.valid_at + HOUR <= end)
    return Scored(
        forecast.target[over],
        forecast.quantiles[rolling.MODEL][over],
        forecast.daylight[over],
        forecast.lead_hours[over],
    )


def of_holdout(
    bundle: Bundle, parts: Sequence[Table], shown: Mapping[str, ParkForecasts], zones: Mapping[str, str]
) -> dict[str, bytes]:
    """Heading -> PNG.

    Parameters
    ----------
    parts : scored rows of each park (`table.of_forecasts`).
    shown : park id -> forecasts to draw. zones : park id -> IANA time zone.
    """
    whole = table.concat([part for part in parts if part.daylight.any()])
    ahead = whole.where(whole.lead < DAY_AHEAD)
    errors = plots.errors(
        _by(ahead, ahead.hour, "solar_hour"), _by(whole, np.floor(whole.lead).astype(np.int64), "lead_hours")
    )
    fans = {f"Forecasts of {park}": plots.fans(forecast, zones[park]) for park, forecast in shown.items()}
    return {
        "Reliability: metered at or below each quantile": plots.reliability(assess.reliability(ahead)),
        "Error by hour of the day and by lead": errors,
        **fans,
        "Features that move the median most": importance(bundle),
    }


def importance(bundle: Bundle) -> bytes:
    """Mean absolute SHAP values of XGBoost's median on the bundle's golden rows, which are spread over the training."""
    level = int(np.argmin(np.abs(np.asarray(bundle.ensemble.levels) - 0.5)))
    moved = np.abs(bundle.contributions(bundle.golden_features)[:, level, :-1]).mean(axis=0)
    return plots.importance(bundle.spec.names, moved.astype(np.float64))


def _by(rows: Table, key: Any, name: str) -> list[dict[str, Any]]:
    """nMAE of each forecaster on the daylight rows of each value of `key`."""
    result = []
    for value in np.unique(key[rows.daylight]):
        some = rows.where(rows.daylight & (key == value))
        entry: dict[str, Any] = {name: int(value)}
        entry |= {one: {"nmae": metrics.nmae(some.target, track.median)} for one, track in some.tracks.items()}
        result.append(entry)
    return result
