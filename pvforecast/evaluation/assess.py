"""From scored rows to the figures of a report: plain dicts and lists, ready for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pvforecast.evaluation import bootstrap, metrics, ramps
from pvforecast.evaluation.bootstrap import Interval
from pvforecast.evaluation.rolling import MODEL
from pvforecast.evaluation.table import LEAD_BINS, Table, Track
from pvforecast.known import Floats

DAY_AHEAD = 24.0
SEASONS = {"Dec-Feb": (12, 1, 2), "Mar-May": (3, 4, 5), "Jun-Aug": (6, 7, 8), "Sep-Nov": (9, 10, 11)}
YEAR_TOLERANCE, SEASON_TOLERANCE = 0.02, 0.04
WORST_DAYS = 10
_CLEAR_DAYLIGHT = 0.02

Figures = dict[str, Any]


def assess(table: Table, *, seed: int = 0) -> Figures:
    """Everything a report says about scored rows; see docs/backtest.md for each figure.

    Headline scores are those of the first 24 hours after each issue; `by_lead` has all.
    """
    ahead = table.where(table.lead < DAY_AHEAD)
    parks = sorted(set(ahead.park_id.astype(str)))
    return {
        "day_ahead": {name: scores(ahead, track) for name, track in ahead.tracks.items()},
        "parks": {p: {n: scores(t, track) for n, track in t.tracks.items()} for p in parks for t in [_of(ahead, p)]},
        "skill": skills(ahead, seed=seed),
        "by_month": [{"month": name, **_cell(rows, seed)} for name, rows in _months(ahead)],
        "by_lead": [{"lead": name, **_cell(rows, seed)} for name, rows in _leads(table)],
        "by_hour": _by(ahead, ahead.hour, "solar_hour"),
        "by_lead_hour": _by(table, np.floor(table.lead).astype(np.int64), "lead_hours"),
        "reliability": reliability(ahead, seed=seed),
        "ramps": {name: ramp_scores(ahead, track) for name, track in ahead.tracks.items()},
        "imbalance": imbalance_costs(ahead, seed=seed),
        "worst_days": worst_days(ahead),
        "without_flagged": _without_flagged(ahead, seed),
    }


def scores(table: Table, track: Track) -> dict[str, float]:
    """`metrics.scores` of one forecaster on the rows of `table`, with errors in kW and what was missing."""
    bands = {
        nominal: (track.low[:, at], track.high[:, at])
        for at, nominal in enumerate(metrics.BANDS)
        if not np.isnan(track.low[:, at]).any()
    }
    result = metrics.scores(table.target, track.median, track.mean, track.pinball, track.crps, bands, table.daylight)
    return result | {
        "mae_kw": metrics.mae(table.target * table.capacity_kw, track.median * table.capacity_kw),
        "rmse_kw": metrics.rmse(table.target * table.capacity_kw, track.mean * table.capacity_kw),
        "missing": float(track.missing.sum()),
    }


def skills(table: Table, *, seed: int = 0) -> dict[str, Figures]:
    """Skill of the model against each baseline on daylight rows: 1 - ours / theirs, 95 % block bootstrap by day."""
    day = table.where(table.daylight)
    result: dict[str, Figures] = {}
    for name, track in day.tracks.items():
        if name == MODEL:
            continue
        ours, theirs = np.abs(day.target - day.model.median), np.abs(day.target - track.median)
        nmae = bootstrap.skill(day.day, ours, theirs, seed=seed)
        crps = bootstrap.skill(day.day, day.model.crps, track.crps, seed=seed)
        result[name] = {"nmae": _interval(nmae), "crps": _interval(crps), "verdict": _verdict(nmae, crps)}
    return result


def reliability(table: Table, *, seed: int = 0) -> dict[str, list[Figures]]:
    """How often each quantile was not exceeded, over the whole test and by season, with block-bootstrap errors.

    Daylight rows. `observed` = P(metered <= quantile), `below` = P(metered < quantile); they differ where many hours
    stand exactly at 0 or at capacity, and a quantile is right where its level lies between the two (Gneiting and Resin
    2023, Electronic Journal of Statistics 17). `within`: the level is at most max(2 points, 2 SE) outside of them, by
    season max(4 points, 2 SE).
    """
    month = table.valid_at.astype("datetime64[M]").astype(np.int64) % 12 + 1
    result = {"all": _reliability(table.where(table.daylight), YEAR_TOLERANCE, seed)}
    for name, months in SEASONS.items():
        rows = table.where(table.daylight & np.isin(month, months))
        if len(rows):
            result[name] = _reliability(rows, SEASON_TOLERANCE, seed)
    return result


def ramp_scores(table: Table, track: Track) -> Figures:
    """Ramp events and ramp score of the median on daylight rows, series by series (a park's issue)."""
    day = table.daylight
    hours = table.valid_at[day].astype("datetime64[s]").astype(np.float64) / 3600.0
    _, park = np.unique(table.park_id[day].astype(str), return_inverse=True)
    _, group = np.unique(
        np.stack([park, table.issued_at[day].astype("datetime64[s]").astype(np.int64)]), axis=1, return_inverse=True
    )
    group = group.reshape(-1)
    order = np.lexsort((hours, group))
    result = ramps.scores(group[order], hours[order], table.target[day][order], track.median[day][order])
    return {
        "events": result.events,
        "detected": result.detected,
        "false_alarm_ratio": result.false_alarm_ratio,
        "critical_success": result.critical_success,
        "ramp_score": result.ramp_score,
    }


def imbalance_costs(table: Table, *, seed: int = 0) -> Figures:
    """Cost of each forecaster over the priced rows; empty without prices."""
    priced = table.where(~np.isnan(table.model.cost))
    if len(priced) == 0:
        return {}
    energy = float((priced.target * priced.capacity_kw * priced.interval_hours / 1000.0).sum())
    result: Figures = {"hours": len(priced), "mwh": energy, "forecasters": {}}
    for name, track in priced.tracks.items():
        total = float(track.cost.sum())
        entry: Figures = {"cost": total, "cost_per_mwh": total / energy if energy > 0 else float("nan")}
        if name != MODEL:
            entry["saving"] = _interval(bootstrap.skill(priced.day, priced.model.cost, track.cost, seed=seed))
        result["forecasters"][name] = entry
    return result


def worst_days(table: Table, count: int = WORST_DAYS) -> list[Figures]:
    """The park-days with most daylight error, with what was going on: flags, weather, sky."""
    day = table.where(table.daylight)
    if len(day) == 0:
        return []
    keys, at = np.unique(_park_days(day), return_inverse=True)
    error = np.abs(day.target - day.model.median)
    total = np.bincount(at, error)
    return [
        _worst_day(day.where(at == key), float(total[key] / max(total.sum(), 1e-12)))
        for key in np.argsort(-total, kind="stable")[: min(count, len(keys))]
    ]


def flagged_days(table: Table) -> npt.NDArray[np.bool_]:
    """Rows of park-days on which any daylight hour was flagged as a fault, snow or curtailment."""
    from pvforecast.flags import censored

    bad = np.unique(_park_days(table)[censored(table.flags) & table.daylight])
    return np.isin(_park_days(table), bad)


def _without_flagged(table: Table, seed: int) -> Figures:
    flagged = flagged_days(table)
    healthy = table.where(~flagged)
    days = len(np.unique(_park_days(table)[flagged]))
    return {"days_left_out": days, **(_cell(healthy, seed) if healthy.daylight.any() else {})}


def _worst_day(rows: Table, share: float) -> Figures:
    clear = rows.clear > _CLEAR_DAYLIGHT
    total = max(float(rows.clear[clear].sum()), 1e-9)
    index = {
        "metered": float(rows.target[clear].sum()) / total,
        "forecast": float(rows.model.median[clear].sum()) / total,
        "physical": float(rows.tracks["physical"].median[clear].sum()) / total if "physical" in rows.tracks else np.nan,
    }
    words = [word for text in rows.flags for word in str(text).split()]
    flags = {word: words.count(word) for word in sorted(set(words))}
    covered = float(rows.weather.mean())
    return {
        "park": str(rows.park_id[0]),
        "day": str(rows.day[0]),
        "nmae": metrics.nmae(rows.target, rows.model.median),
        "share_of_error": share,
        "index_metered": index["metered"],
        "index_forecast": index["forecast"],
        "index_physical": float(index["physical"]),
        "flags": flags,
        "weather_covered": covered,
        "why": _why(flags, covered, index),
    }


def _why(flags: Mapping[str, int], covered: float, index: Mapping[str, float]) -> str:
    """The likeliest reason, in words. The indices are energy over clear-sky energy."""
    named = [f"{word} ({count} h)" for word, count in flags.items() if word != "clipped"]
    if named:
        return "flagged: " + ", ".join(named)
    if covered < 0.5:
        return "no weather run reached most of the day"
    weather, model = index["physical"] - index["metered"], index["forecast"] - index["metered"]
    if np.isfinite(weather) and weather * model > 0 and abs(weather) >= 0.6 * abs(model):
        return f"the weather run was too {'bright' if weather > 0 else 'dark'}"
    if abs(model) < 0.05:
        return "the day's energy fits; clouds came at other hours"
    return f"the model was too {'high' if model > 0 else 'low'} for its weather"


def _reliability(rows: Table, tolerance: float, seed: int) -> list[Figures]:
    if len(rows) == 0:
        return []
    errors = bootstrap.standard_errors(rows.day, rows.reached.astype(np.float64), seed=seed)
    result = []
    for at, level in enumerate(rows.levels):
        observed, below = float(rows.reached[:, at].mean()), float(rows.below[:, at].mean())
        allowed = tolerance
        if np.isfinite(errors[at]):
            allowed = max(tolerance, 2.0 * float(errors[at]))
        result.append(
            {
                "level": level,
                "observed": observed,
                "below": below,
                "standard_error": float(errors[at]),
                "allowed": allowed,
                "within": max(below - level, level - observed) <= allowed,
            }
        )
    return result


def _cell(rows: Table, seed: int) -> Figures:
    """One line of a table: scores of each forecaster, skills, and where the model lost."""
    day = rows.where(rows.daylight)
    skill = skills(day, seed=seed)
    return {
        "daylight_hours": len(day),
        "scores": {
            name: {
                "daylight_nmae": metrics.nmae(day.target, track.median),
                "daylight_crps": _mean(track.crps),
                "r2": metrics.r2(rows.target, rows.tracks[name].mean),
            }
            for name, track in day.tracks.items()
        },
        "skill": skill,
        "loses_to": sorted(
            name for name, entry in skill.items() if min(entry[m]["value"] for m in ("nmae", "crps")) < 0
        ),
        "picp80": _picp80(day),
    }


def _picp80(day: Table) -> float:
    at = metrics.BANDS.index(0.8)
    low, high = day.model.low[:, at], day.model.high[:, at]
    return float("nan") if np.isnan(low).any() else metrics.picp(day.target, low, high)


def _by(table: Table, key: npt.NDArray[np.int64], name: str) -> list[Figures]:
    day = table.daylight
    result = []
    for value in np.unique(key[day]):
        rows = table.where(day & (key == value))
        entry: Figures = {name: int(value), "daylight_hours": len(rows)}
        for forecaster, track in rows.tracks.items():
            entry[forecaster] = {"nmae": metrics.nmae(rows.target, track.median), "crps": _mean(track.crps)}
        result.append(entry)
    return result


def _months(table: Table) -> Iterator[tuple[str, Table]]:
    month = table.day.astype("datetime64[M]")
    for value in np.unique(month[table.daylight]):
        yield str(value), table.where(month == value)


def _leads(table: Table) -> Iterator[tuple[str, Table]]:
    for low, high, name in LEAD_BINS:
        rows = table.where((table.lead >= low) & (table.lead < high))
        if rows.daylight.any():
            yield name, rows


def _of(table: Table, park: str) -> Table:
    return table.where(table.park_id == park)


def _park_days(table: Table) -> npt.NDArray[np.str_]:
    return np.char.add(np.char.add(table.park_id.astype(str), " "), table.day.astype(str))


def _interval(interval: Interval) -> Figures:
    return {"value": interval.value, "low": interval.low, "high": interval.high, "days": interval.days}


def _verdict(nmae: Interval, crps: Interval) -> str:
    if nmae.days and min(nmae.low, crps.low) > 0:
        return "better"
    return "worse" if max(nmae.high, crps.high) < 0 else "not separated"


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
