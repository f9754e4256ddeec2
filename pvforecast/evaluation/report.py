"""The report a human reads: markdown, the caveat first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pvforecast.evaluation.backtest import Scores
from pvforecast.evaluation.bootstrap import FEW_DAYS
from pvforecast.evaluation.compare import Comparison

Figures = dict[str, Any]

OPTIMISTIC = "**Observed weather: optimistic.** The weather behind these scores was measured, not forecast."


def scores(results: Iterable[Scores], issued: str = "issued 00:00 local") -> str:
    """Scores of each park beside the baselines."""
    results = list(results)
    lines = [OPTIMISTIC, ""] if any(result.optimistic for result in results) else []
    lines += [
        f"Day-ahead, {issued}, leads 1-24 h; errors in % of `ac_capacity_kw`, daylight hours.",
        "",
        "| park | tested | nMAE | smart persistence | 24 h persistence | physical | skill | R² | bias | CRPS "
        "| 80 % band holds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(result) for result in results]
    return "\n".join(lines) + "\n"


def comparison(result: Comparison) -> str:
    """The verdict and what it stands on."""
    lines = [f"# Verdict: {result.verdict}", "", f"{result.reason}.", ""]
    if not math.isnan(result.difference):
        lines += [
            "| | pinball loss, % of capacity |",
            "|---|---|",
            f"| challenger | {result.challenger:.3%} |",
            f"| champion | {result.champion:.3%} |",
        ]
    return "\n".join(lines) + "\n"


def backtest(figures: Figures, results: Iterable[Scores]) -> str:
    """A whole backtest: scores by park, each baseline beside, by month and lead, reliability, worst days."""
    head = [OPTIMISTIC, ""] if figures["observed_weather"] else []
    head += [run_of(figures), "", asked_of(figures), ""] + [f"Note: {note}.\n" for note in figures["notes"]]
    if "day_ahead" not in figures:
        return "\n".join([*head, "Nothing was metered in the test: there is nothing to score."]) + "\n"
    text = scores(results, _issued(figures))
    parts = [
        "\n".join(head),
        text.removeprefix(f"{OPTIMISTIC}\n\n"),
        "## All parks, leads 1-24 h\n\n" + forecasters(figures["day_ahead"]),
        "## Skill of the model against each baseline\n\n" + skills(figures["skill"]),
        "## By month\n\n" + cells(figures["by_month"], "month"),
        "## By lead\n\n" + cells(figures["by_lead"], "lead"),
        "## Reliability\n\n" + reliability(figures["reliability"]),
        "## Ramps\n\n" + ramps(figures["ramps"]),
        *(["## Imbalance\n\n" + imbalance(figures["imbalance"])] if figures["imbalance"] else []),
        "## Worst days\n\n" + worst_days(figures["worst_days"]) + "\n" + healthy_of(figures),
    ]
    return "\n".join(parts)


def forecasters(entries: dict[str, dict[str, float]]) -> str:
    """Scores of every forecaster, a row each."""
    header = [
        "",
        "nMAE",
        "nRMSE",
        "R² (mean)",
        "R² (median)",
        "MAPE",
        "bias",
        "CRPS",
        "80 % band",
        "its width",
        "missing",
    ]
    rows = [
        [
            name,
            *(_percent(s[key]) for key in ("daylight_nmae", "daylight_nrmse")),
            *(f"{s[key]:.3f}" for key in ("r2", "r2_median")),
            _percent(s["daylight_mape"], 1),
            f"{s['daylight_bias']:+.2%}",
            _percent(s["daylight_crps"]),
            _percent(s.get("daylight_picp80", math.nan), 1),
            _percent(s.get("daylight_width80", math.nan), 1),
            f"{s['missing']:.0f}",
        ]
        for name, s in entries.items()
    ]
    return _table(header, rows)


def skills(entries: dict[str, Figures]) -> str:
    """Skill with its 95 % interval; says where the model is not better."""
    rows = [
        [name, _interval(entry["nmae"]), _interval(entry["crps"]), _verdict(entry["verdict"])]
        for name, entry in entries.items()
    ]
    return _table(["against", "nMAE", "CRPS", "over the whole test"], rows)


def cells(entries: Sequence[Figures], key: str) -> str:
    """One line a month or lead bin: errors, and skill in CRPS against each baseline; losses in bold."""
    if not entries:
        return "\n"
    names = list(entries[0]["skill"])
    header = [key, "hours", "nMAE", "CRPS", "80 % band", *names, "loses to"]
    rows = []
    for entry in entries:
        model = entry["scores"]["model"]
        against = [_loss(entry["skill"][name]["crps"]["value"]) for name in names]
        numbers = [_percent(model["daylight_nmae"]), _percent(model["daylight_crps"]), _percent(entry["picp80"], 1)]
        rows.append([entry[key], str(entry["daylight_hours"]), *numbers, *against, ", ".join(entry["loses_to"]) or "-"])
    return _table(header, rows)


def reliability(entries: dict[str, list[Figures]], most: int = 13) -> str:
    """Observed frequency of each level, over the test and by season; of many levels some."""
    level = [row["level"] for row in entries["all"]]
    if not level:
        return "\n"
    step = max(1, math.ceil(len(level) / most))
    shown = [at for at in range(len(level)) if at % step == (len(level) // 2) % step or at in (0, len(level) - 1)]
    rows = []
    for at in shown:
        cells = [_reached(season[at]) for season in entries.values()]
        rows.append([f"{level[at]:.1%}", *cells, f"{entries['all'][at]['standard_error']:.1%}"])
    inside = {name: sum(row["within"] for row in season) for name, season in entries.items()}
    rows.append(["levels within", *(f"{inside[name]} of {len(level)}" for name in entries), ""])
    return _table(["level", *entries, "SE (all)"], rows)


def _reached(row: Figures) -> str:
    """How often a quantile was not exceeded; with how often it was undercut, where hours stand exactly at it."""
    below, observed = (f"{row[name]:.1%}" for name in ("below", "observed"))
    share = observed if below == observed else f"{below} … {observed}"
    return share if row["within"] else f"{share} **out**"


def ramps(entries: dict[str, Figures]) -> str:
    """Ramp scores of every forecaster."""
    rows = [
        [
            name,
            str(r["events"]),
            *(_percent(r[key], 1) for key in ("detected", "false_alarm_ratio", "critical_success")),
            _percent(r["ramp_score"]),
        ]
        for name, r in entries.items()
    ]
    return _table(["", "ramps", "detected", "false alarms", "critical success", "ramp score, capacity an hour"], rows)


def imbalance(entry: Figures) -> str:
    """Cost of every forecaster under the price file."""
    rows = [
        [name, f"{c['cost']:,.2f}", f"{c['cost_per_mwh']:.2f}", _interval(c["saving"]) if "saving" in c else ""]
        for name, c in entry["forecasters"].items()
    ]
    about = f"{entry['hours']:,} priced hours, {entry['mwh']:,.1f} MWh metered; all bid the same quantile level.\n\n"
    return about + _table(["", "cost", "per MWh", "the model saves"], rows)


def worst_days(entries: Sequence[Figures]) -> str:
    """The days with most error, and why. The indices are energy over clear-sky energy."""
    rows = [
        [
            f"{d['day']} {d['park']}",
            _percent(d["nmae"]),
            _percent(d["share_of_error"], 1),
            *(f"{d[key]:.2f}" for key in ("index_metered", "index_forecast", "index_physical")),
            d["why"],
        ]
        for d in entries
    ]
    return _table(["day", "nMAE", "of all error", "metered index", "forecast index", "weather's index", "why"], rows)


def run_of(figures: Figures) -> str:
    """What was trained and tested, in one sentence."""
    fits = figures["fits"]
    again = f", refitted {len(fits) - 1} times" if len(fits) > 1 else ""
    span = f"{figures['test_from']} to {figures['test_until']} UTC"
    return f"Trained on what was known at {fits[0]} UTC{again}; tested from {span}, {_issued(figures)}."


def _issued(figures: Figures) -> str:
    issues = figures["issues"]
    if issues == "at runs":
        return "issued at each new weather run"
    return "issued " + ", ".join(f"{hour:02d}:00" for hour in issues) + " local"


def asked_of(figures: Figures) -> str:
    """What was asked and what came."""
    return (
        f"Asked for {figures['asked']:,} forecasts (park, issue, hour): {figures['missing']:,} are missing. "
        f"{figures['uncovered']:,} park-hours of the test are reached by no issue. Metered: "
        f"{figures['metered']:,}. Weather known at issue reaches {figures['weather_covered']:.0%} of its daylight."
    )


def healthy_of(figures: Figures) -> str:
    """Scores without the days that were flagged as no evidence of the park; empty where that leaves none."""
    entry = figures["without_flagged"]
    if "scores" not in entry or not entry["days_left_out"]:
        return ""
    model = entry["scores"]["model"]
    return (
        f"Without the {entry['days_left_out']} park-days flagged as snow, outage, frozen meter or curtailment: nMAE "
        f"{model['daylight_nmae']:.2%}, CRPS {model['daylight_crps']:.2%}, R² {model['r2']:.3f}.\n"
    )


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _percent(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}%}"


def _loss(value: float) -> str:
    return _percent(value, 1) if not value < 0 else f"**{value:.1%}**"


def _interval(entry: dict[str, float]) -> str:
    text = f"{_loss(entry['value'])} ({_percent(entry['low'], 1)} … {_percent(entry['high'], 1)})"
    return text if entry["days"] >= FEW_DAYS else f"{text}, only {entry['days']} days"


def _verdict(word: str) -> str:
    return word if word == "better" else f"**{word}**"


def _row(result: Scores) -> str:
    m, b = result.model, result.baselines
    cells = [
        result.park_id,
        f"{result.test_from[:10]} … {result.test_until[:10]}",
        *(f"{x:.2%}" for x in (m["daylight_nmae"], b["smart_persistence"], b["persistence_24h"], b["physical"])),
        f"{result.skill:.1%}",
        f"{m['r2']:.3f}",
        f"{m['daylight_bias']:+.2%}",
        f"{m['daylight_crps']:.2%}",
        f"{m['daylight_picp80']:.1%}",
    ]
    return f"| {' | '.join(cells)} |"
