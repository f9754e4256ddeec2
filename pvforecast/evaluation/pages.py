"""Reports of a training run as HTML pages that need nothing else: no script, no font, no picture from outside."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from pvforecast.evaluation.backtest import Scores
from pvforecast.evaluation.compare import PARK_TOLERANCE, Comparison
from pvforecast.evaluation.paired import Change

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:70em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}.note{background:#fff3cd;padding:.4em .8em}img{max-width:100%}"
)
_WIDTH, _HEIGHT, _REACH = 320, 16, 0.20  # of a bar: px, px, and the change at its end


def verdict(outcome: Comparison) -> str:
    """The verdict, its reason, and the change in each park with its 95 % interval, worst first."""
    body = [f"<h1>Verdict: {escape(outcome.verdict)}</h1>", f"<p>{escape(outcome.reason)}.</p>"]
    if outcome.parks:
        body.append(
            "<p>Pinball loss in % of <code>ac_capacity_kw</code>, and the challenger's change against the champion"
            f" (negative: better). Bars end at ±{_REACH:.0%}; the dashed line is the tolerance of a park,"
            f" {PARK_TOLERANCE:.0%}.</p>"
        )
        parks = sorted(outcome.parks, key=lambda item: -item[1].share if math.isfinite(item[1].share) else 0.0)
        rows = [_park(name, change, name in outcome.harmed, name in outcome.unjudged) for name, change in parks]
        body.append(_table(("park", "days", "challenger", "champion", "change", "95 % interval", "", ""), rows))
    return _page(f"Verdict: {outcome.verdict}", body)


def holdout(
    results: Sequence[Scores], leads: Mapping[str, Mapping[str, float]], pictures: Mapping[str, bytes] | None = None
) -> str:
    """Scores overall, by lead and by park; errors in % of capacity, daylight hours.

    Parameters
    ----------
    pictures : heading -> PNG, shown between the scores of all parks and those of each.
    """
    body = ["<h1>Hold-out</h1>"]
    if any(result.optimistic for result in results):
        body.append('<p class="note"><b>Observed weather: optimistic.</b> It was measured, not forecast.</p>')
    head = ("", "nMAE", "bias", "CRPS", "80 % band holds", "R²", "daylight hours")
    body.append(_table(head, [(escape(name), *_scores(scores)) for name, scores in leads.items()]))
    for heading, png in (pictures or {}).items():
        shown = base64.b64encode(png).decode()
        body += [f"<h2>{escape(heading)}</h2>", f'<img alt="{escape(heading)}" src="data:image/png;base64,{shown}">']
    body.append("<h2>Parks, leads 1-24 h</h2>")
    rows = [
        (escape(s.park_id), *_scores(s.model), _share(s.baselines["smart_persistence"]), _share(s.skill))
        for s in results
    ]
    body.append(_table((*head, "smart persistence", "skill"), rows))
    return _page("Hold-out", body)


def _scores(m: Mapping[str, float]) -> tuple[str, ...]:
    shares = (_share(m["daylight_nmae"]), f"{m['daylight_bias']:+.2%}", _share(m["daylight_crps"]))
    return (*shares, _share(m.get("daylight_picp80", math.nan)), f"{m['r2']:.3f}", f"{m['daylight_hours']:.0f}")


def _park(name: str, change: Change, harmed: bool, unjudged: bool) -> tuple[str, ...]:
    low, high = change.interval
    note = "harmed" if harmed else "too few days to judge" if unjudged else ""
    values = (_share(change.challenger), _share(change.champion), f"{change.share:+.1%}", f"{low:+.1%} … {high:+.1%}")
    return (escape(name), str(change.days), *values, _bar(change), note)


def _bar(change: Change) -> str:
    low, high = change.interval
    if not all(math.isfinite(value) for value in (low, change.share, high)):
        return ""

    def x(share: float) -> float:
        return round((min(max(share, -_REACH), _REACH) / _REACH + 1.0) * _WIDTH / 2.0, 1)

    middle, y = x(0.0), _HEIGHT / 2
    colour = "#2a7" if high < 0 else "#c33" if low > 0 else "#888"
    dashed = f'<path d="M{x(PARK_TOLERANCE)} 0V{_HEIGHT}" stroke="#c33" stroke-dasharray="2"/>'
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{change.share:+.1%}">'
        f'<path d="M{middle} 0V{_HEIGHT}" stroke="#bbb"/>{dashed}'
        f'<path d="M{x(low)} {y}H{x(high)}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{x(change.share)}" cy="{y}" r="4" fill="{colour}"/></svg>'
    )


def _share(value: float) -> str:
    return f"{value:.2%}" if math.isfinite(value) else "–"


def _table(head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _page(title: str, body: Iterable[str]) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{chr(10).join(body)}</body></html>\n'
