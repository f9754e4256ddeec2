"""How good the forecasts are, on real measurements: `make bench NAME=accuracy`.

System 50, trained to the end of the year before, tested on one year, day-ahead: issued 00:00 local. The weather is
observed, not forecast, and the first line says so. Then the same with synthetic forecast-like errors in GHI
(`benchmarks.weather_errors`), and what live generation brings within a day. `--simulated` tests reliability on
simulated parks instead.

One JSON object last.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks import weather_errors
from pvf.backtest import TEST_UNTIL, sample_records
from pvforecast import dataset
from pvforecast.evaluation import assess, bootstrap, metrics, report, rolling
from pvforecast.evaluation import backtest as bt
from pvforecast.evaluation.rolling import Plan
from pvforecast.evaluation.table import Table
from pvforecast.features import FeatureSpec
from pvforecast.known import HOUR, ParkRecord

PARK = "pvdaq-50"
LIVE = re.compile(r"(relative|performance)_\d+h")  # what was metered in the last hours before the issue
INTRADAY_HOURS = (6, 8, 10, 12, 14)
SIMULATED_PARKS = 32
_SIMULATED_ISSUES = 90  # of each simulated park to learn from, drawn from a year
_QUANTILES = tuple(round(n / 10, 1) for n in range(1, 10))

Figures = dict[str, Any]


def main() -> None:
    """Run the parts that were asked for, print tables, and one JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test-year", type=int, default=2013)
    parser.add_argument("--simulated", action="store_true", help="reliability on simulated parks, and nothing else")
    parser.add_argument("--only", choices=("observed", "errors"), help="one of the two real-data parts")
    options = parser.parse_args()
    begun = time.perf_counter()
    if options.simulated:
        print("SIMULATED PARKS on observed weather with synthetic forecast errors\n")
        result = simulated()
    else:
        print("OBSERVED WEATHER: optimistic. The weather behind these scores was measured, not forecast.\n")
        record = sample_records([PARK], min(_midnight(options.test_year + 1), TEST_UNTIL))[PARK]
        plan = _plan(options.test_year)
        result = {"weather": "OBSERVED WEATHER: optimistic", "test_year": options.test_year}
        if options.only != "errors":
            result |= observed(record, plan)
        if options.only != "observed":
            result["forecast_like_errors"] = with_errors(record, plan)
    print(json.dumps(_plain({**result, "seconds": round(time.perf_counter() - begun, 1)})))


def observed(record: ParkRecord, plan: Plan) -> Figures:
    """The headline: day-ahead on observed weather."""
    outcome = bt.run({PARK: record}, plan)
    figures = outcome.figures()
    print(report.backtest(figures, outcome.scores().values()))
    model = figures["day_ahead"]["model"]
    skill = figures["skill"]["smart_persistence_quantiles"]["crps"]
    assert outcome.table is not None
    return {
        "system50_daylight_nmae": model["daylight_nmae"],
        "system50_r2": model["r2"],
        "system50_picp80_error": model["daylight_picp80_error"],
        "system50_crps_skill": skill["value"],
        "system50_crps_skill_interval": [skill["low"], skill["high"]],
        "leads_1_24": _brief(model),
        "leads_25_48": _second_day(outcome.table),
        "without_flagged_days": figures["without_flagged"],
        "flagged_days": _flagged(outcome.table),
        "worst_days": figures["worst_days"],
        "baselines": {name: _brief(s) for name, s in figures["day_ahead"].items() if name != "model"},
        "skill": figures["skill"],
        "by_month": figures["by_month"],
        "by_lead": figures["by_lead"],
        "reliability": figures["reliability"],
        "ramps": figures["ramps"],
    }


def with_errors(record: ParkRecord, plan: Plan) -> Figures:
    """Day-ahead with forecast-like errors in GHI, and the gain of live generation in the next hours."""
    disturbed = {PARK: weather_errors.with_errors(record)}
    outcome = bt.run(disturbed, plan)
    figures = outcome.figures()
    stated = f"sd {weather_errors.SD_FIRST} to {weather_errors.SD_LAST} over 48 h, AR {weather_errors.AR} an hour"
    print(f"\n# With synthetic forecast-like errors in the clear-sky index ({stated})\n")
    print(report.forecasters(figures["day_ahead"]) + "\n" + report.cells(figures["by_lead"], "lead"))
    gain = intraday(disturbed, replace(plan, issue_hours=INTRADAY_HOURS, horizon_hours=12))
    return {
        "errors": stated,
        "day_ahead": {name: _brief(s) for name, s in figures["day_ahead"].items()},
        "leads_25_48": _second_day(outcome.table) if outcome.table is not None else {},
        "skill": figures["skill"],
        "by_lead": figures["by_lead"],
        "reliability": figures["reliability"]["all"],
        "intraday": gain,
    }


def intraday(records: dict[str, ParkRecord], plan: Plan) -> Figures:
    """CRPS at leads 1-6 h with live generation, with its features masked, and uncorrected.

    Uncorrected: the same bundle without its corrector.
    """
    known = [rolling.as_known(record, plan.train_until) for record in records.values()]
    recipe = rolling.recipe_for(known, None)
    live = [name for name in recipe.spec.names if LIVE.fullmatch(name)]
    print(f"\n# Live generation within the day: issued {INTRADAY_HOURS} local; features {', '.join(live)}\n")
    stage = rolling.fit(records, plan, recipe, with_references=False)[-1]
    rows = dataset.build(records[PARK], recipe.spec, plan.issues(records[PARK]), plan.horizon_hours)
    rows = rows.where(~np.isnan(rows.target) & rows.daylight)
    blind = replace(rows, features=_masked(rows.features, recipe.spec, live))
    crps = {
        name: metrics.crps_rows(rows.target, rolling.predict(at, of), at.quantiles)
        for name, at, of in (
            ("with", stage.bundle, rows),
            ("masked", stage.bundle, blind),
            ("uncorrected", replace(stage.bundle, corrector=None), rows),
        )
    }
    lines, result = ["| lead | hours | CRPS | gain over masked | over uncorrected |", "|---|---|---|---|---|"], []
    for first, last in [(n, n + 1) for n in range(6)] + [(0, 6)]:
        at = (rows.lead_hours >= first) & (rows.lead_hours < last)
        day = rows.valid_at[at].astype("datetime64[D]")
        masked, uncorrected = (
            bootstrap.skill(day, crps["with"][at], crps[name][at]) for name in ("masked", "uncorrected")
        )
        label = f"{first + 1}" if last == first + 1 else f"{first + 1}-{last}"
        entry = {"lead": label, "hours": int(at.sum()), "crps": float(crps["with"][at].mean())}
        for name, gain in (("over_masked", masked), ("over_uncorrected", uncorrected)):
            entry[name] = {"value": gain.value, "low": gain.low, "high": gain.high}
        result.append(entry)
        gains = " | ".join(f"{gain.value:.1%} ({gain.low:.1%} … {gain.high:.1%})" for gain in (masked, uncorrected))
        lines.append(f"| {label} | {at.sum()} | {entry['crps']:.2%} | {gains} |")
    print("\n".join(lines))
    return {"issue_hours": list(INTRADAY_HOURS), "features": live, "gain_by_lead": result}


def simulated() -> Figures:
    """Reliability of the deciles on simulated parks: weather of 2011 and 2012, trained on the first year."""
    begin, middle, end = (_stamp(_midnight(year)) for year in (2011, 2012, 2013))
    real = sample_records([PARK], _midnight(2013))[PARK]
    parks = weather_errors.simulated_parks(real, SIMULATED_PARKS, begin, end)
    plan = Plan(
        middle, middle, end - 48 * HOUR, 24, at_runs=True, quantiles=_QUANTILES, learning_issues=_SIMULATED_ISSUES
    )
    outcome = bt.run(parks, plan, with_references=False)
    assert outcome.table is not None
    rows = outcome.table.where(outcome.table.lead < 24)
    reliability = assess.reliability(rows)
    print(report.reliability(reliability, 19))
    strict = max(abs(row["observed"] - row["level"]) for row in reliability["all"])
    print(f"{len(parks)} simulated parks; largest deviation of a level {strict:.1%}")
    return {
        "simulated_parks": len(parks),
        "largest_deviation": strict,
        "within_2_points": strict <= 0.02,
        "reliability": reliability["all"],
        "daylight_hours": int(rows.daylight.sum()),
    }


def _masked(features: Any, spec: FeatureSpec, names: list[str]) -> Any:
    masked = features.copy()
    masked[:, [spec.names.index(name) for name in names]] = np.nan
    return masked


def _second_day(table: Table) -> Figures:
    rows = table.where((table.lead >= 24) & (table.lead < 48))
    return {**_brief(assess.scores(rows, rows.model)), "skill": assess.skills(rows)}


def _flagged(table: Table) -> list[str]:
    flagged = assess.flagged_days(table) & (table.lead < 24)
    return sorted(set(table.day[flagged].astype(str)))


def _brief(scores: dict[str, float]) -> dict[str, float]:
    names = ("daylight_nmae", "daylight_nrmse", "r2", "r2_median", "daylight_mape", "daylight_bias", "daylight_crps")
    bands = [f"daylight_{what}{band}" for band in (50, 80, 90) for what in ("picp", "width")]
    return {name: scores[name] for name in (*names, *bands) if name in scores}


def _plan(year: int) -> Plan:
    begin, end = (_stamp(_midnight(each)) for each in (year, year + 1))
    return Plan(begin, begin, end)


def _midnight(year: int) -> datetime:
    return datetime(year, 1, 1, 7, tzinfo=UTC)  # local midnight in Golden


def _stamp(moment: datetime) -> np.datetime64:
    return np.datetime64(int(moment.timestamp()), "s")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and value != value else value


if __name__ == "__main__":
    main()
