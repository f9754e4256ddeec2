"""What each rung of the ladder does to the band: the same unseen rows, with and without weather and recent output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pvforecast.features import Features
from pvforecast.known import Floats
from pvforecast.model import calibration, columns
from pvforecast.model.calibration import RUNGS

MOST, FEWEST = 1_000, 100
"""Rows that are measured; below, nothing is said."""

Rows = npt.NDArray[np.int64]


def measured(features: Features, usable: npt.NDArray[np.bool_], names: Sequence[str]) -> Rows:
    """Which rows to measure on: some of those with all there is to go by, spread evenly; none where they are few."""
    full: Rows = np.flatnonzero(usable & (calibration.rungs(features, names) == 0))
    kept = min(MOST, len(full)) if len(full) >= FEWEST else 0
    spread: Rows = full[np.linspace(0, len(full) - 1, kept).astype(int)]
    return spread


def on_each_rung(features: Features, names: Sequence[str]) -> Features:
    """The rows as each of `RUNGS` would show them, one block below the other. Shape [4 n, f]."""
    return np.concatenate([without(features, names, weather=at >= 2, recent=at % 2 == 1) for at in range(len(RUNGS))])


def without(features: Features, names: Sequence[str], *, weather: bool, recent: bool) -> Features:
    """A copy that lacks what only weather, or only recent output tells; snow is told by both."""
    result = features.copy()
    lacking = (columns.weather(names) if weather else []) + (columns.recent(names) if recent else [])
    result[:, lacking + (columns.snow(names) if weather or recent else [])] = np.nan
    return result


def ratios(
    quantiles: Floats,
    features: Features,
    lead_hours: Floats,
    moves: Floats,
    levels: tuple[float, ...],
    names: Sequence[str],
) -> dict[str, float] | None:
    """Mean width of the calibrated band by rung, as a multiple of that of `full`; None where nothing was measured.

    Parameters
    ----------
    quantiles, features : of `on_each_rung`, forecast by ensembles that had not seen these days. Shape [4 n, ...].
    lead_hours : shape [n]. moves : of `calibration.fit`.
    """
    if not len(quantiles):
        return None
    where = calibration.cells(features, np.tile(lead_hours, len(RUNGS)), names)
    made = calibration.apply(quantiles, moves, levels, where)
    mean = calibration.width(made, levels).reshape(len(RUNGS), -1).mean(axis=1)
    return {name: round(float(of_rung / mean[0]), 3) for name, of_rung in zip(RUNGS, mean, strict=True)}
