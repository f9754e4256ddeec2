"""What a park gives beyond what its facts tell, and how sure that is: random effects on a common model.

Two parks with equal facts differ: modules aged and soiled otherwise, strings and inverters sized otherwise, horizon,
an azimuth that is not quite the stated one. A common model forecasts what parks give on average. Here each park's
power is the forecast times 1 + a + b t + c t², where t runs from -1 (solar time 6 h) over 0 (solar noon) to 1 (18 h).

The coefficients of a park are a Bayesian linear regression on forecasts of days that the model had not seen, with the
fleet as the prior: a park of many days is what its days say, one of a few days leans on the fleet, and one that nobody
learned from is the fleet's average, with the fleet's spread as its error (an empirical-Bayes mixed model, after Laird
and Ware 1982, Biometrics 38). How far parks stand apart is measured by leaving parks out; few parks lean on `USUAL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pvforecast.features import Features
from pvforecast.known import Floats
from pvforecast.model import columns

if TYPE_CHECKING:
    from pvforecast.dataset import Rows

USUAL = (0.12, 0.10, 0.08)
"""Standard deviations of a, b and c between parks, before any were compared."""
_OTHERS = 2.0 / 3.0  # of the parks: those that a model had seen which is asked about the rest
_USUAL_PARKS = 3.0  # the usual spread says as much as so many parks
_LASTING = 2.0  # days that follow each other err alike: two say as much as one
_MIN_NOISE = 1e-4  # of capacity squared
_OUTAGE, _FAR = 0.5, 5.0  # of what the park is wont to give, missing; and in robust standard deviations
_WORKING = -0.9  # more of the forecast missing, and the park gave nothing that day
_SATURATED = 0.95  # of capacity: beyond, the inverter's limit hides what the modules give
_LEAST, _MOST = 0.3, 2.0  # of the factor
_REACH = 1.25  # of t
_HOUR, _DAY = 3_600, 86_400

ParkIds = npt.NDArray[np.object_] | Sequence[str]


@dataclass(frozen=True)
class Effect:
    """One park's coefficients: mean, shape [3], and covariance, shape [3, 3]."""

    mean: Floats
    covariance: Floats


class Levels(NamedTuple):
    """What to multiply each row's forecast by, and the standard error of that as a fraction of it. Shape [n] each."""

    factor: Floats
    deviation: Floats

    def applied(self, quantiles: Floats) -> Floats:
        """Forecasts of the average park at the level of each row's own, within [0, 1]. Shape [n, levels]."""
        return np.clip(quantiles * self.factor[:, None], 0.0, 1.0)

    def widened(self, quantiles: Floats, levels: tuple[float, ...]) -> Floats:
        """Ascending quantiles with the factor's error in theirs: distances from the median add in squares."""
        middle = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
        median = quantiles[:, [middle]]
        normal = np.array([NormalDist().inv_cdf(level) for level in levels])
        own, others = quantiles - median, normal * self.deviation[:, None] * median
        moved = median + np.sign(normal) * np.hypot(own, others)
        return np.asarray(np.clip(np.sort(moved, axis=1), 0.0, 1.0), np.float64)


@dataclass(frozen=True)
class Effects:
    """The coefficients of all parks.

    Attributes
    ----------
    parks : by park id, those that were learned from.
    spread : covariance between parks, shape [3, 3]: how wrong the average is about a park that nobody learned from.
    """

    parks: Mapping[str, Effect]
    spread: Floats

    def levels(self, features: Features, names: Sequence[str], park_id: ParkIds) -> Levels:
        """Of each row; a park that nobody learned from is the average with the spread of all."""
        shape = terms(features, names)
        factor, variance = np.ones(len(shape)), np.zeros(len(shape))
        average = Effect(np.zeros(len(USUAL)), self.spread)
        parks, number = np.unique(np.asarray(park_id, dtype=str), return_inverse=True)
        for at, park in enumerate(parks):
            own, effect = np.flatnonzero(number == at), self.parks.get(str(park), average)
            factor[own] = np.clip(1.0 + shape[own] @ effect.mean, _LEAST, _MOST)
            variance[own] = ((shape[own] @ effect.covariance) * shape[own]).sum(axis=1)
        return Levels(factor, np.sqrt(np.maximum(variance, 0.0)) / factor)

    def with_average(self, park_id: ParkIds) -> Effects:
        """These, and the average for parks among `park_id` that had nothing to measure by."""
        average = Effect(np.zeros(len(USUAL)), self.spread)
        return Effects(
            {str(park): average for park in np.unique(np.asarray(park_id, str))} | dict(self.parks), self.spread
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `bundle.json`."""
        parks = {
            park: {"mean": one.mean.tolist(), "covariance": one.covariance.tolist()} for park, one in self.parks.items()
        }
        return {"spread": self.spread.tolist(), "parks": parks}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Effects:
        """The inverse of `as_dict`."""
        nothing = np.zeros((len(USUAL), len(USUAL)))  # older bundles say so of parks that were known well
        parks = {
            park: Effect(np.array(one["mean"], float), np.array(one["covariance"] or nothing, float))
            for park, one in values["parks"].items()
        }
        return cls(parks, np.array(values["spread"], float))


def terms(features: Features, names: Sequence[str]) -> Floats:
    """1, t and t² of each row, from its solar time. Shape [n, 3]."""
    sine, cosine = (columns.column(features, names, f"solar_time_{part}").astype(np.float64) for part in ("sin", "cos"))
    angle = np.arctan2(-sine, -cosine)  # 0 at solar noon
    t = np.clip(np.nan_to_num(angle / (np.pi / 2)), -_REACH, _REACH)
    return np.stack([np.ones(len(t)), t, t * t], axis=1)


def fit(rows: Rows, target: Floats, forecast: Floats, apart: Floats | None = None) -> Effects:
    """From forecasts of days that were not seen.

    Parameters
    ----------
    target : fraction of capacity, shape [n].
    forecast : mean of each row's forecast by a model that has seen its park on other days, shape [n].
    apart : the same by models that have not seen its park at all, NaN where there is none; None: of no park.
    """
    count = len(np.unique(rows.park_id.astype(str)))
    usual: Floats = np.diag(np.square(USUAL))
    spread = usual
    if apart is not None:
        asked = ~np.isnan(apart)
        others = 1.0 + 1.0 / max(1.0, count * _OTHERS)  # the average of few parks is itself a draw
        found = _coefficients(rows.where(asked), target[asked], apart[asked], others * usual, relative=False)
        second: list[Floats] = [(np.outer(one.mean, one.mean) + one.covariance) / others for one in found.values()]
        spread = np.asarray(sum(second, _USUAL_PARKS * usual) / (_USUAL_PARKS + len(second)), np.float64)
    own = _coefficients(rows, target, forecast, (1.0 - 1.0 / count) * spread, relative=True)
    return Effects(own, _round((1.0 + 1.0 / count) * spread))


def shares(
    own: Levels, of_new: Levels, quantiles: Floats, levels: tuple[float, ...], park_id: ParkIds
) -> tuple[dict[str, float], float]:
    """How much of the variance of the errors of each park's power is its level's; and of a new park's. 0 to 1.

    Parameters
    ----------
    own, of_new : of each row, shape [n]; of its own park, and as if nobody had learned from that.
    quantiles : with the error of the own level in them, shape [n, levels].
    """
    if len(levels) < 2:
        return {str(park): 0.0 for park in np.unique(np.asarray(park_id, dtype=str))}, 0.0
    normal = NormalDist()
    widths = (quantiles[:, -1] - quantiles[:, 0]) / (normal.inv_cdf(levels[-1]) - normal.inv_cdf(levels[0]))
    median = quantiles[:, int(np.argmin(np.abs(np.asarray(levels) - 0.5)))]
    of_own, new, whole = (own.deviation * median) ** 2, (of_new.deviation * median) ** 2, widths**2
    parks, park = np.unique(np.asarray(park_id, dtype=str), return_inverse=True)
    own_sum, whole_sum = (np.bincount(park, values) for values in (of_own, whole))
    found = {str(name): _share(a, b) for name, a, b in zip(parks, own_sum, whole_sum, strict=True)}
    return found, _share(float(new.sum()), float(np.maximum(whole - of_own, 0.0).sum() + new.sum()))


def _share(part: float, whole: float) -> float:
    return round(float(min(part / max(whole, 1e-12), 1.0)), 3)


def _coefficients(rows: Rows, target: Floats, forecast: Floats, spread: Floats, *, relative: bool) -> dict[str, Effect]:
    """Each park's coefficients, given their covariance before; `relative`: to what is wrong with all."""
    parks, park = np.unique(rows.park_id.astype(str), return_inverse=True)
    of_park = [np.flatnonzero(park == at) for at in range(len(parks))]
    day = _days(rows, park, forecast)
    park_of_day = np.zeros(int(day.max()) + 1, np.int64)
    park_of_day[day] = park
    weight = _weights(rows, park) * (forecast < _SATURATED)
    x, error = terms(rows.features, rows.spec.names) * forecast[:, None], target - forecast
    size, sums = (np.bincount(day, weight * x[:, 0] * y).astype(np.float64) for y in (x[:, 0], error))
    weight = weight * _usable(sums, size, park_of_day)[day]
    root = np.sqrt(weight)
    common = np.linalg.lstsq(x * root[:, None], error * root, rcond=None)[0] if relative else np.zeros(len(USUAL))
    beyond = error - x @ common
    left, result = beyond.copy(), dict[str, Effect]()
    for _ in range(2):  # the noise is that of the days once the parks' own coefficients are out
        sums = np.bincount(day, weight * x[:, 0] * left).astype(np.float64)
        noise = max(_LASTING * float(sums @ sums) / max(float(weight @ x[:, 0] ** 2), 1e-12), _MIN_NOISE)
        for name, own in zip(parks, of_park, strict=True):
            weighted = x[own].T * weight[own]
            # Of one park, which is the average itself, nothing is unknown: no inverse of `spread`.
            covariance = np.linalg.solve(np.eye(len(USUAL)) + spread @ (weighted @ x[own]) / noise, spread)
            mean = covariance @ (weighted @ beyond[own]) / noise
            result[str(name)] = Effect(_round(mean), _round(covariance))
            left[own] = beyond[own] - x[own] @ mean
    return result


def _usable(sums: Floats, size: Floats, park: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """All days but those on which a park gave far less than it is wont to: an unflagged outage is no level."""
    lit = size > 0.0
    level = sums / np.where(lit, size, 1.0)
    working = lit & (level > _WORKING)
    of_park = [park == at for at in range(int(park.max()) + 1)]
    usual = np.array([_median(level[own & (working if (own & working).any() else lit)]) for own in of_park])
    below = np.where(lit, (usual[park] - level) / np.maximum(1.0 + usual[park], 1.0 + _WORKING), 0.0)
    off = np.abs(below) * np.sqrt(size)
    sound = lit & (below < _OUTAGE)
    wont = np.array([_median(off[own & sound]) for own in of_park])
    deviation = 1.4826 * np.maximum(wont, _median(off[sound]))[park]
    return np.asarray(sound | (off <= _FAR * deviation), np.bool_)


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _weights(rows: Rows, park: npt.NDArray[np.int64]) -> Floats:
    """So that an hour of a park says as much in quarters, or forecast at several leads, as it does once. Shape [n]."""
    hour = rows.valid_at.astype("datetime64[s]").astype(np.int64) // _HOUR
    _, number, count = np.unique(np.stack([park, hour]), axis=1, return_inverse=True, return_counts=True)
    return 1.0 / count[number.ravel()]


def _days(rows: Rows, park: npt.NDArray[np.int64], forecast: Floats) -> npt.NDArray[np.int64]:
    """The number of each row's day: from night to night where the park stands, not from midnight UTC. Shape [n]."""
    second = rows.valid_at.astype("datetime64[s]").astype(np.int64)
    turned = np.exp(2j * np.pi * (second % _DAY) / _DAY) * forecast
    middle = np.bincount(park, turned.real) + 1j * np.bincount(park, turned.imag)
    noon = np.angle(middle) / (2 * np.pi) * _DAY  # of the power that is forecast
    day = np.round((second - noon[park]) / _DAY).astype(np.int64)
    _, number = np.unique(np.stack([park, day]), axis=1, return_inverse=True)
    return np.asarray(number.ravel(), np.int64)


def _round(values: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(np.round(values, 9) + 0.0, np.float64)  # no minus zero
