"""How far a short window of values lies from a reference pool: KS, Cramér-von Mises and PSI, in plain numpy.

Alibi Detect computes KS and CVM in the check itself; the calibration needs a hundred thousand of them, vectorised.
A test holds both to the same numbers. Values must be free of NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

WINDOW = 14
PSI_BINS = 10


def ks(windows: Floats, pool: Floats) -> Floats:
    """Two-sample Kolmogorov-Smirnov distance of each window (shape [k, n]) from `pool` (shape [m]). Shape [k]."""
    n = windows.shape[1]
    ordered, reference = np.sort(windows, axis=1), np.sort(pool)
    below = np.searchsorted(reference, ordered, side="left") / len(reference)
    up_to = np.searchsorted(reference, ordered, side="right") / len(reference)
    steps = np.arange(1, n + 1) / n
    return np.asarray(np.maximum((steps - up_to).max(axis=1), (below - (steps - 1.0 / n)).max(axis=1)))


def cvm(windows: Floats, pool: Floats) -> Floats:
    """Two-sample Cramér-von Mises statistic T (Anderson 1962, Ann. Math. Statist. 33) of each window. Shape [k]."""
    n, m = windows.shape[1], len(pool)
    smaller = np.searchsorted(np.sort(pool), np.sort(windows, axis=1)).astype(np.float64)
    following = np.concatenate([smaller[:, 1:], np.full((len(windows), 1), float(m))], axis=1)
    ranks = np.arange(1, n + 1, dtype=np.float64)
    of_pool = (ranks**2 * (following - smaller)).sum(axis=1)
    of_window = (smaller**2).sum(axis=1)
    u = m * of_pool + n * of_window
    return np.asarray(u / (n * m * (n + m)) - (4.0 * n * m - 1.0) / (6.0 * (n + m)))


def trailing(test: Callable[[Floats, Floats], Floats], values: Floats, pool: Floats) -> Floats:
    """Distance of the last 14 valid values up to each place; NaN where there are fewer, or none came in. Shape [n]."""
    scores = np.full(len(values), np.nan)
    valid = np.flatnonzero(~np.isnan(values))
    if len(valid) >= WINDOW and len(pool):
        windows = np.lib.stride_tricks.sliding_window_view(values[valid], WINDOW)
        scores[valid[WINDOW - 1 :]] = test(windows, pool)
    return scores


def psi(window: Floats, pool: Floats) -> float:
    """Population stability index over 10 bins of the pool's quantiles. Of small samples mostly bias: see `psi_bias`."""
    edges = np.quantile(pool, np.arange(1, PSI_BINS) / PSI_BINS)
    share, reference = _shares(window, edges), _shares(pool, edges)
    return float(((share - reference) * np.log(share / reference)).sum())


@lru_cache(maxsize=256)
def psi_bias(n: int, m: int) -> float:
    """Mean PSI of `n` values against `m` of the same distribution; which one does not matter, so it is simulated.

    For large samples about (bins - 1) (1/n + 1/m). 14 days against 60 have 0.44, more than the usual limit of 0.2,
    with nothing wrong. Subtract it before comparing.
    """
    rng = np.random.default_rng(0)
    return float(np.mean([psi(rng.random(n), rng.random(m)) for _ in range(400)]))


def _shares(values: Floats, edges: Floats) -> npt.NDArray[np.float64]:
    """Share of values in each bin, half a value added to each so that an empty one has a logarithm."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
    return np.asarray(counts / counts.sum())
