"""What becomes of a forecast where snow lies on the modules: learned from hours in which it did.

The rest of the model does not see snow that lies, and hours of it are kept from it. Here the power that was metered in
such hours is put over the median that was forecast without knowing of the snow; the quantiles of that ratio are the
forecast, as far as there were days enough to know them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats

_PRIOR_DAYS = 5.0  # so many days under snow say as much as the forecast that knows of none
_MIN_MEDIAN = 0.02  # of capacity
_MAX_RATIO = 3.0


@dataclass(frozen=True)
class Snow:
    """`ratios`: quantiles of power over the usual median, one a level of the bundle, ascending; `share` of them."""

    ratios: tuple[float, ...]
    share: float

    def apply(self, quantiles: Floats, median: Floats, lying: npt.NDArray[np.bool_]) -> Floats:
        """Quantiles, those of rows with snow moved. Shape [n, levels]; `median` and `lying`: shape [n]."""
        if not lying.any():
            return quantiles
        under = np.maximum(median[lying], _MIN_MEDIAN)[:, None] * np.asarray(self.ratios)
        result = quantiles.copy()
        result[lying] = np.clip((1.0 - self.share) * quantiles[lying] + self.share * under, 0.0, 1.0)
        return result


def fit(target: Floats, median: Floats, days: int, levels: tuple[float, ...]) -> Snow | None:
    """From hours with snow, and forecasts of them that did not know; None without any.

    Parameters
    ----------
    days : how many days of parks these hours are of: the hours of one go together.
    """
    if days == 0:
        return None
    ratio = np.minimum(target / np.maximum(median, _MIN_MEDIAN), _MAX_RATIO)
    ratios = tuple(round(float(value), 6) for value in np.quantile(ratio, levels))
    return Snow(ratios, days / (days + _PRIOR_DAYS))
