"""The words that say why an interval is no evidence of what a park can do.

They stand in the column `flags` of ``processed/generation``, sorted, by blanks. A censored interval is not learned
from and no lag looks at it; scores, reports and the drift job still see it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

CURTAILED = "curtailed"  # held below what was possible: stated by the sender, or a flat top under a bright sky
OUTAGE = "outage"  # out of service, wholly or in part: stated, or no power in bright daylight
SNOW = "snow"  # modules covered: next to no power under a bright sky after frost
FROZEN = "frozen"  # the meter repeats itself
COUNTER = "counter"  # power and the inverter's energy counter disagree: informational, either may be wrong
HELD = "held"  # the drift job found a fault in the data, and nobody has said that there is none
CLIPPED = "clipped"  # at the inverter's or the connection's limit: how the park works, and learned from

CENSORED = frozenset({CURTAILED, OUTAGE, SNOW, FROZEN, HELD})
ALL = (CURTAILED, OUTAGE, SNOW, FROZEN, CLIPPED, COUNTER)


def join(words: Iterable[str]) -> str:
    """As they are stored: sorted, each once."""
    return " ".join(sorted(set(words)))


def censored(flags: npt.NDArray[np.str_], words: frozenset[str] = CENSORED) -> npt.NDArray[np.bool_]:
    """Which intervals are no evidence, for one of `words`. Shape as `flags`."""
    unique, inverse = np.unique(flags, return_inverse=True)
    bad = np.array([not words.isdisjoint(text.split()) for text in unique], dtype=bool)
    return bad[inverse] if len(flags) else np.zeros(0, dtype=bool)
