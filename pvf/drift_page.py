"""A park's drift as one HTML file that needs nothing else: what was measured, held against what, and what followed."""

from __future__ import annotations

import base64
import io
from datetime import date
from html import escape
from typing import Any

Series = dict[str, Any]

_NAMES = {
    "level": "level of the day (z)", "clr": "clear hours: metered / expected (z)", "tc": "centre of the day (z)",
    "cse": "how bright the provider's clear sky is (z)",
}  # fmt: skip
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left; }
img { max-width: 100%; }
p.first { background: #fff3cd; padding: .6rem 1rem; font-weight: 600; }
"""


def page(series: Series) -> str:
    """The page of what `inference.drift series` tells."""
    reference, planted = series["reference"], series["planted"]
    body = [f"<h1>Drift of {escape(series['park_id'])}</h1>"]
    if planted:
        size = "" if planted["size"] is None else f" of {planted['size']:g}"
        body.append(f'<p class="first">SIMULATED: {escape(planted["fault"])}{size} from {escape(planted["at"])}</p>')
    days = series["days"]
    body.append(
        f"<p>{len(days)} days, {days[0]} to {days[-1]}, against reference {escape(reference['reference_id'])} "
        f"({escape(reference['kind'])}, {reference['first']} to {reference['until']}). "
        f"On resampled healthy days its thresholds let through {reference['realised'].get('warn', 0):g} warnings and "
        f"{reference['realised'].get('page', 0):g} pages a year.</p>"
    )
    body += ["<h2>Alarms</h2>", _alarms(series), "<h2>Statistics and sums</h2>", _image(_plot(series))]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Drift of {escape(series['park_id'])}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _alarms(series: Series) -> str:
    if not series["alarms"]:
        return "<p>None.</p>"
    closed = {one["opened"]: one["closed"] for one in series["cleared"]}
    rows = [
        (
            alarm["day"], alarm["level"], alarm["cause"].replace("_", " "), alarm["advice"].replace("_", " "),
            ", ".join(alarm["detectors"]), ", ".join(f"{k} {v}" for k, v in alarm["evidence"].items()),
            closed.get(alarm["day"], ""),
        )
        for alarm in series["alarms"]
    ]  # fmt: skip
    head = ("day", "level", "likely cause", "advice", "detectors", "evidence", "cleared")
    cells = [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{''.join(cells)}</table>"


def _plot(series: Series) -> bytes:
    from matplotlib.figure import Figure

    days = [date.fromisoformat(day) for day in series["days"]]
    shown = [name for name in _NAMES if any(v is not None for v in series["z"].get(name, []))]
    figure = Figure(figsize=(11, 2.6 * (len(shown) + 1)), layout="constrained")
    axes = figure.subplots(len(shown) + 1, 1, sharex=True, squeeze=False)[:, 0]
    axes[0].plot(days, _numbers(series["energy_ratio"]), ".", color="#1f3b73", markersize=3)
    axes[0].axhline(1.0, color="#9aa0a6", linewidth=0.8)
    axes[0].set(title="energy: metered / expected", ylim=(0.0, 2.0))
    for panel, name in zip(axes[1:], shown, strict=True):
        panel.plot(days, _numbers(series["z"][name]), ".", color="#9aa0a6", markersize=3, label="z of the day")
        detector = f"cusum_{name}"
        for level, colour in (("warn", "#e6a400"), ("page", "#c62828")):
            threshold = series["reference"]["thresholds"].get(level, {}).get(detector)
            if threshold is not None:
                panel.axhline(threshold, color=colour, linestyle="--", linewidth=1.0, label=f"{level} threshold")
        if detector in series["scores"]["warn"]:
            panel.plot(days, _numbers(series["scores"]["warn"][detector]), color="#1f3b73", label="sum")
        panel.set_title(_NAMES[name])
        panel.legend(loc="upper left", fontsize=7, ncols=4)
    for panel in axes:
        for alarm in series["alarms"]:
            panel.axvline(
                date.fromisoformat(alarm["day"]), color="#c62828" if alarm["level"] == "page" else "#e6a400", alpha=0.5
            )
        if series["planted"]:
            panel.axvline(date.fromisoformat(series["planted"]["at"][:10]), color="#222", linestyle=":")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def _numbers(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _image(png: bytes) -> str:
    text = base64.b64encode(png).decode()
    return f'<img alt="statistics, sums, thresholds and alarms" src="data:image/png;base64,{text}">'
