"""Which features a model takes: their names, order and version; and what the names mean to a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

NEIGHBOURS = (-2, -1, 1, 2)
EXTRA_NEIGHBOURS = (-1, 1)

SUN = (
    "sun_elevation", "sun_azimuth", "cos_aoi", "ghi_clear", "poa_clear", "clear_sky_power", "sunlit_fraction",
)  # fmt: skip
WEATHER = (
    "ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover", "relative_humidity", "precipitation",
    "clear_sky_index", "poa", "temp_cell", "physical_power",
    *(f"ghi_{step:+d}h" for step in NEIGHBOURS),
    *(f"physical_power_{step:+d}h" for step in NEIGHBOURS),
    *(f"clear_sky_index_{step:+d}h" for step in NEIGHBOURS),
    "clear_sky_index_spread", "run_lead_hours",
)  # fmt: skip
CALENDAR = ("solar_time_sin", "solar_time_cos", "day_of_year_sin", "day_of_year_cos")
FACTS = ("surface_tilt", "surface_azimuth", "latitude", "elevation_m", "interval_minutes")
LEAD = "lead_hours"
RECENT = (
    "relative_1h", "relative_3h", "relative_24h", "performance_1h", "performance_3h", "performance_24h",
)  # fmt: skip
"""What was metered before the issue time; NaN of a park that has no history."""
FROST_PERFORMANCE, WARMEST = "frost_performance", "warmest_since_issue"
SNOW = (FROST_PERFORMANCE, WARMEST)
"""Whether snow lies on the modules; of them only `pvforecast.model.snow` learns."""

_FIRST_NAMES = (
    "sun_elevation", "sun_azimuth", "cos_aoi", "ghi_clear", "poa_clear",
    "ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover",
    "clear_sky_index", "poa", "temp_cell", "physical_power",
    *(f"ghi_{step:+d}h" for step in NEIGHBOURS),
    *(f"physical_power_{step:+d}h" for step in NEIGHBOURS),
    "hour_sin", "hour_cos", "day_of_year_sin", "day_of_year_cos", "lead_hours",
    "lag_1d", "lag_2d", "lag_7d", "mean_7d_same_hour",
    "relative_1h", "relative_3h", "relative_24h",
    "surface_tilt", "surface_azimuth", "latitude", "elevation_m",
)  # fmt: skip

_EXTRA = re.compile(r"(?P<column>x_.+?)(?:_(?P<step>[+-]\d+)h)?")


@dataclass(frozen=True)
class FeatureSpec:
    """Ordered feature names and the version of their definitions; stored in every model bundle.

    Attributes
    ----------
    version : 1: the sun of an interval stands where it is at the interval's middle. 2: at the middle of its sunlit
        part. Features of both are built, so that an older bundle can still be served.
    """

    names: tuple[str, ...]
    version: int = 2

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over version and names."""
        return hashlib.sha256(json.dumps([self.version, self.names]).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.names)


DEFAULT_SPEC = FeatureSpec((*SUN, *WEATHER, *CALENDAR, *FACTS, LEAD, *RECENT, *SNOW))
"""The features of a model that no other is asked of. docs/features.md gives unit and reason of each."""
FIRST_SPEC = FeatureSpec(_FIRST_NAMES, 1)
"""What the first bundles were made with."""
WEATHER_ONLY_SPEC = FeatureSpec(
    tuple(n for n in _FIRST_NAMES if not n.startswith(("lag_", "mean_7d", "relative_", "lead_"))), 1
)
"""Without anything metered: what the frozen drift reference uses, so that it cannot absorb a slow loss."""


def with_extra(columns: Iterable[str], spec: FeatureSpec = DEFAULT_SPEC) -> FeatureSpec:
    """`spec` and, of each free weather column (``x_*``), its value and those of the hours before and after."""
    names = (n for column in sorted(set(columns)) for n in (column, *(f"{column}_{s:+d}h" for s in EXTRA_NEIGHBOURS)))
    return FeatureSpec((*spec.names, *names), spec.version)


def extra_of(name: str) -> tuple[str, int] | None:
    """Column and hours away of a free feature: ``x_haze_-1h`` is ("x_haze", -1); None of any other."""
    found = _EXTRA.fullmatch(name)
    return (found["column"], int(found["step"] or 0)) if found else None


def from_weather(name: str) -> bool:
    """Whether a feature is NaN where no weather run reaches."""
    return name in WEATHER or extra_of(name) is not None
