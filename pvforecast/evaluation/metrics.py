"""Scores of quantile forecasts, all in fractions of `ac_capacity_kw`.

Definitions: daylight = sun above the horizon at the middle of the hour; nMAE and nRMSE are thereby divided by capacity;
R² over all hours; pinball loss and PICP over daylight hours. References: Gneiting & Raftery 2007 (CRPS, pinball);
Khosravi et al. 2011 (PICP, interval width).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

Mask = npt.NDArray[np.bool_]


def nmae(target: Floats, forecast: Floats) -> float:
    """Mean absolute error. Arrays of shape [n]; NaN when there is nothing to score."""
    return _mean(np.abs(target - forecast))


def nrmse(target: Floats, forecast: Floats) -> float:
    return float(np.sqrt(_mean((target - forecast) ** 2)))


def bias(target: Floats, forecast: Floats) -> float:
    """Mean of forecast - metered; positive = too high."""
    return _mean(forecast - target)


def r2(target: Floats, forecast: Floats) -> float:
    total = float(((target - target.mean()) ** 2).sum()) if len(target) else 0.0
    return 1.0 - float(((target - forecast) ** 2).sum()) / total if total > 0 else float("nan")


def pinball(target: Floats, quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """Pinball loss of each row, mean over levels. `quantiles` has shape [n, levels]; returns shape [n]."""
    error = target[:, None] - quantiles
    level = np.asarray(levels)
    result: Floats = np.maximum(level * error, (level - 1.0) * error).mean(axis=1)
    return result


def crps(target: Floats, quantiles: Floats, levels: tuple[float, ...]) -> float:
    """Continuous ranked probability score, approximated as twice the mean pinball loss."""
    return 2.0 * _mean(pinball(target, quantiles, levels))


def picp(target: Floats, lower: Floats, upper: Floats) -> float:
    """Share of metered values inside [lower, upper]."""
    return _mean(((target >= lower) & (target <= upper)).astype(float))


def summary(target: Floats, quantiles: Floats, levels: tuple[float, ...], daylight: Mask) -> dict[str, float]:
    """All scores of one forecast. `levels` must hold 0.1, 0.5 and 0.9."""
    at = {level: quantiles[:, levels.index(level)] for level in (0.1, 0.5, 0.9)}
    day = daylight
    return {
        "daylight_nmae": nmae(target[day], at[0.5][day]),
        "daylight_nrmse": nrmse(target[day], at[0.5][day]),
        "daylight_bias": bias(target[day], at[0.5][day]),
        "r2": r2(target, at[0.5]),
        "daylight_pinball": _mean(pinball(target[day], quantiles[day], levels)),
        "daylight_crps": crps(target[day], quantiles[day], levels),
        "daylight_picp80": picp(target[day], at[0.1][day], at[0.9][day]),
        "daylight_width80": _mean(at[0.9][day] - at[0.1][day]),
        "hours": float(len(target)),
        "daylight_hours": float(day.sum()),
    }


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
