"""Plots of a backtest as PNG bytes; matplotlib is imported only here, when one is drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from pvforecast.evaluation import metrics
from pvforecast.evaluation.rolling import MODEL, ParkForecasts
from pvforecast.known import Floats

Figures = dict[str, Any]

_AMBER, _BROWN, _BLUE, _GREY = "#e6a400", "#b35900", "#1f3b73", "#9aa0a6"
_COLOURS = ("#b35900", "#1f3b73", "#2e7d32", "#8e24aa", "#c62828", "#00838f", "#6d4c41", "#546e7a")
FANS = 6


def fans(forecast: ParkForecasts, zone: str, days: Sequence[str] = ()) -> bytes:
    """Fan charts of six issues of one park: those of `days` (local dates) first, then some spread over the test."""
    issues = _chosen_issues(forecast, days)
    figure, axes = _figure(-(-len(issues) // 2), 2, (11, 2.6 * -(-len(issues) // 2)))
    for panel, issue in zip(axes.flat, issues, strict=False):
        rows = np.flatnonzero(forecast.issued_at == issue)
        quantiles = forecast.quantiles[MODEL][rows].astype(float) * forecast.capacity_kw[rows, None]
        hours = [_local(instant, zone) for instant in forecast.valid_at[rows]]
        for nominal, shade in zip(reversed(metrics.BANDS), (0.18, 0.3, 0.45), strict=True):
            edges = metrics.band(quantiles, forecast.levels, nominal)
            if edges is not None:
                panel.fill_between(
                    hours, *edges, step="post", alpha=shade, color=_AMBER, linewidth=0, label=f"{nominal:.0%} band"
                )
        panel.step(hours, metrics.at_level(quantiles, forecast.levels, 0.5), where="post", color=_BROWN, label="P50")
        metered = forecast.target[rows] * forecast.capacity_kw[rows]
        panel.step(hours, metered, where="post", color=_BLUE, linewidth=1.2, label="metered")
        panel.set_title(f"issued {_local(issue, zone):%Y-%m-%d %H:%M %Z}", loc="left", fontsize=9)
        panel.tick_params(labelsize=7)
        panel.set_ylim(0, 1.1 * float(np.max(forecast.capacity_kw[rows])))
        _ticks(panel, zone)
    for panel in axes.flat[len(issues) :]:
        panel.set_visible(False)
    axes.flat[0].set_ylabel("kW")
    axes.flat[0].legend(frameon=False, fontsize=7, loc="upper left", ncols=2)
    return _png(figure)


def reliability(entries: dict[str, list[Figures]]) -> bytes:
    """Observed against nominal, with two block-bootstrap errors; one panel the whole test, one the seasons.

    A line leads from the share of hours at or below the quantile down to that below it, where they differ (0 at dawn).
    """
    figure, axes = _figure(1, 2, (10, 4.2))
    rows = entries["all"]
    level, observed = (np.array([row[key] for row in rows]) for key in ("level", "observed"))
    error = 2.0 * np.nan_to_num([row["standard_error"] for row in rows])
    left, right = axes.flat
    left.errorbar(level, observed, yerr=error, fmt="o-", color=_BROWN, ecolor=_AMBER, markersize=3, label="± 2 SE")
    left.vlines(level, [row["below"] for row in rows], observed, color=_BROWN, linewidth=0.8)
    left.set_title("whole test", loc="left", fontsize=9)
    for (name, season), colour in zip(((n, s) for n, s in entries.items() if n != "all" and s), _COLOURS, strict=False):
        below, reached = ([row[key] for row in season] for key in ("below", "observed"))
        right.plot(level, reached, "o-", color=colour, markersize=3, label=name)
        right.vlines(level, below, reached, color=colour, linewidth=0.8)
    right.set_title("by season", loc="left", fontsize=9)
    for panel in (left, right):
        panel.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8)
        panel.set_xlabel("nominal level")
        panel.legend(frameon=False, fontsize=8)
    left.set_ylabel("share of hours at or below")
    return _png(figure)


def errors(by_hour: Sequence[Figures], by_lead: Sequence[Figures]) -> bytes:
    """nMAE of each forecaster by solar hour and by lead hour."""
    figure, axes = _figure(1, 2, (10, 3.8))
    for panel, entries, key, label in (
        (axes.flat[0], by_hour, "solar_hour", "solar hour of the day"),
        (axes.flat[1], by_lead, "lead_hours", "hours from issue"),
    ):
        names = [name for name in entries[0] if name not in (key, "daylight_hours")] if entries else []
        for name, colour in zip(names, _COLOURS, strict=False):
            nmae = [100 * entry[name]["nmae"] for entry in entries]
            width = 2.0 if name == MODEL else 0.9
            panel.plot([entry[key] for entry in entries], nmae, color=colour, linewidth=width, label=name)
        panel.set_xlabel(label)
        panel.set_ylim(bottom=0)
    axes.flat[0].set_ylabel("nMAE, % of capacity")
    axes.flat[1].legend(frameon=False, fontsize=7)
    return _png(figure)


def skill_by_month(by_month: Sequence[Figures]) -> bytes:
    """CRPS skill against each baseline, month by month; below zero the model lost."""
    figure, axes = _figure(1, 1, (10, 3.6))
    panel = axes.flat[0]
    months = [entry["month"] for entry in by_month]
    for name, colour in zip(by_month[0]["skill"] if by_month else [], _COLOURS[1:], strict=False):
        interval = [entry["skill"][name]["crps"] for entry in by_month]
        value = np.array([100 * each["value"] for each in interval])
        reach = np.array(
            [[value[n] - 100 * each["low"], 100 * each["high"] - value[n]] for n, each in enumerate(interval)]
        ).T
        panel.errorbar(months, value, yerr=np.clip(np.nan_to_num(reach), 0, None), fmt="o-", color=colour,
                       markersize=3, linewidth=1, elinewidth=0.6, label=name)  # fmt: skip
    panel.axhline(0, color=_GREY, linewidth=0.8)
    panel.set_ylabel("CRPS skill, %")
    panel.tick_params(axis="x", labelrotation=60, labelsize=7)
    panel.legend(frameon=False, fontsize=7, ncols=3)
    return _png(figure)


def importance(names: Sequence[str], moved: Floats, count: int = 20) -> bytes:
    """By how much features move the median on the mean, the `count` strongest.

    Parameters
    ----------
    moved : fraction of capacity, one a name.
    """
    strongest = np.argsort(moved)[-count:]
    figure, axes = _figure(1, 1, (8, 0.8 + 0.22 * len(strongest)))
    panel = axes.flat[0]
    panel.barh([names[at] for at in strongest], 100.0 * moved[strongest], color=_AMBER)
    panel.set_xlabel("mean |SHAP|, % of capacity")
    panel.tick_params(labelsize=8)
    return _png(figure)


def _chosen_issues(forecast: ParkForecasts, days: Sequence[str]) -> list[np.datetime64]:
    """The last issue before solar six of each of `days`, up to half of the panels; the rest spread over the test."""
    issues = np.unique(forecast.issued_at)
    six = np.timedelta64(6 * 3600 - round(forecast.longitude * 240.0), "s")
    before = [issues[issues <= np.datetime64(text, "s") + six] for text in days]
    worst = list(dict.fromkeys(each[-1] for each in before if len(each)))[: FANS // 2]
    spread = issues[np.linspace(0, len(issues) - 1, FANS + 2).astype(int)[1:-1]] if len(issues) > FANS else issues
    return sorted([*worst, *[issue for issue in dict.fromkeys(spread) if issue not in worst][: FANS - len(worst)]])


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, dpi=100, layout="constrained", squeeze=False)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _ticks(panel: Any, zone: str) -> None:
    from matplotlib.dates import DateFormatter, HourLocator

    panel.xaxis.set_major_locator(HourLocator(byhour=(0, 12), tz=ZoneInfo(zone)))  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_formatter(DateFormatter("%d %b\n%H:%M", tz=ZoneInfo(zone)))  # type: ignore[no-untyped-call]


def _local(instant: np.datetime64, zone: str) -> Any:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(int(instant.astype("datetime64[s]").astype(np.int64)), UTC).astimezone(ZoneInfo(zone))


def _png(figure: Any) -> bytes:
    import matplotlib.pyplot as plt

    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    plt.close(figure)
    return sink.getvalue()
