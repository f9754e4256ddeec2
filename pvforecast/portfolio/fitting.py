"""Learns how the errors of a fleet go together, from forecasts that were made without their truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import ndtri

from pvforecast.errors import InvalidInput
from pvforecast.portfolio.dependence import Dependence, Layer, distances_km, falloff
from pvforecast.portfolio.marginals import nodes, score_of

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
Texts = npt.NDArray[np.object_]

MIN_DAYS = 20
"""Fewer days of forecasts say nothing about correlation: the prior stands."""
_LAGS = (0, 1, 2, 3, 4, 6, 8, 12, 18, 24, 30)
_FLAT = 0.005  # narrower forecasts than this fraction of capacity say nothing of the error's rank
_AT_ONCE = 100_000  # rows; memory
_MAX_DAYS = 1_000  # the newest ones; memory
_MAX_PARKS_IN_TIME = 150  # a sample of the fleet is enough for how correlation falls off
_SHRINK_DAYS = 60.0  # a pair seen for this many days is believed by half
_BINS_KM = np.array([0.0, 5.0, 10.0, 20.0, 40.0, 70.0, 110.0, 160.0, 230.0, 320.0, 450.0, 650.0, 1_000.0, 2_000.0])
_DIGITS = 3  # of the fitted numbers: below, they depend on the machine

# By layer, slow to fast: hours, nearness, kilometres. Apart in hours, so that no two layers become one.
_LOW = np.array([20.0, 0.0, 30.0, 2.5, 0.0, 10.0, 0.05, 0.0, 2.0])
_HIGH = np.array([200.0, 1.0, 2_000.0, 14.0, 1.0, 1_000.0, 2.0, 1.0, 300.0])
_SPREAD = np.array([60.0, 0.4, 400.0, 4.0, 0.4, 150.0, 1.0, 0.4, 60.0])  # how far a fleet may lie from the prior
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Forecasts:
    """Out-of-fold forecasts with what was metered; all arrays share their first axis.

    Attributes
    ----------
    target : metered power as a fraction of capacity, NaN where not metered.
    quantiles : shape [n, levels], fraction of capacity, ascending along the last axis.
    """

    park_id: Texts
    issued_at: Times
    valid_at: Times
    target: Floats
    quantiles: Floats
    levels: tuple[float, ...]


def fit(forecasts: Forecasts, places: Mapping[str, tuple[float, float]]) -> Dependence:
    """Fit the layers by least squares to the correlations by time difference and distance.

    Each park's scores are ranked first, so that its own bias and a band that is too wide or too narrow do not count.

    Parameters
    ----------
    places : park id -> latitude, longitude in degrees, of every park in `forecasts`.

    Returns
    -------
    The dependence; `Dependence.prior()` with the parks known where there are fewer than `MIN_DAYS` days.

    Raises
    ------
    InvalidInput
        a park has no place, or levels and quantiles do not fit each other.
    """
    parks = tuple(sorted({str(park) for park in forecasts.park_id}))
    missing = [park for park in parks if park not in places]
    if missing:
        raise InvalidInput(f"no coordinates of {missing[0]!r}", field="places", hint="give each park's")
    latitude, longitude = (np.array([places[park][axis] for park in parks], np.float64) for axis in (0, 1))
    scores = _grid(forecasts, parks)
    days = int((~np.isnan(scores)).any(axis=(0, 2)).sum())
    prior = Dependence.prior()
    if days < MIN_DAYS:
        return replace(prior, parks=parks, latitude=latitude, longitude=longitude, seen=_zeros(parks), days=days)
    kilometres = distances_km(latitude, longitude)
    layers = _layers(scores, kilometres, prior)
    expected = sum((layer.share * falloff(layer, kilometres) for layer in layers), _zeros(parks))
    return Dependence(layers, parks, latitude, longitude, _seen(scores, expected), days)


def _grid(forecasts: Forecasts, parks: tuple[str, ...]) -> Floats:
    """Ranked normal scores by park, day of issue (UTC) and hours since that day began. Shape [parks, days, hours].

    Where a park was forecast more than once on a day, an hour keeps the newest forecast.
    """
    value = _scores(forecasts)
    usable = ~np.isnan(value)
    order = np.flatnonzero(usable)[np.argsort(forecasts.issued_at[usable], kind="stable")]
    day, of_day = np.unique(forecasts.issued_at[order].astype("datetime64[D]"), return_inverse=True)
    order, of_day = order[of_day >= len(day) - _MAX_DAYS], of_day[of_day >= len(day) - _MAX_DAYS]
    begin = forecasts.issued_at[order].astype("datetime64[D]").astype("datetime64[s]")
    since = (forecasts.valid_at[order] - begin).astype("timedelta64[s]").astype(np.int64)
    hour = since // 3_600  # quarter hours of one hour share a cell; the last one counts
    of_day = of_day - of_day.min(initial=0)
    park = np.searchsorted(np.array(parks), forecasts.park_id[order].astype(str))
    grid = np.full((len(parks), of_day.max(initial=-1) + 1, hour.max(initial=-1) + 1), np.nan)
    grid[park, of_day, hour] = value[order]
    for own in grid:
        known = ~np.isnan(own)
        own[known] = ndtri((_ranks(own[known]) - 0.5) / max(known.sum(), 1))
    return grid


def _ranks(values: Floats) -> Floats:
    """From 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    result: Floats = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return result


def _scores(forecasts: Forecasts) -> Floats:
    """The normal score of each target in its forecast; NaN where not metered, or the forecast has no width."""
    found = []
    for begin in range(0, len(forecasts.target), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        score, corners = nodes(forecasts.quantiles[rows], forecasts.levels, 1.0)
        value = score_of(np.clip(forecasts.target[rows], 0.0, 1.0), score, corners)
        found.append(np.where(corners[:, -1] - corners[:, 0] > _FLAT, value, np.nan))
    return np.concatenate(found) if found else np.zeros(0)


def _layers(scores: Floats, kilometres: Floats, prior: Dependence) -> tuple[Layer, ...]:
    """Shares and shapes, by least squares over classes of time difference and distance, held by the prior."""
    lag, distance, correlation, weight = _classes(scores, kilometres)
    confidence, count = np.sqrt(weight), len(prior.layers)
    shapes = [number for one in prior.layers for number in (one.hours, one.near, one.kilometres)]
    start = np.array([*(one.share for one in prior.layers[:-1]), *shapes])
    spread = np.array([*[0.3] * (count - 1), *_SPREAD])

    def misfit(x: Floats) -> Floats:
        expected = np.zeros(len(lag))
        for one in _unpacked(x, count):
            between = one.near * np.exp(-np.maximum(distance, 0.0) / one.kilometres)
            expected += one.share * np.exp(-lag / one.hours) * np.where(distance < 0, 1.0, between)
        result: Floats = np.append(confidence * (correlation - expected), 0.03 * (x - start) / spread)
        return result

    shares = [_LEAST_SHARE] * (count - 1), [1.0 - _LEAST_SHARE] * (count - 1)
    bounds = np.append(shares[0], _LOW), np.append(shares[1], _HIGH)
    found = least_squares(misfit, start, bounds=bounds, x_scale=spread).x
    return _unpacked(np.array([float(f"{round(value, 4):.{_DIGITS}g}") for value in found]), count)


def _unpacked(x: Floats, count: int) -> tuple[Layer, ...]:
    """Shares of all layers but the last stand first; the last has what they leave, and a little in any case."""
    left = max(1.0 - float(x[: count - 1].sum()), _LEAST_SHARE)
    shares = np.append(x[: count - 1], left) / (x[: count - 1].sum() + left)
    shapes = x[count - 1 :].reshape(count, 3)
    return tuple(
        Layer(float(share), *(float(number) for number in shape)) for share, shape in zip(shares, shapes, strict=True)
    )


def _classes(scores: Floats, kilometres: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean correlation by time difference and distance: (hours, km or -1 for a park with itself, mean, weight)."""
    step = max(1, -(-len(scores) // _MAX_PARKS_IN_TIME))
    scores, kilometres = scores[::step], kilometres[::step, ::step]
    values, known = np.nan_to_num(scores), (~np.isnan(scores)).astype(np.float64)
    bins = np.digitize(kilometres, _BINS_KM)
    np.fill_diagonal(bins, 0)
    rows = []
    for lag in [lag for lag in _LAGS if lag < scores.shape[2]]:
        length = scores.shape[2] - lag
        products, counts = (
            np.tensordot(array[:, :, :length], array[:, :, lag:], axes=([1, 2], [1, 2])) for array in (values, known)
        )
        for number in np.unique(bins):
            inside = bins == number
            count = float(counts[inside].sum())
            if count < 1:
                continue
            distance = -1.0 if number == 0 else float((kilometres * counts)[inside].sum() / count)
            # Hours of one day and neighbouring pairs repeat each other: weight grows slower than the count.
            rows.append((float(lag), distance, float(products[inside].sum() / count), count**0.5))
    lags, distances, correlations, weights = np.array(rows, np.float64).T
    scale = np.where(distances < 0, 1.0, 2.0)  # between parks is what an aggregate lives on
    return lags, distances, correlations, scale * weights / weights.max()


def _seen(scores: Floats, expected: Floats) -> Floats:
    """What each pair's correlation in the same hour is beyond `expected`, shrunk by how many days it was seen."""
    flat = scores.reshape(len(scores), -1)
    values: Floats = np.where(np.isnan(flat), 0.0, flat)
    known: Floats = (~np.isnan(flat)).astype(np.float64)
    squares: Floats = np.dot(values**2, known.T)  # of each row's park, in the hours it shares with the column's
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.dot(values, values.T) / np.sqrt(squares * squares.T)
    by_day: Floats = np.asarray((~np.isnan(scores)).any(axis=2), np.float64)
    together: Floats = np.dot(by_day, by_day.T)
    belief: Floats = np.where(np.isnan(found), 0.0, together / (together + _SHRINK_DAYS))
    seen: Floats = np.round(belief * (np.nan_to_num(found) - expected), _DIGITS)
    np.fill_diagonal(seen, 0.0)
    return seen


def _zeros(parks: tuple[str, ...]) -> Floats:
    return np.zeros((len(parks), len(parks)))
