"""Model card and data sheet of a bundle, as Markdown: what a bundle says of itself, and what its run measured.

Pure: nothing is read here. What is not known is said to be unknown, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pvforecast.lake import versions
from pvforecast.model.bundle import Bundle

CARD, DATA = "model/model-card.md", "model/data-sheet.md"

_SCORES = {
    "overall/daylight_nmae": "nMAE by day",
    "overall/skill": "skill against smart persistence",
    "overall/r2": "R²",
    "overall/daylight_crps": "CRPS by day",
    "overall/daylight_picp80": "share of daylight hours within the 80 % band",
}


def card(
    bundle: Bundle, run: Mapping[str, Any] | None = None, promotions: Sequence[Mapping[str, Any]] = (), name: str = ""
) -> str:
    """What the model is, for whom, how good, how it came to serve, and where not to trust it.

    Parameters
    ----------
    run : its MLflow run, with `metrics` and `tags`; without one its scores are unknown.
    promotions : those of this version, newest first.
    name : version, as people call it.
    """
    info, metrics = bundle.info, (run or {}).get("metrics", {})
    scores = [[label, f"{metrics[key]:.4f}"] for key, label in _SCORES.items() if key in metrics]
    parks = info.get("parks", [])
    changes = info.get("level_changes", {})
    parts = [
        f"# Model card: pv-forecast {name or bundle.bundle_id}",
        _table(
            [
                ["bundle", bundle.bundle_id],
                ["trained on what was known until", f"{info.get('trained_until', 'unknown')} UTC"],
                ["parks, rows", f"{len(parks)}, {info.get('trained_rows', 'unknown')}"],
                ["quantiles", ", ".join(f"{level:g}" for level in bundle.quantiles)],
                ["features", f"{len(bundle.spec)} of spec {bundle.spec.hash}"],
                ["recipe", str(info.get("recipe_hash", "unknown"))],
                ["code", str(info.get("git_commit", "unknown"))],
                ["libraries", ", ".join(f"{k} {v}" for k, v in info.get("versions", {}).items()) or "unknown"],
            ],
        ),
        "## What it is for",
        "Power of photovoltaic parks by interval up to some days ahead, as calibrated quantiles: trading, grid"
        " operation, maintenance. Not for protection or control of a plant, nor for settlement: it forecasts, it does"
        " not meter.",
        "## How good it is",
        _table(scores) if scores else "Unknown: its run has no scores, or is gone.",
        "Scores are of a hold-out that it had not seen. Per park, hour and lead time: the report of the same run, whose"
        " first line says whether they stand on forecast or on observed weather (which is optimistic).",
        "## How it came to serve",
        _table([[p["promoted_at"], f"{p['verdict']} by {p['actor']}: {p['reason']}"] for p in promotions])
        if promotions
        else "It has not been promoted.",
        "## Where not to trust it",
        "- Snow on the modules is not forecast; hours under snow were not learned from.\n"
        "- Curtailment and outages that nobody announced are forecast as if there were none.\n"
        "- A park of another climate or mounting than those it learned from: look at its park's own scores first.\n"
        f"- Sun lower or higher than it has seen: {_seen(bundle)}.",
        "Lasting changes of a park's level that were found and levelled out:",
        _table([[park, f"factor {c['factor']:.3f} from {c['at']}"] for park, c in sorted(changes.items())])
        if changes
        else "none.",
        "Input and output of people: none. Parks of natural persons (small roofs) make power a personal datum:"
        " see *Governance* for retention and deletion.",
    ]
    return "\n\n".join(parts) + "\n"


def data_sheet(bundle: Bundle) -> str:
    """What the model learned from: tables with their versions, so that the same rows can be read again."""
    info = bundle.info
    named = [
        [f"`{one.table}`", f"version {one.version}", f"{one.column or 'all'} until {one.until or 'now'}"]
        for one in versions.of_bundle(info)
    ]
    parts = [
        f"# Data sheet: bundle {bundle.bundle_id}",
        "## Where from",
        "Measured power by park (telemetry, SCADA, files) and weather as it was forecast, as delivered in `raw/`,"
        " checked and rolled up in `processed/`, turned into `features`. Each row knows when it became available, and"
        " nothing later was used.",
        "## What exactly",
        _table(named) if named else "Unknown: the bundle names no versions.",
        f"Read again: `pvf data show TABLE@VERSION`. Rows used: {info.get('trained_rows', 'unknown')}.",
        "Left out: rows without measured power, hours flagged as snow, outage, curtailment or a frozen meter.",
        "## Whose",
        ", ".join(info.get("parks", [])) or "unknown",
        "## Kept how long",
        "These versions are kept as long as the bundle is: for good once it was promoted. Erasing a park"
        " (`pvf park erase`) ends that: the bundle stays, its rows can't be read again.",
    ]
    return "\n\n".join(parts) + "\n"


def files(bundle: Bundle) -> dict[str, str]:
    """Path -> text, for the run that made the bundle; its scores stand beside them."""
    return {CARD: card(bundle), DATA: data_sheet(bundle)}


def _seen(bundle: Bundle) -> str:
    low, high = bundle.ensemble.seen
    return f"it has seen declinations from {low:.1f}° to {high:.1f}°"


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = ["|" + " |" * len(rows[0]), "|" + "---|" * len(rows[0])]
    return "\n".join([*head, *(f"| {' | '.join(map(str, row))} |" for row in rows)])
