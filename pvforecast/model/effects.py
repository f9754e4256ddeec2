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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pvforecast.features import Features
from pvforecast.known import Floats
from pvforecast.model import columns

if TYPE_CHECKING:
    from pvforecast.dataset import Rows

USUAL = (0.12, 0.10, 0.08)
"""Standard deviations of a, b and c between parks, before any were compared."""
_USUAL_PARKS = 3.0  # the usual spread says as much as so many parks
_LASTING = 2.0  # days that follow each other err alike: two say as much as one
_MIN_NOISE = 1e-4  # of capacity squared
_SETTLED = 0.02  # standard error of a, below which what is left is in the calibration
_LEAST, _MOST = 0.3, 2.0  # of the factor
_REACH = 1.25  # of t

ParkIds = npt.NDArray[np.object_] | Sequence[str]


@dataclass(frozen=True)
class Effect:
    """One park's coefficients: mean, shape [3], and covariance, shape [3, 3]; zero where they are known well."""

    mean: Floats
    covariance: Floats


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

    def applied(self, quantiles: Floats, features: Features, names: Sequence[str], park_id: ParkIds) -> Floats:
        """Forecasts of the average park at the level of each row's own, within [0, 1]. Shape [n, levels]."""
        return np.clip(quantiles * self.factor(features, names, park_id)[:, None], 0.0, 1.0)

    def factor(self, features: Features, names: Sequence[str], park_id: ParkIds) -> Floats:
        """What to multiply a forecast by; 1 for parks that nobody learned from. Shape [n]."""
        shape = terms(features, names)
        result = np.ones(len(shape))
        for park, own in _each(park_id):
            if park in self.parks:
                result[own] = np.clip(1.0 + shape[own] @ self.parks[park].mean, _LEAST, _MOST)
        return result

    def deviation(self, features: Features, names: Sequence[str], park_id: ParkIds) -> Floats:
        """Standard error of that factor; 0 of parks that are known well. Shape [n]."""
        shape = terms(features, names)
        result = np.zeros(len(shape))
        for park, own in _each(park_id):
            covariance = self.parks[park].covariance if park in self.parks else self.spread
            if covariance.any():
                result[own] = np.sqrt(((shape[own] @ covariance) * shape[own]).sum(axis=1))
        return result

    def with_average(self, park_id: ParkIds) -> Effects:
        """These, and the fleet's average for parks among `park_id` that had nothing to measure by."""
        average = Effect(np.zeros(len(USUAL)), np.zeros((len(USUAL), len(USUAL))))
        return Effects(
            {str(park): average for park in np.unique(np.asarray(park_id, str))} | dict(self.parks), self.spread
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `bundle.json`."""
        parks = {
            park: {"mean": one.mean.tolist(), "covariance": one.covariance.tolist() if one.covariance.any() else None}
            for park, one in self.parks.items()
        }
        return {"spread": self.spread.tolist(), "parks": parks}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Effects:
        """The inverse of `as_dict`."""
        nothing = np.zeros((len(USUAL), len(USUAL)))
        parks = {
            park: Effect(
                np.array(one["mean"], float),
                nothing if one["covariance"] is None else np.array(one["covariance"], float),
            )
            for park, one in values["parks"].items()
        }
        return cls(parks, np.array(values["spread"], float))


def widened(quantiles: Floats, levels: tuple[float, ...], deviation: Floats) -> Floats:
    """Quantiles whose error has that of the park's level in it: distances from the median add in squares.

    Parameters
    ----------
    quantiles : ascending, shape [n, levels]. deviation : of `Effects.deviation`, shape [n].
    """
    if not deviation.any():
        return quantiles
    middle = int(np.argmin(np.abs(np.asarray(levels) - 0.5)))
    median = quantiles[:, [middle]]
    normal = np.array([NormalDist().inv_cdf(level) for level in levels])
    own, others = quantiles - median, normal * deviation[:, None] * median
    moved = median + np.sign(normal) * np.hypot(own, others)
    return np.where(deviation[:, None] > 0.0, np.clip(np.sort(moved, axis=1), 0.0, 1.0), quantiles)


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
    shape = terms(rows.features, rows.spec.names)
    usual: Floats = np.diag(np.square(USUAL))
    spread = usual
    if apart is not None:
        asked = ~np.isnan(apart)
        own = rows.where(asked)
        found = _coefficients(own, shape[asked] * apart[asked, None], (target - apart)[asked], usual)
        second: list[Floats] = [np.outer(one.mean, one.mean) + one.covariance for one in found.values()]
        spread = np.asarray(sum(second, _USUAL_PARKS * usual) / (_USUAL_PARKS + len(second)), np.float64)
    x = shape * forecast[:, None]
    common = np.linalg.lstsq(x, target - forecast, rcond=None)[0]  # what is wrong with all is no park's own
    parks = _coefficients(rows, x, target - forecast - x @ common, spread)
    return Effects({park: _settled(one) for park, one in parks.items()}, _round(spread))


def _coefficients(rows: Rows, x: Floats, error: Floats, spread: Floats) -> dict[str, Effect]:
    """Each park's coefficients, given the covariance between parks. `x`: shape [n, 3]."""
    parks, park = np.unique(rows.park_id.astype(str), return_inverse=True)
    of_park = [np.flatnonzero(park == at) for at in range(len(parks))]
    _, park_day = np.unique([park, rows.valid_at.astype("datetime64[D]").astype(np.int64)], axis=1, return_inverse=True)
    left = error
    result: dict[str, Effect] = {}
    for _ in range(2):  # the noise is that of the days once the parks' own coefficients are out
        sums = np.bincount(park_day, weights=x[:, 0] * left)
        noise = max(_LASTING * float(sums @ sums) / max(float(x[:, 0] @ x[:, 0]), 1e-12), _MIN_NOISE)
        left = error.copy()
        for name, own in zip(parks, of_park, strict=True):
            precision = np.linalg.inv(spread) + x[own].T @ x[own] / noise
            covariance = np.linalg.inv(precision)
            mean = covariance @ (x[own].T @ error[own]) / noise
            result[str(name)] = Effect(_round(mean), _round(covariance))
            left[own] = error[own] - x[own] @ mean
    return result


def _settled(effect: Effect) -> Effect:
    known_well = np.sqrt(effect.covariance[0, 0]) < _SETTLED
    return Effect(effect.mean, np.zeros_like(effect.covariance)) if known_well else effect


def _each(park_id: ParkIds) -> Iterable[tuple[str, npt.NDArray[np.int64]]]:
    parks, number = np.unique(np.asarray(park_id, dtype=str), return_inverse=True)
    return [(str(park), np.flatnonzero(number == at)) for at, park in enumerate(parks)]


def _round(values: npt.NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(np.round(values, 9) + 0.0, np.float64)  # no minus zero
