"""How far a row lies from the seasons that were learned from.

Trees cannot answer more than they have seen: a fleet that was onboarded in winter has never seen a spring sun. What
tells the seasons apart is the sun's declination, which is known for any day.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pvforecast.features import Features
from pvforecast.known import Floats

_TILT_DEG = 23.44
_SOLSTICE_DAYS = 10.0  # before the year's end
_REACH_DEG = 8.0  # of declination: so far beyond what was seen, nothing that was seen holds


def declination(features: Features, names: Sequence[str]) -> Floats:
    """The sun's declination, degrees, from the calendar features. Shape [n].

    Cooper 1969 (Solar Energy 12), written with the cosine of the day of year.
    """
    sine, cosine = (features[:, names.index(f"day_of_year_{part}")].astype(np.float64) for part in ("sin", "cos"))
    shift = 2 * np.pi * _SOLSTICE_DAYS / 365.25
    degrees: Floats = -_TILT_DEG * (cosine * np.cos(shift) - sine * np.sin(shift))
    return degrees


def unseen(declinations: Floats, seen: tuple[float, float]) -> Floats:
    """0 inside the range of declinations that was learned from, rising to 1 far outside. Shape [n]."""
    low, high = seen
    beyond = np.maximum(np.maximum(low - declinations, declinations - high), 0.0)
    return np.clip(beyond / _REACH_DEG, 0.0, 1.0)
