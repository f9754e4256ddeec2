"""What predictor and transformer both know of an explanation. Apart from `explaining`, which loads XGBoost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EXPLAINS = (
    "the XGBoost parts of the model, its boosted quantiles and its correction by recent output (their SHAP values); "
    "what the forests, calibration, clipping and the night rule change is told as 'after'"
)


@dataclass(frozen=True)
class Contributions:
    """By group, to the answers of XGBoost's model of one level: float32 [n, groups + 1], the base last.

    Fraction of `ac_capacity_kw`; base and groups add up to XGBoost's own answer.
    """

    level: float
    groups: tuple[str, ...]
    values: npt.NDArray[np.float32]
