"""What is usually done, beside: tests of the last 14 days against all of the reference at their customary limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.drifts.climates import Floats

DAYS = 14
SILENT_DAYS = 7
_BINS = 10
Alarms = npt.NDArray[np.bool_]


def recipes(power: Floats, lrel: Floats, reference: npt.NDArray[np.bool_]) -> dict[str, Alarms]:
    """Recipe -> its alarms a day, each followed by 7 silent ones. `power` shape [n, 24], `lrel` shape [n]."""
    lit = [row[row > 0.0] for row in np.nan_to_num(power)]
    before = np.concatenate([day for day, known in zip(lit, reference, strict=True) if known])
    edges = np.quantile(before, np.arange(1, _BINS) / _BINS)
    expected = _shares(before, edges)
    usual = np.sort(lrel[reference & np.isfinite(lrel)])
    found = {name: np.zeros(len(lrel), bool) for name in ("ks_hourly", "psi_hourly", "ks_daily_residual")}
    few = np.sort(before[:: max(len(before) // 2_000, 1)])
    for day in np.flatnonzero(~reference):
        if day < DAYS:
            continue
        recent = np.concatenate(lit[day - DAYS + 1 : day + 1])
        if len(recent) > 20:
            found["ks_hourly"][day] = _differ(recent, few)
            share = _shares(recent, edges)
            found["psi_hourly"][day] = ((share - expected) * np.log(share / expected)).sum() > 0.2
        days = lrel[day - DAYS + 1 : day + 1]
        days = days[np.isfinite(days)]
        if len(days) >= DAYS // 2:
            found["ks_daily_residual"][day] = _differ(days, usual)
    return {name: _with_silence(fires) for name, fires in found.items()}


def _differ(recent: Floats, usual: Floats) -> bool:
    """Two-sample Kolmogorov-Smirnov at p < 0.05 by its asymptotic limit; `usual` is sorted."""
    n, m = len(recent), len(usual)
    at = np.sort(recent)
    up_to, below = (np.searchsorted(usual, at, side=side) / m for side in ("right", "left"))
    distance = max((np.arange(1, n + 1) / n - up_to).max(), (below - np.arange(n) / n).max())
    return bool(distance > 1.358 * np.sqrt((n + m) / (n * m)))


def _shares(values: Floats, edges: Floats) -> Floats:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) + 0.5
    return np.asarray(counts / counts.sum())


def _with_silence(fires: Alarms) -> Alarms:
    kept, silent_until = np.zeros(len(fires), bool), -1
    for day in np.flatnonzero(fires):
        if day > silent_until:
            kept[day], silent_until = True, int(day) + SILENT_DAYS
    return kept
