"""Trials counted: rates with their intervals, days to detection, the confusion matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.drifts import faults
from benchmarks.drifts.trial import FLEET_PARKS, Trial

_YEAR = 365.25
_NAIVE = ("ks_hourly", "psi_hourly", "ks_daily_residual")


def of(trials: Sequence[Trial], *, brief: bool = False) -> dict[str, Any]:
    """The keys of the benchmark; `brief` leaves out what one park cannot tell."""
    years = sum(one.days for one in trials) / _YEAR
    warned, paged = (sum(len(one.false[level]) for one in trials) for level in ("warn", "page"))
    rows = [row for one in trials for row in one.found]
    told: dict[str, Any] = {
        "park_years_healthy": round(years, 2),
        "false_alarms": warned,
        "false_alarms_per_park_year": round(warned / years, 3),
        "false_alarms_per_park_year_95": _interval(warned, years),
        "false_pages": paged,
        "faults": {name: _fault([row for row in rows if row["fault"] == name]) for name in _names(rows)},
        "detect_days_median_hard_faults": _median(rows, faults.HARD),
        "detect_days_median_slow_faults": _median(rows, faults.SLOW),
        "diagnosis_accuracy": _accuracy(rows),
        "naive_alarms_per_park_year": {n: round(sum(t.naive_false[n] for t in trials) / years, 1) for n in _NAIVE},
    }
    if brief:
        return told
    low, high = _interval(paged, years)
    named = [row for row in rows if row["warn"] is not None]
    return told | {
        "fleet_false_alarm_days_per_year_100_parks": _fleet_days(paged / years),
        "fleet_false_alarm_days_95": [_fleet_days(low), _fleet_days(high)],
        "confusion": {name: dict(Counter(r["cause"] for r in named if r["fault"] == name)) for name in _names(rows)},
        "false_alarm_causes": dict(Counter(text.rsplit(" ", 2)[1] for one in trials for text in one.false["warn"])),
        "calibration_seconds_per_park": round(float(np.mean([one.calibration_s for one in trials])), 2),
        "budget_realised_on_reference": {
            level: round(float(np.mean([one.realised[level] for one in trials])), 3) for level in ("warn", "page")
        },
    }


def show(result: dict[str, Any]) -> None:
    """For people."""
    print(f"{'fault':<14} {'n':>4} {'found':>6} {'median':>7} {'p90':>5} {'page':>5} {'right':>6}   naive median days")
    for name, row in result["faults"].items():
        beside = " ".join(f"{key} {value}" for key, value in row["naive_median_days"].items())
        print(
            f"{name:<14} {row['n']:>4} {row['share_found']:>6.0%} {row['median_days']!s:>7} {row['p90_days']!s:>5} "
            f"{row['page_median_days']!s:>5} {row['share_right']!s:>6}   {beside}"
        )
    for name, causes in result["confusion"].items():
        print(f"{name:<14} {causes}")
    print(
        f"false alarms a park-year {result['false_alarms_per_park_year']} {result['false_alarms_per_park_year_95']}; "
        f"naive {result['naive_alarms_per_park_year']}"
    )


def _fault(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found = [row for row in rows if row["warn"] is not None]
    days = [row["warn"] for row in found]
    return {
        "n": len(rows),
        "share_found": round(len(found) / len(rows), 3),
        "median_days": _quantile(rows, "warn", 0.5),
        "p90_days": _quantile(rows, "warn", 0.9),
        "page_share_found": round(sum(row["page"] is not None for row in rows) / len(rows), 3),
        "page_median_days": _quantile(rows, "page", 0.5),
        "share_right": round(sum(row["right"] for row in found) / len(days), 3) if days else None,
        "naive_median_days": {name: _quantile([row["naive"] for row in rows], name, 0.5) for name in _NAIVE},
    }


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [fault.name for fault in faults.ALL if any(row["fault"] == fault.name for row in rows)]


def _quantile(rows: Sequence[dict[str, Any]], name: str, share: float) -> float | None:
    """Over all cases: one that was not found took longer than any; None where the quantile is such a case."""
    values = sorted(np.inf if row.get(name) is None else row[name] for row in rows)
    value = values[min(int(np.ceil(share * len(values))), len(values)) - 1] if values else np.inf
    return float(value) if np.isfinite(value) else None


def _median(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> float | None:
    return _quantile([row for row in rows if row["fault"] in names], "warn", 0.5)


def _accuracy(rows: Sequence[dict[str, Any]]) -> float | None:
    found = [row for row in rows if row["warn"] is not None]
    return round(sum(row["right"] for row in found) / len(found), 3) if found else None


def _interval(count: int, years: float) -> list[float]:
    """Exact 95 % interval of a Poisson rate."""
    low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
    return [round(float(low / years), 3), round(float(stats.chi2.ppf(0.975, 2 * count + 2) / 2 / years), 3)]


def _fleet_days(a_park_year: float) -> float:
    """Days of a year on which any of 100 parks that alarm independently does."""
    return round(_YEAR * (1.0 - (1.0 - a_park_year / _YEAR) ** FLEET_PARKS), 2)
