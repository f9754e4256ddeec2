"""Data drift across the weather's features: the statistic of Alibi Detect's TabularDrift, with a limit of its own.

TabularDrift tests each feature by KS and corrects p for their number. All features have the same sample sizes, so its
verdict hangs on the greatest distance alone. That is compared with what one in a hundred of the reference's own windows
exceeds: days are autocorrelated, and p < 0.05 comes true on many that are healthy. It explains and is shown; it raises
no event, because a weather that is new is no fault of the park.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace

import numpy as np

from inference.drift import distances
from inference.drift.reference import Reference
from inference.drift.statistics import Statistics
from pvforecast.known import Floats

FEATURES = ("csi", "cse", "temp")
RARE = 0.01
P_LIMIT = 0.05
MIN_POOL = 2 * distances.WINDOW


@dataclass(frozen=True)
class Tabular:
    """The last 14 days on which all features are known.

    Attributes
    ----------
    distance : feature -> KS distance from the reference days, standardised by season.
    limit : of the greatest of them; `exceeds` compares.
    p_value, p_limit : Alibi Detect's, before and after the correction; only where it was asked.
    """

    distance: dict[str, float]
    limit: float
    recent: int
    reference: int
    exceeds: bool
    p_value: dict[str, float] = field(default_factory=dict)
    p_limit: float | None = None


def measure(reference: Reference, z: Statistics, *, explained: bool = False) -> Tabular | None:
    """Of the newest days of `z`; None where there are too few, or no reference days to compare them with.

    `explained` asks Alibi Detect's TabularDrift too.
    """
    pair = _pair(reference, z)
    if pair is None:
        return None
    window, pool = pair
    own = np.lib.stride_tricks.sliding_window_view(pool, distances.WINDOW, axis=0)  # shape [k, features, 14]
    usual = np.max([distances.ks(own[:, at], pool[:, at]) for at in range(len(FEATURES))], axis=0)
    limit = round(float(np.quantile(usual, 1.0 - RARE)), 6)
    apart = [float(distances.ks(window[None, :, at], pool[:, at])[0]) for at in range(len(FEATURES))]
    found = {name: round(value, 6) for name, value in zip(FEATURES, apart, strict=True)}
    result = Tabular(found, limit, len(window), len(pool), max(found.values()) > limit)
    return _asked(result, window, pool) if explained else result


def _asked(found: Tabular, window: Floats, pool: Floats) -> Tabular:
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from alibi_detect.cd import TabularDrift  # 2 s to import: only where an explanation is wanted

    verdict = TabularDrift(pool, p_val=P_LIMIT, categories_per_feature={}).predict(window)["data"]
    p_values = {name: round(float(p), 6) for name, p in zip(FEATURES, verdict["p_val"], strict=True)}
    return replace(found, p_value=p_values, p_limit=round(float(verdict["threshold"]), 6))


def _pair(reference: Reference, z: Statistics) -> tuple[Floats, Floats] | None:
    """Shape [14, features] and [m, features], without NaN: one of them would make the p of KS wrong, unsaid."""
    names = [name for name in FEATURES if name in reference.statistics]
    if len(names) < len(FEATURES):
        return None
    pool = _known(reference.standardised(reference.days, {name: reference.statistics[name] for name in FEATURES}))
    window = _known(z)[-distances.WINDOW :]
    return (window, pool) if len(window) == distances.WINDOW and len(pool) >= MIN_POOL else None


def _known(z: Statistics) -> Floats:
    rows = np.stack([z[name] for name in FEATURES], axis=1)
    return np.asarray(rows[np.isfinite(rows).all(axis=1)])
