"""The report a human reads: markdown, the caveat first."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pvforecast.evaluation.backtest import Scores
from pvforecast.evaluation.compare import Comparison

OPTIMISTIC = "**Observed weather: optimistic.** The weather behind these scores was measured, not forecast."


def scores(results: Iterable[Scores]) -> str:
    """Scores of each park beside the baselines."""
    results = list(results)
    lines = [OPTIMISTIC, ""] if any(result.optimistic for result in results) else []
    lines += [
        "Day-ahead, issued 00:00 local, leads 1-24 h; errors in % of `ac_capacity_kw`, daylight hours.",
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
