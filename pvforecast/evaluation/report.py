"""The report a human reads: markdown, the caveat first."""

from __future__ import annotations

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
        "| park | tested | nMAE | smart persistence | 24 h persistence | physical | skill | R² | bias | CRPS | 80 % band holds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        m, b = r.model, r.baselines
        lines.append(
            f"| {r.park_id} | {r.test_from[:10]} … {r.test_until[:10]} | {m['daylight_nmae']:.2%} | {b['smart_persistence']:.2%} "
            f"| {b['persistence_24h']:.2%} | {b['physical']:.2%} | {r.skill:.1%} | {m['r2']:.3f} | {m['daylight_bias']:+.2%} "
            f"| {m['daylight_crps']:.2%} | {m['daylight_picp80']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def comparison(result: Comparison) -> str:
    """The verdict and what it stands on."""
    lines = [f"# Verdict: {result.verdict}", "", f"{result.reason}.", ""]
    if result.days:
        lines += [
            "| | pinball loss, % of capacity |",
            "|---|---|",
            f"| challenger | {result.challenger:.3%} |",
            f"| champion | {result.champion:.3%} |",
        ]
    return "\n".join(lines) + "\n"
