"""Scenarios: the power of all parks in all hours, drawn together; and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from pvforecast.errors import InvalidInput
from pvforecast.portfolio.dependence import Dependence
from pvforecast.portfolio.marginals import nodes, power_at

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]

MAX_VALUES = 100_000_000
"""Scenarios × parks × hours: 400 MB an array."""


@dataclass(frozen=True)
class Member:
    """The forecast of one park of a portfolio.

    Attributes
    ----------
    power_kw : shape [hours, levels], kW, ascending along the last axis.
    ceiling_kw : shape [hours] or one number: the most the park can deliver, kW.
    latitude, longitude : degrees; needed where the park was not in the training.
    """

    park_id: str
    power_kw: Floats
    ceiling_kw: Floats | float
    latitude: float | None = None
    longitude: float | None = None


def scenarios(
    members: Sequence[Member],
    levels: tuple[float, ...],
    valid_at: Times,
    dependence: Dependence,
    n: int = 1_000,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """Draw `n` joint courses of all parks.

    The scores of one park and hour over the scenarios are put on a regular grid of probabilities, in the order in
    which they were drawn (Schefzik et al. 2013, Statist. Sci. 28: ensemble copula coupling): each park's quantiles
    come out as they went in, whatever `n`.

    Parameters
    ----------
    levels : of the columns of every member's `power_kw`.
    valid_at : shape [hours], UTC starts of the intervals, the same for all parks.
    n : how many scenarios, two at least.
    seed : equal seeds give equal scenarios.

    Returns
    -------
    kW, float32, shape [n, parks, hours].

    Raises
    ------
    InvalidInput
        no parks, a park twice, shapes that do not fit, power that is not a number, or more than `MAX_VALUES`.
    """
    _check(members, valid_at, n)
    hours = (valid_at - valid_at[0]).astype("timedelta64[s]").astype(np.float64) / 3_600.0
    places = [(one.park_id, one.latitude, one.longitude) for one in members]
    generator = np.random.default_rng(seed)
    drawn = np.zeros((len(members), len(hours), n), np.float32)  # scenarios last: sorted and multiplied in one piece
    for deviation, between, in_time in dependence.factors(places, hours):
        noise = in_time.astype(np.float32) @ generator.standard_normal(drawn.shape, np.float32)
        between32 = np.float32(deviation) * between.astype(np.float32)
        drawn += (between32 @ noise.reshape(len(members), -1)).reshape(drawn.shape)
    own = dependence.levels(places).astype(np.float32)[:, np.newaxis, np.newaxis]
    if own.any():
        drawn *= np.sqrt(1.0 - own)
        drawn += np.sqrt(own) * generator.standard_normal((len(members), 1, n), np.float32)
    grid = ndtri((np.arange(n) + 0.5) / n)
    for mine, one in zip(drawn, members, strict=True):
        score, corners = nodes(one.power_kw, levels, one.ceiling_kw)
        np.put_along_axis(mine, np.argsort(mine, axis=1), power_at(score, corners, grid).T.astype(np.float32), axis=1)
    return drawn.transpose(2, 0, 1)


def aggregate(drawn: npt.NDArray[np.float32], levels: Sequence[float]) -> Floats:
    """Quantiles of the sum over all parks. kW, shape [hours, levels]."""
    total = drawn.sum(axis=1, dtype=np.float64)
    result: Floats = np.quantile(total, list(levels), axis=0).T
    return result


def energy(drawn: npt.NDArray[np.float32], levels: Sequence[float], interval_hours: float = 1.0) -> Floats:
    """Quantiles of the energy of all parks over all hours. kWh, shape [levels]."""
    total = drawn.sum(axis=(1, 2), dtype=np.float64) * interval_hours
    result: Floats = np.quantile(total, list(levels))
    return result


def _check(members: Sequence[Member], valid_at: Times, n: int) -> None:
    if not members or len(valid_at) == 0:
        raise InvalidInput("no parks or no hours", field="parks", hint="name one park and one hour at least")
    ids = [one.park_id for one in members]
    twice = sorted({park for park in ids if ids.count(park) > 1})
    if twice:
        raise InvalidInput(f"{twice[0]!r} is there twice", field="parks", hint="name each park once")
    if n < 2 or n * len(members) * len(valid_at) > MAX_VALUES:
        raise InvalidInput(
            f"{n} scenarios of {len(members)} parks and {len(valid_at)} hours",
            field="n",
            hint=f"two at least, and at most {MAX_VALUES:,} values in all",
        )
    for one in members:
        if one.power_kw.ndim != 2 or len(one.power_kw) != len(valid_at):
            shape = f"shape {one.power_kw.shape} for {len(valid_at)} hours"
            raise InvalidInput(shape, field=one.park_id, hint="one row of quantiles for each hour")
        if not np.isfinite(one.power_kw).all():
            raise InvalidInput("a quantile is not a number", field=one.park_id, hint="leave the park or the hours out")
