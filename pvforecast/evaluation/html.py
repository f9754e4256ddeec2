"""The backtest as one HTML file that needs nothing else: no scripts, no links, plots inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from pvforecast.evaluation import plots, report
from pvforecast.evaluation.rolling import ParkForecasts

Figures = dict[str, Any]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 13px; margin: .6rem 0 1.4rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td:last-child { text-align: left; }
img { max-width: 100%; }
strong { color: #a00; }
p.first { background: #fff3cd; padding: .6rem 1rem; font-weight: 600; }
h2 { margin-top: 2.2rem; }
"""


def page(figures: Figures, kept: Mapping[str, ParkForecasts], zones: Mapping[str, str]) -> str:
    """The report.

    Parameters
    ----------
    figures : of `Outcome.figures`.
    kept : forecasts to draw fan charts of, by park.
    zones : park id -> IANA time zone.
    """
    body = ["<h1>Backtest</h1>"]
    if figures["observed_weather"]:
        body = ['<p class="first">OBSERVED WEATHER: optimistic. The weather behind these scores was measured, not '
                "forecast.</p>", *body]  # fmt: skip
    body += _head(figures)
    if "day_ahead" in figures:
        body += _scored(figures)
    for park, forecast in kept.items():
        worst = [day["day"] for day in figures.get("worst_days", []) if day["park"] == park]
        body += [f"<h2>Forecasts of {escape(park)}</h2>", _image(plots.fans(forecast, zones.get(park, "UTC"), worst))]
    title = "Backtest of " + ", ".join(escape(park) for park in list(kept)[:3])
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def _head(figures: Figures) -> list[str]:
    lines = [report.run_of(figures), report.asked_of(figures), *(f"Note: {note}." for note in figures["notes"])]
    lines += [f"Not scored: {park} {why}." for park, why in figures["not_scored"].items()]
    return [f"<p>{escape(line)}</p>" for line in lines]


def _scored(figures: Figures) -> list[str]:
    parks = {park: entry["model"] for park, entry in figures["parks"].items()}
    sections: list[tuple[str, str, Iterable[str]]] = [
        ("All parks, leads 1–24 h", _about_scores(), [_table(report.forecasters(figures["day_ahead"]))]),
        ("The model by park", "", [_table(report.forecasters(parks))]),
        (
            "Skill against each baseline",
            "1 − our loss / theirs, daylight, 95 % block bootstrap by day. Above zero: the model is better.",
            [_table(report.skills(figures["skill"]))],
        ),
        (
            "Reliability",
            "Share of daylight hours metered at or below each quantile.",
            [_image(plots.reliability(figures["reliability"])), _table(report.reliability(figures["reliability"], 99))],
        ),
        (
            "Error by hour and lead",
            "",
            [
                _image(plots.errors(figures["by_hour"], figures["by_lead_hour"])),
                _table(report.cells(figures["by_lead"], "lead")),
            ],
        ),
        (
            "Skill by month",
            "Columns after the band: CRPS skill against each baseline; bold where it won.",
            [_image(plots.skill_by_month(figures["by_month"])), _table(report.cells(figures["by_month"], "month"))],
        ),
        ("Ramps", "", [_table(report.ramps(figures["ramps"]))]),
        (
            "Worst days",
            "Index: energy over clear-sky energy: as metered, as forecast, as the weather run says by PVWatts.",
            [_table(report.worst_days(figures["worst_days"])), f"<p>{escape(report.healthy_of(figures))}</p>"],
        ),
    ]
    if figures["imbalance"]:
        sections.append(("Imbalance", "", [_table(report.imbalance(figures["imbalance"]))]))
    return [
        line
        for title, about, content in sections
        for line in (f"<h2>{title}</h2>", f"<p>{escape(about)}</p>" if about else "", *content)
        if line
    ]


def _about_scores() -> str:
    return (
        "Daylight hours, % of AC capacity; R² over all hours. nMAE, MAPE and bias are the median's, nRMSE and R² (mean)"
        " the predictive mean's. A missing forecast counts as the worst there can be."
    )


def _image(png: bytes) -> str:
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(markdown: str) -> str:
    """A table of `report` as HTML; lines that are no table become paragraphs."""
    lines = [line for line in markdown.splitlines() if line.strip()]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    rows = [row for row in rows if set("".join(row)) != {"-"}]
    text = [f"<p>{escape(line)}</p>" for line in lines if not line.startswith("|")]
    if not rows:
        return "\n".join(text)
    head = "".join(f"<th>{_cell(cell)}</th>" for cell in rows[0])
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return "\n".join([*text, f"<table>\n<tr>{head}</tr>\n{body}\n</table>"])


def _cell(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
