"""An explanation as a picture: the hour step by step, and the hours of its day beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from pvforecast.explaining import Explanation

_COLOURS = {
    "weather": "#1f77b4", "sun": "#e6a400", "recent output": "#2ca02c", "calendar": "#9467bd",
    "park facts": "#8c564b", "other": "#7f7f7f", "after": "#c7c7c7",
}  # fmt: skip


def plot(explanation: Explanation, at: int, zone: str, path: Path) -> None:
    """Write a PNG: left, how base and groups add up to the forecast of hour `at`; right, the hours of its local day."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    local = [
        datetime.fromtimestamp(int(hour), UTC).astimezone(ZoneInfo(zone)) for hour in explanation.valid_at.astype(int)
    ]
    figure, (steps, day) = plt.subplots(1, 2, figsize=(12, 4.4), dpi=120, layout="constrained")
    moved = {name: values[at] for name, values in explanation.groups_kw.items()} | {"after": explanation.after_kw[at]}
    base = float(explanation.base_kw[at])
    names = ["base", *moved, "forecast"]
    sizes = [base, *moved.values(), explanation.forecast_kw[at]]
    begins = [0.0, *(base + np.cumsum([0.0, *moved.values()])[:-1]), 0.0]
    colours = ["#444444", *(_COLOURS[name] for name in moved), "#b35900"]
    steps.barh(names, sizes, left=begins, color=colours)
    for row, size in enumerate(sizes):
        sign = "" if names[row] in ("base", "forecast") else "+"
        steps.annotate(
            f"{size:{sign}.2f}", (begins[row] + max(size, 0.0), row), xytext=(4, -3), textcoords="offset points"
        )
    steps.invert_yaxis()
    steps.margins(x=0.15)
    steps.set_xlabel("kW")
    steps.set_title(
        f"{explanation.park_id}, {local[at]:%a %d %b %H:%M}, P{100 * explanation.level:g}", loc="left", fontsize=10
    )

    of_day = [n for n, hour in enumerate(local) if hour.date() == local[at].date()]
    hours = np.array([local[n].hour + local[n].minute / 60 for n in of_day])
    width = 0.9 * np.diff(hours, append=hours[-1] + 1).min()
    up, down = np.zeros(len(of_day)), np.zeros(len(of_day))
    for name, values in (explanation.groups_kw | {"after": explanation.after_kw}).items():
        own = values[of_day]
        bottom = np.where(own >= 0, up, down)
        day.bar(hours, own, bottom=bottom, color=_COLOURS[name], width=width, label=name)
        up, down = up + np.maximum(own, 0), down + np.minimum(own, 0)
    above = explanation.forecast_kw[of_day] - explanation.base_kw[of_day]
    day.step(hours, above, where="mid", color="#b35900", label="forecast - base")
    day.axhline(0.0, color="#444444", linewidth=0.6)
    day.set_xlabel(f"hour of {local[at]:%d %b}, {zone}")
    day.set_ylabel("kW, up or down from the base")
    day.set_title("the local day, from the issue time on", loc="left", fontsize=10)
    day.legend(frameon=False, fontsize=7, ncols=2)
    for axes in (steps, day):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
