"""What one load passed on and set aside: Markdown, one HTML page without anything from outside, and numbers."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pvforecast.flags import ALL
from pvforecast.validation.season import Season

if TYPE_CHECKING:
    from pvforecast.refining import ValidationReport as Checked

_WIDTH, _HEIGHT = 360, 60
_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em;color:#222}table{border-collapse:collapse}"
    "td,th{border-bottom:1px solid #ddd;padding:.3em .7em;text-align:left;vertical-align:top}svg{background:#f7f7f7}"
)


def markdown(reports: Sequence[Checked], seasons: Mapping[str, Season]) -> str:
    """A table of the parks, and below it what a human should look at."""
    head = ("park", "hours stored", "weather rows", "set aside", "flags", "gaps", "clock", "season")
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(_cells(report, seasons))} |" for report in reports]
    told = [line for report in reports for line in _details(report, seasons.get(report.park_id))]
    return "\n".join([*lines, *([""] if told else []), *(f"- {line}" for line in told)]) + "\n"


def page(reports: Sequence[Checked], seasons: Mapping[str, Season]) -> str:
    """The same as HTML, with each park's daily energy of the last 60 days as a share of clear sky."""
    head = (
        "park",
        "hours stored",
        "weather rows",
        "set aside",
        "flags",
        "gaps",
        "clock",
        "season",
        "share of clear sky",
    )
    rows = []
    for report in reports:
        cells = [f"<td>{html.escape(cell)}</td>" for cell in _cells(report, seasons)]
        season = seasons.get(report.park_id)
        rows.append(f"<tr>{''.join(cells)}<td>{_plot(season) if season else ''}</td></tr>")
    told = [line for report in reports for line in _details(report, seasons.get(report.park_id))]
    items = "".join(f"<li>{html.escape(line)}</li>" for line in told)
    return (
        f"<!doctype html><html><head><meta charset='utf-8'><title>Validation</title><style>{_STYLE}</style></head>"
        "<body>"
        f"<h1>Validation</h1><table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{''.join(rows)}</table>"
        f"<ul>{items}</ul></body></html>\n"
    )


def metrics(reports: Sequence[Checked], seasons: Mapping[str, Season]) -> dict[str, float]:
    """Numbers of the load, over all its parks: few names, so that they can become time series."""
    numbers: dict[str, float] = {
        "parks": len(reports),
        "generation_rows": sum(report.generation_hours for report in reports),
        "weather_rows": sum(report.weather_rows for report in reports),
        "quarantined": sum(report.quarantined for report in reports),
        "hours": sum(report.hours for report in reports),
        "missing_hours": sum(report.missing for report in reports),
        "clocks_corrected": sum(
            1 for report in reports if report.clock and report.clock.corrected and report.clock_applied
        ),
        "seasons_unusual": sum(1 for season in seasons.values() if season.verdict in ("low", "high")),
    }
    numbers |= {f"flag_{word}": sum(report.flags.get(word, 0) for report in reports) for word in ALL}
    for kind, counts in (("quarantined", "reasons"), ("doubt", "doubts")):
        names = sorted({name for report in reports for name in getattr(report, counts)})
        numbers |= {f"{kind}_{name}": sum(getattr(report, counts).get(name, 0) for report in reports) for name in names}
    return {name: float(value) for name, value in numbers.items()}


def _cells(report: Checked, seasons: Mapping[str, Season]) -> list[str]:
    season = seasons.get(report.park_id)
    return [
        report.park_id,
        str(report.generation_hours),
        str(report.weather_rows),
        str(report.quarantined),
        _counted(report.flags),
        f"{report.missing} h" if report.missing else "none",
        report.clock.sentence(applied=report.clock_applied) if report.clock else "not looked at",
        season.verdict if season else "not looked at",
    ]


def _details(report: Checked, season: Season | None) -> list[str]:
    lines = []
    if report.reasons:
        lines.append(f"{report.park_id}: set aside: {_counted(report.reasons)}; see `pvf quarantine list`")
    if report.doubts:
        lines.append(f"{report.park_id}: weather that is odd: {_counted(report.doubts)}")
    if report.gaps:
        longest = ", ".join(f"{begin[:16]}Z {hours} h" for begin, hours in report.gaps[:3])
        lines.append(f"{report.park_id}: longest gaps: {longest}")
    if season is not None and season.usual is not None and season.verdict != "usual":
        low, middle, high = season.usual
        lines.append(
            f"{report.park_id}: the last week made {season.week:.0%} of clear sky; weeks of this season made "
            f"{low:.0%} to {high:.0%}, mostly {middle:.0%}"
        )
    return lines


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def _plot(season: Season) -> str:
    """Bars of the days, the season's usual band behind them."""
    if not season.share:
        return ""
    step, top = _WIDTH / len(season.share), 1.4
    band = ""
    if season.usual is not None:
        low, _, high = (min(value, top) for value in season.usual)
        y, tall = _HEIGHT * (1 - high / top), _HEIGHT * (high - low) / top
        band = f"<rect x='0' y='{y:.1f}' width='{_WIDTH}' height='{tall:.1f}' fill='#dbe9f6'/>"
    bars = "".join(
        f"<rect x='{n * step:.1f}' y='{_HEIGHT * (1 - min(value, top) / top):.1f}' width='{max(step - 1, 1):.1f}' "
        f"height='{_HEIGHT * min(value, top) / top:.1f}' fill='#e0a100'><title>{day} {value:.0%}</title></rect>"
        for n, (day, value) in enumerate(zip(season.days, season.share, strict=True))
        if not math.isnan(value) and value > 0
    )
    return f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' aria-label='share of clear sky'>{band}{bars}</svg>"
