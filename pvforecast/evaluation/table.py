"""Forecasts boiled down to what scores need: a few numbers a row and forecaster, however many levels there were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pvforecast.evaluation import imbalance, metrics
from pvforecast.evaluation.imbalance import Prices
from pvforecast.evaluation.references import POINTS
from pvforecast.evaluation.rolling import MODEL, ParkForecasts
from pvforecast.known import Floats, Times, Words

LEAD_BINS = ((0.0, 6.0, "1-6"), (6.0, 24.0, "7-24"), (24.0, 48.0, "25-48"), (48.0, np.inf, "beyond 48"))
"""Leads by the end of the hour: "1-6" are the hours that end one to six hours after the issue."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Track:
    """One forecaster's rows, missing forecasts filled in as `metrics.penalised` says. Arrays of shape [n].

    Attributes
    ----------
    low, high : band edges by nominal coverage, shape [n, len(metrics.BANDS)]; NaN for point forecasts.
    cost : of imbalance, currency; NaN where there is no price.
    """

    median: Floats
    mean: Floats
    pinball: Floats
    crps: Floats
    low: Floats
    high: Floats
    cost: Floats
    missing: Bools

    @property
    def is_point(self) -> bool:
        return bool(np.isnan(self.low).all())


@dataclass(frozen=True)
class Table:
    """Scored rows: every issue and interval that was metered. Arrays of shape [n].

    Attributes
    ----------
    day : solar date of the interval, by which rows are resampled.
    below, reached : [n, levels], metered < and <= the model's quantile.
    """

    park_id: npt.NDArray[np.object_]
    issued_at: Times
    valid_at: Times
    day: npt.NDArray[np.datetime64]
    lead: Floats
    hour: npt.NDArray[np.int64]
    capacity_kw: Floats
    interval_hours: Floats
    target: Floats
    daylight: Bools
    clear: Floats
    weather: Bools
    flags: Words
    below: Bools
    reached: Bools
    levels: tuple[float, ...]
    tracks: Mapping[str, Track]

    def __len__(self) -> int:
        return len(self.target)

    def where(self, mask: Bools) -> Table:
        """The rows at which `mask` is true."""
        arrays = {name: getattr(self, name)[mask] for name in _ROWS}
        return Table(**arrays, levels=self.levels, tracks={n: _masked(t, mask) for n, t in self.tracks.items()})

    @property
    def model(self) -> Track:
        return self.tracks[MODEL]


_ROWS = tuple(field.name for field in fields(Table) if field.name not in ("levels", "tracks"))
_TRACK = tuple(field.name for field in fields(Track))


def of_forecasts(forecast: ParkForecasts, prices: Prices | None = None) -> Table:
    """The metered rows of one park."""
    metered = ~np.isnan(forecast.target)
    target = forecast.target[metered]
    solar = forecast.valid_at[metered] + np.timedelta64(round(forecast.longitude * 240.0), "s")
    daylight = forecast.daylight[metered]
    tracks = {}
    for name, quantiles in forecast.quantiles.items():
        tracks[name] = _track(forecast, metered, target, daylight, quantiles[metered], name in POINTS, prices)
    filled, _ = metrics.penalised(target, forecast.quantiles[MODEL][metered].astype(np.float64), daylight)
    return Table(
        np.full(int(metered.sum()), forecast.park_id, dtype=object),
        forecast.issued_at[metered],
        forecast.valid_at[metered],
        solar.astype("datetime64[D]"),
        forecast.lead_hours[metered],
        ((solar - solar.astype("datetime64[D]")) // np.timedelta64(3600, "s")).astype(np.int64),
        forecast.capacity_kw[metered],
        np.full(len(target), forecast.interval_hours),
        target,
        daylight,
        forecast.clear[metered],
        forecast.weather[metered],
        forecast.flags[metered],
        target[:, None] < filled,
        target[:, None] <= filled,
        forecast.levels,
        tracks,
    )


def concat(parts: Sequence[Table]) -> Table:
    """Rows of several parks under one set of levels."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS}
    tracks = {
        name: Track(**{f: np.concatenate([getattr(part.tracks[name], f) for part in parts]) for f in _TRACK})
        for name in parts[0].tracks
    }
    return Table(**arrays, levels=parts[0].levels, tracks=tracks)


def _track(
    forecast: ParkForecasts,
    metered: Bools,
    target: Floats,
    daylight: Bools,
    quantiles: npt.NDArray[np.float32],
    point: bool,
    prices: Prices | None,
) -> Track:
    levels = forecast.levels
    filled, missing = metrics.penalised(target, quantiles.astype(np.float64), daylight)
    nothing = np.full((len(target), len(metrics.BANDS)), np.nan)
    edges = [None if point else metrics.band(filled, levels, nominal) for nominal in metrics.BANDS]
    low, high = nothing.copy(), nothing.copy()
    for at, edge in enumerate(edges):
        if edge is not None:
            low[:, at], high[:, at] = edge
    cost = np.full(len(target), np.nan)
    if prices is not None:
        capacity = forecast.capacity_kw[metered] / 1000.0 * forecast.interval_hours
        bid = imbalance.bids(filled, levels, prices.best_level(forecast.issued_at[metered]))
        cost = imbalance.costs(bid * capacity, target * capacity, *prices.at(forecast.valid_at[metered]))
    return Track(
        metrics.at_level(filled, levels, 0.5),
        metrics.mean(filled, levels),
        metrics.pinball(target, filled, levels),
        metrics.crps_rows(target, filled, levels),
        low,
        high,
        cost,
        missing,
    )


def _masked(track: Track, mask: Bools) -> Track:
    return Track(**{name: getattr(track, name)[mask] for name in _TRACK})
