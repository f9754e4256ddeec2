"""A picture of what an import read: each day's mean, and the mean day, by which a wrong label or zone is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pvforecast.errors import InvalidInput
from pvforecast.importing.survey import Survey

SHOWN = 8  # parks, those with most rows


def draw(survey: Survey, kind: str, path: Path) -> None:
    """Write a PNG: on the left each day's mean, on the right the mean of each hour of the day (UTC).

    Raises
    ------
    InvalidInput
        the file can't be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    unit = "kW" if kind == "generation" else "GHI, W/m²"
    parks = [park for park, _ in survey.parks.most_common(SHOWN)]
    figure, axes = plt.subplots(
        len(parks), 2, figsize=(11, 1.2 + 1.7 * len(parks)), dpi=110, squeeze=False, layout="constrained",
        gridspec_kw={"width_ratios": [3, 1]}, sharex="col",
    )  # fmt: skip
    for row, park in zip(axes, parks, strict=True):
        days, means = _means(survey.daily.get(park, {}))
        row[0].plot(days, means, ".", markersize=2, color="#b35900")
        hours, profile = _means(survey.profile.get(park, {}))
        row[1].step(hours, profile, where="post", color="#1f3b73")
        row[0].set_title(f"{park}: {survey.parks[park]:,} rows", loc="left", fontsize=9)
        row[0].set_ylabel(unit, fontsize=8)
        for plot in row:
            plot.spines[["top", "right"]].set_visible(False)
            plot.tick_params(labelsize=7)
    axes[-1][0].set_xlabel("mean of each day (UTC)", fontsize=8)
    axes[-1][1].set_xlabel("mean day, hour UTC, labels as in the file", fontsize=8)
    axes[-1][1].set_xticks(range(0, 25, 6))
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        hint = "name a file in a folder that is there"
        raise InvalidInput(f"can't be written: {error}", field="--plot", hint=hint) from error
    finally:
        plt.close(figure)


def _means(sums: dict[Any, tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    keys = sorted(at for at, (_, count) in sums.items() if count)
    return np.array(keys), np.array([sums[at][0] / sums[at][1] for at in keys])
