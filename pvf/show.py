"""A forecast for people: a table, and a fan chart."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from rich.table import Table

from pvforecast.known import Floats

SHOWN = ("0.1", "0.5", "0.9")


def times(prediction: dict[str, Any], zone: str) -> list[datetime]:
    """Local starts of the hours."""
    return [datetime.fromisoformat(text).astimezone(ZoneInfo(zone)) for text in prediction["valid_at"]]


def table(prediction: dict[str, Any], zone: str, metered_kw: Floats | None = None) -> Table:
    """P10, P50 and P90 of each hour, and what was metered where the replay knows it. Nights are left out."""
    power = [np.array(prediction["power_kw"][level]) for level in SHOWN]
    title = f"{prediction['park_id']}: issued {prediction['issued_at']}, model version {prediction['model_version']}"
    result = Table(
        title=title,
        title_justify="left",
        caption=f"kW, hour starts in {zone}; night hours left out",
        caption_justify="left",
    )
    result.add_column("hour")
    for name in ("P10", "P50", "P90", *(["metered"] if metered_kw is not None else [])):
        result.add_column(name, justify="right")
    for i, hour in enumerate(times(prediction, zone)):
        if power[2][i] == 0:
            continue
        cells = [f"{values[i]:.2f}" for values in power]
        if metered_kw is not None:
            cells.append("-" if np.isnan(metered_kw[i]) else f"{metered_kw[i]:.2f}")
        result.add_row(hour.strftime("%a %d %b %H:%M"), *cells)
    return result


def fan_chart(prediction: dict[str, Any], zone: str, path: Path, metered_kw: Floats | None = None) -> None:
    """Write a PNG: the bands around the median, and metered power beside it."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.dates import DateFormatter, HourLocator

    hours: Any = times(prediction, zone)
    power = {level: np.array(values) for level, values in prediction["power_kw"].items()}
    levels = sorted(power, key=float)
    figure, axes = plt.subplots(figsize=(10, 4.2), dpi=120, layout="constrained")
    for low, high, shade in zip(levels, reversed(levels), (0.15, 0.25, 0.4), strict=False):
        if float(low) >= float(high):
            break
        label = f"P{float(low) * 100:g}-P{float(high) * 100:g}"
        axes.fill_between(
            hours, power[low], power[high], step="post", alpha=shade, color="#e6a400", linewidth=0, label=label
        )
    axes.step(hours, power["0.5"], where="post", color="#b35900", label="P50")
    if metered_kw is not None:
        axes.step(hours, metered_kw, where="post", color="#1f3b73", linewidth=1.2, label="metered")
    axes.set_ylabel("kW, mean over the hour")
    axes.set_title(
        f"{prediction['park_id']}: issued {prediction['issued_at']}, model version {prediction['model_version']}",
        loc="left",
    )
    axes.xaxis.set_major_locator(HourLocator(byhour=(0, 6, 12, 18), tz=ZoneInfo(zone)))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%d %b\n%H:%M", tz=ZoneInfo(zone)))  # type: ignore[no-untyped-call]
    axes.set_ylim(0, 1.15 * float(max(power[levels[-1]].max(), 0.01)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=5, loc="upper left", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
