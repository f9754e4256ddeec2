"""Conformal calibration: bands that hold what they say, for each rung of the ladder, lead time and sky.

From forecasts of days that the model had not seen: each quantile is moved by the quantile of its own errors, measured
in widths of the forecast's band, so that a wide band moves more than a narrow one (after Romano et al. 2019,
Conformalized Quantile Regression; scaled as in Kivaranovic et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pvforecast.features import Features
from pvforecast.known import Floats
from pvforecast.model.columns import column, has_recent

LEAD_EDGES = (0.0, 3.0, 6.0, 24.0, 48.0)
"""Hours; a bin reaches to the next edge, the last for ever."""
SKY_EDGES = (0.0, 0.4, 0.85)
"""Clear-sky index of the forecast; overcast, broken, clear."""
RUNGS = ("full", "no recent generation", "no weather", "neither")
"""What a forecast has to go by."""
BLIND = 2
"""From this rung on there is no weather."""

SHAPE = (len(RUNGS), len(LEAD_EDGES), len(SKY_EDGES))

_PRIOR_ROWS = 200.0  # a cell of so many rows says as much as all it is part of
_MIN_WIDTH = 0.02  # of capacity
_OUTER = (0.1, 0.9)

Cells = npt.NDArray[np.int64]


def cells(features: Features, lead_hours: Floats | Features, names: Sequence[str]) -> tuple[Cells, Cells, Cells]:
    """Rung, lead bin and sky bin of each row. Each of shape [n]."""
    index = column(features, names, "clear_sky_index").astype(np.float64)
    lead = np.clip(np.searchsorted(LEAD_EDGES, np.nan_to_num(lead_hours), side="right") - 1, 0, len(LEAD_EDGES) - 1)
    sky = np.clip(np.searchsorted(SKY_EDGES, np.nan_to_num(index), side="right") - 1, 0, len(SKY_EDGES) - 1)
    return rungs(features, names), lead, sky


def rungs(features: Features, names: Sequence[str]) -> Cells:
    """The rung of each row, an index into `RUNGS`. Shape [n]."""
    blind = np.isnan(column(features, names, "physical_power"))
    return 2 * blind.astype(np.int64) + ~has_recent(features, names)


def counted(rung: Cells) -> dict[str, int]:
    """How many rows are on each rung; rungs without any are left out."""
    return {name: int((rung == at).sum()) for at, name in enumerate(RUNGS) if (rung == at).any()}


def fit(
    quantiles: Floats, target: Floats, levels: tuple[float, ...], where: tuple[Cells, Cells, Cells]
) -> npt.NDArray[np.float64]:
    """Moves of each quantile, in widths of the band; shape [rungs, lead bins, sky bins, levels].

    A cell with few rows leans on what it is part of: its lead bins together, then its rung, then all rows.

    Parameters
    ----------
    quantiles : of days that were not seen, ascending, shape [n, levels].
    target : shape [n]. where : of `cells`.
    """
    errors = (target[:, None] - quantiles) / width(quantiles, levels)[:, None]
    rung, lead, sky = where
    everywhere = _moves(errors, np.ones(len(target), bool), levels, np.zeros(len(levels)))
    table = np.zeros((*SHAPE, len(levels)))
    for r in range(len(RUNGS)):
        of_rung = _moves(errors, rung == r, levels, everywhere)
        for s in range(len(SKY_EDGES)):
            of_sky = _moves(errors, (rung == r) & (sky == s), levels, of_rung)
            for at in range(len(LEAD_EDGES)):
                table[r, at, s] = _moves(errors, (rung == r) & (sky == s) & (lead == at), levels, of_sky)
    return table


def apply(
    quantiles: Floats, table: npt.NDArray[np.float64], levels: tuple[float, ...], where: tuple[Cells, Cells, Cells]
) -> Floats:
    """Calibrated quantiles, ascending, within [0, 1]. Shape [n, levels]."""
    moved = quantiles + table[where] * width(quantiles, levels)[:, None]
    return np.clip(np.sort(moved, axis=1), 0.0, 1.0)


def width(quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """Of the band that holds the central four fifths, at least a fiftieth of capacity. Shape [n]."""
    low, high = (int(np.argmin(np.abs(np.asarray(levels) - level))) for level in _OUTER)
    return np.maximum(quantiles[:, high] - quantiles[:, low], _MIN_WIDTH)


def _moves(errors: Floats, inside: npt.NDArray[np.bool_], levels: tuple[float, ...], parent: Floats) -> Floats:
    n = int(inside.sum())
    if n == 0:
        return parent
    own = np.array([np.quantile(errors[inside, at], level) for at, level in enumerate(levels)])
    result: Floats = (n * own + _PRIOR_ROWS * parent) / (n + _PRIOR_ROWS)
    return result
