"""Scores of quantile and point forecasts, all in fractions of `ac_capacity_kw`.

Definitions: daylight = sun above the horizon at the middle of the interval; nMAE and nRMSE are divided by capacity; R²
is taken over all hours, all else over daylight. MAE is scored on the median, RMSE and R² on the predictive mean: each
functional by the loss that is consistent for it (Gneiting 2011, "Making and evaluating point forecasts", JASA 106).

Quantiles stand for a whole distribution through **cell weights**: each level carries the probability between the
midpoints to its neighbours, the outermost levels up to 0 and 1. With them

    mean = sum(w_i q_i),    CRPS = 2 sum(w_i pinball_i)

the second after CRPS = 2 ∫ pinball dτ (Gneiting & Raftery 2007, JASA 102). Both are exact for a distribution of atoms
q_i with weights w_i whose levels lie in the middle of their cells; with 99 levels 0.01 … 0.99 the CRPS of a normal
distribution is 0.1 % too high, with the seven levels 0.05 … 0.95 1.7 % too low. Further: Khosravi et al. 2011 (PICP,
width).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

Mask = npt.NDArray[np.bool_]

BANDS = (0.5, 0.8, 0.9)
"""Nominal coverages of the central intervals that are scored."""
MAPE_THRESHOLD = 0.1
"""MAPE leaves out hours that were metered below this share of capacity: divided by next to nothing, it says nothing."""
_SAME_LEVEL = 1e-9


def mae(target: Floats, forecast: Floats) -> float:
    """Mean absolute error. Arrays of shape [n], any unit; NaN when there is nothing to score."""
    return _mean(np.abs(target - forecast))


def nmae(target: Floats, forecast: Floats) -> float:
    """`mae` of fractions of capacity."""
    return mae(target, forecast)


def rmse(target: Floats, forecast: Floats) -> float:
    """Root of the mean squared error. Arrays of shape [n], any unit."""
    return float(np.sqrt(_mean((target - forecast) ** 2)))


def nrmse(target: Floats, forecast: Floats) -> float:
    """`rmse` of fractions of capacity."""
    return rmse(target, forecast)


def bias(target: Floats, forecast: Floats) -> float:
    """Mean of forecast - metered; positive = too high."""
    return _mean(forecast - target)


def mape(target: Floats, forecast: Floats, threshold: float = MAPE_THRESHOLD) -> float:
    """Mean of |forecast - metered| / metered over the hours metered at `threshold` of capacity or more."""
    high = target >= threshold
    return _mean(np.abs(forecast[high] - target[high]) / target[high])


def r2(target: Floats, forecast: Floats) -> float:
    """1 - squared error / variance of what was metered; NaN where that never varied."""
    total = float(((target - target.mean()) ** 2).sum()) if len(target) else 0.0
    return 1.0 - float(((target - forecast) ** 2).sum()) / total if total > 0 else float("nan")


def weights(levels: Sequence[float]) -> Floats:
    """The cell weight of each level; they add up to 1. Shape [levels]."""
    level = np.asarray(levels, np.float64)
    edges = np.concatenate([[0.0], (level[1:] + level[:-1]) / 2.0, [1.0]])
    result: Floats = np.diff(edges)
    return result


def mean(quantiles: Floats, levels: Sequence[float]) -> Floats:
    """The predictive mean: the integral of the quantile function, flat beyond the outermost levels. Shape [n]."""
    result: Floats = quantiles.astype(np.float64) @ weights(levels)
    return result


def at_level(quantiles: Floats, levels: Sequence[float], level: float) -> Floats:
    """The quantile of any level: the one forecast, else between its neighbours, else the outermost. Shape [n]."""
    known = np.asarray(levels, np.float64)
    near = int(np.abs(known - level).argmin())
    if abs(known[near] - level) < _SAME_LEVEL or level <= known[0] or level >= known[-1]:
        return quantiles[:, near].astype(np.float64)
    right = int(np.searchsorted(known, level))
    share = (level - known[right - 1]) / (known[right] - known[right - 1])
    result: Floats = (1.0 - share) * quantiles[:, right - 1] + share * quantiles[:, right]
    return result


def losses(target: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss of each row and level. `quantiles` has shape [n, levels]; returns the same shape."""
    error = target[:, None] - quantiles
    level = np.asarray(levels)
    result: Floats = np.maximum(level * error, (level - 1.0) * error)
    return result


def pinball(target: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Pinball loss of each row, plain mean over levels: what competitions of quantile forecasts publish. Shape [n]."""
    result: Floats = losses(target, quantiles, levels).mean(axis=1)
    return result


def crps_rows(target: Floats, quantiles: Floats, levels: Sequence[float]) -> Floats:
    """Continuous ranked probability score of each row, approximated as the module says. Shape [n].

    A point forecast, repeated over levels that lie symmetrically, scores its absolute error.
    """
    result: Floats = 2.0 * losses(target, quantiles, levels) @ weights(levels)
    return result


def crps(target: Floats, quantiles: Floats, levels: Sequence[float]) -> float:
    """Mean of `crps_rows`."""
    return _mean(crps_rows(target, quantiles, levels))


def picp(target: Floats, lower: Floats, upper: Floats) -> float:
    """Share of metered values inside [lower, upper]."""
    return _mean(((target >= lower) & (target <= upper)).astype(float))


def band(quantiles: Floats, levels: Sequence[float], nominal: float) -> tuple[Floats, Floats] | None:
    """The edges of the central interval of coverage `nominal`; None where the levels don't reach its edges."""
    low, high = (1.0 - nominal) / 2.0, (1.0 + nominal) / 2.0
    if levels[0] > low + _SAME_LEVEL or levels[-1] < high - _SAME_LEVEL:
        return None
    return at_level(quantiles, levels, low), at_level(quantiles, levels, high)


def penalised(target: Floats, quantiles: Floats, daylight: Mask) -> tuple[Floats, Mask]:
    """Fill in forecasts that are missing, so that staying silent never pays.

    A row with a NaN is missing. In daylight it counts as the worst there can be: a certain 0 or a certain full
    capacity, whichever lies further from what was metered; at night as 0. Returns the quantiles and which were missing.
    """
    missing: Mask = np.asarray(np.isnan(quantiles).any(axis=1))
    worst = np.where(daylight & (target < 0.5), 1.0, 0.0)
    return np.where(missing[:, None], worst[:, None], quantiles), missing


def summary(target: Floats, quantiles: Floats, levels: Sequence[float], daylight: Mask) -> dict[str, float]:
    """All scores of one forecast, from its quantiles: `scores`. Arrays of shape [n] and [n, levels]."""
    return scores(
        target,
        at_level(quantiles, levels, 0.5),
        mean(quantiles, levels),
        pinball(target, quantiles, levels),
        crps_rows(target, quantiles, levels),
        {nominal: edges for nominal in BANDS if (edges := band(quantiles, levels, nominal)) is not None},
        daylight,
    )


def scores(
    target: Floats,
    median: Floats,
    expected: Floats,
    pinball_rows: Floats,
    crps_of_rows: Floats,
    bands: Mapping[float, tuple[Floats, Floats]],
    daylight: Mask,
) -> dict[str, float]:
    """All scores of one forecast.

    Parameters
    ----------
    median, expected : the predictive median and mean. All arrays of shape [n].
    bands : nominal coverage -> edges of the central interval; empty for a point forecast.

    Returns
    -------
    `daylight_*` over daylight hours, else over all; `r2` of the predictive mean, `r2_median` beside it.
    """
    day = daylight
    result = {
        "daylight_nmae": nmae(target[day], median[day]),
        "daylight_nrmse": nrmse(target[day], expected[day]),
        "daylight_bias": bias(target[day], median[day]),
        "daylight_bias_mean": bias(target[day], expected[day]),
        "daylight_mape": mape(target[day], median[day]),
        "nmae": nmae(target, median),
        "nrmse": nrmse(target, expected),
        "r2": r2(target, expected),
        "r2_median": r2(target, median),
        "daylight_pinball": _mean(pinball_rows[day]),
        "pinball": _mean(pinball_rows),
        "daylight_crps": _mean(crps_of_rows[day]),
    }
    for nominal, (low, high) in bands.items():
        name = f"{nominal * 100:.0f}"
        held = picp(target[day], low[day], high[day])
        result[f"daylight_picp{name}"] = held
        result[f"daylight_picp{name}_error"] = abs(held - nominal)
        result[f"daylight_width{name}"] = _mean(high[day] - low[day])
    return result | {"hours": float(len(target)), "daylight_hours": float(day.sum())}


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
