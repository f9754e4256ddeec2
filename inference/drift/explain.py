"""What changed, for a human: Alibi Detect's distribution tests and PSI. They explain an event, they don't raise it.

Alarms go by the distance against a calibrated threshold, never by the p-value: with autocorrelated days that are
tested daily, p < 0.05 came true on most days of a healthy park.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from inference.drift import distances
from inference.drift.reference import EXPLAINED, WARN, Reference, pooled
from inference.drift.statistics import Statistics, day_of_year
from pvforecast.known import Floats

PSI_WINDOW = 28
PSI_LIMIT = 0.2
PSI_SEASON_DAYS = 45
PSI_CARRIES = 168  # below this many values the plain PSI is mostly its own bias


@dataclass(frozen=True)
class Distance:
    """Alibi Detect's verdict on the last 14 valid days of one statistic. `exceeds` compares with the threshold."""

    statistic: str
    test: str
    distance: float
    threshold: float
    p_value: float
    recent: int
    reference: int
    exceeds: bool


@dataclass(frozen=True)
class Psi:
    """`psi` less `bias` is what is left; `carries` says whether the sample is large enough for the usual limit."""

    feature: str
    psi: float
    bias: float
    recent: int
    reference: int
    carries: bool
    exceeds: bool


def by_distance(reference: Reference, z: Statistics) -> list[Distance]:
    """KSDrift and CVMDrift on the last 14 valid z of each statistic against the pooled reference.

    A statistic with fewer than 14 valid days is left out.
    """
    result = []
    thresholds = reference.thresholds[WARN]
    for name in EXPLAINED[reference.kind]:
        if f"ks_{name}" not in thresholds:
            continue
        recent = _last_valid(z[name], distances.WINDOW)
        if len(recent) < distances.WINDOW:
            continue
        pool = pooled(reference, name)
        for test, (distance, p_value) in _alibi(pool, recent).items():
            threshold = thresholds[f"{test}_{name}"]
            result.append(
                Distance(name, test, distance, threshold, p_value, len(recent), len(pool), distance > threshold)
            )
    return result


def by_psi(reference: Reference, days: np.ndarray[Any, np.dtype[np.datetime64]], statistics: Statistics) -> list[Psi]:
    """PSI of each statistic's last 28 valid days against the reference's same season."""
    if len(reference.days) == 0:
        return []
    apart = np.abs(day_of_year(reference.days) - day_of_year(days[-1:]))
    in_season = np.minimum(apart, 365 - apart) <= PSI_SEASON_DAYS
    result = []
    for name, values in statistics.items():
        if name not in reference.statistics:
            continue
        recent = _last_valid(values, PSI_WINDOW)
        season = reference.statistics[name][in_season]
        season = season[~np.isnan(season)]
        if len(recent) < distances.WINDOW or len(season) < PSI_WINDOW:
            continue
        index = distances.psi(recent, season)
        bias = distances.psi_bias(len(recent), len(season))
        carries = min(len(recent), len(season)) >= PSI_CARRIES
        result.append(
            Psi(name, round(index, 4), round(bias, 4), len(recent), len(season), carries, index - bias > PSI_LIMIT)
        )
    return result


def as_dicts(rows: list[Distance] | list[Psi]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _alibi(pool: Floats, recent: Floats) -> dict[str, tuple[float, float]]:
    """Distance and p of both detectors. NaN must be gone already: one of them makes CVMDrift answer p = 0."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would ask for torch on every run
    from alibi_detect.cd import CVMDrift, KSDrift  # 2 s to import: only where an explanation is wanted

    result = {}
    for test, detector in (("ks", KSDrift), ("cvm", CVMDrift)):
        verdict = detector(pool.reshape(-1, 1), p_val=0.05).predict(recent.reshape(-1, 1))["data"]
        result[test] = (round(float(verdict["distance"][0]), 6), round(float(verdict["p_val"][0]), 6))
    return result


def _last_valid(values: Floats, count: int) -> Floats:
    return values[~np.isnan(values)][-count:]
