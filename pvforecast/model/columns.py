"""What the columns of a feature row mean to the model. A spec may lack some: what they tell is then not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pvforecast.features import Features
from pvforecast.features.spec import LEAD, RECENT, SNOW, from_weather


def column(features: Features, names: Sequence[str], name: str) -> Features:
    """One feature of all rows; NaN where the spec lacks it. Shape [n]."""
    return features[:, names.index(name)] if name in names else np.full(len(features), np.nan, np.float32)


def base(names: Sequence[str]) -> list[int]:
    """Columns of what does not depend on metered power or on the issue time."""
    return [at for at, name in enumerate(names) if name not in (*RECENT, *SNOW, LEAD)]


def weather(names: Sequence[str]) -> list[int]:
    """Columns that are NaN where no weather run reaches."""
    return [at for at, name in enumerate(names) if from_weather(name)]


def recent(names: Sequence[str]) -> list[int]:
    """Columns that are NaN where nothing metered lately is known."""
    return [at for at, name in enumerate(names) if name in RECENT]


def snow(names: Sequence[str]) -> list[int]:
    """Columns that tell whether snow lies on the modules."""
    return [at for at, name in enumerate(names) if name in SNOW]


def has_recent(features: Features, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether anything metered lately is known. Shape [n]."""
    missing = np.isnan(features[:, recent(names)])
    return np.asarray(~missing.all(axis=1))
