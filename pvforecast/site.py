"""The facts of a park that physics needs. Plain data: imported by training, serving and the drift job alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

PERIODS = {"PT1H": np.timedelta64(3600, "s"), "PT15M": np.timedelta64(900, "s")}


class Plane(NamedTuple):
    """One array of modules: degrees from horizontal, degrees east of north, its share of the park's DC capacity."""

    surface_tilt: float
    surface_azimuth: float
    share: float


class Limit(NamedTuple):
    """A time in which the park can't deliver all it could, [begin, end) in seconds since 1970, UTC; no end: for good.

    `available_fraction` (0-1) of the park can produce; `export_limit_kw` is the limit in that time, None: the park's.
    """

    begin: int
    end: int | None
    available_fraction: float
    export_limit_kw: float | None

    @classmethod
    def between(
        cls, begin: datetime, end: datetime | None, available_fraction: float, export_limit_kw: float | None
    ) -> Limit:
        """From aware datetimes."""
        return cls(
            int(begin.timestamp()), None if end is None else int(end.timestamp()), available_fraction, export_limit_kw
        )


@dataclass(frozen=True)
class Site:
    """One park as the feature code sees it.

    Attributes
    ----------
    latitude, longitude : degrees, north and east positive.
    elevation_m : metres above sea level.
    surface_tilt : degrees from horizontal; of the largest array.
    surface_azimuth : degrees east of north (south = 180); of the largest array.
    ac_capacity_kw : kW, the power that forecasts are a fraction of.
    timezone : IANA name; used only for "day-ahead of local day D".
    arrays : the park's planes where it has more than one (east and west); shares add up to 1.
    export_limit_kw : what the connection lets out at most, None: all the park can produce.
    availability : times of less, known or planned, ascending, none of which overlap. Physics knows neither.
    resolution : ISO 8601 duration of the interval that its power is metered and forecast in, a key of `PERIODS`.
    """

    park_id: str
    latitude: float
    longitude: float
    elevation_m: float
    surface_tilt: float
    surface_azimuth: float
    ac_capacity_kw: float
    timezone: str
    arrays: tuple[Plane, ...] = ()
    # Not hashed: sites are keys of caches, and a long schedule would slow each look-up.
    export_limit_kw: float | None = field(default=None, hash=False)
    availability: tuple[Limit, ...] = field(default=(), hash=False)
    resolution: str = "PT1H"

    @property
    def period(self) -> np.timedelta64:
        """The interval that its power is metered and forecast in."""
        return PERIODS[self.resolution]

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Every array of the park, one at least."""
        return self.arrays or (Plane(self.surface_tilt, self.surface_azimuth, 1.0),)

    def as_dict(self) -> dict[str, Any]:
        """Plain values. A park without limits has no fields for them: its snapshots keep the bytes they always had."""
        values = asdict(self)
        if self.export_limit_kw is None and not self.availability:
            del values["export_limit_kw"], values["availability"]
        if self.resolution == "PT1H":
            del values["resolution"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Site:
        """The inverse of `as_dict`, also after a trip through JSON, and of what was written before limits were."""
        planes = tuple(Plane(*plane) for plane in values.get("arrays", ()))
        limits = tuple(Limit(*limit) for limit in values.get("availability", ()))
        return cls(**{**values, "arrays": planes, "availability": limits})
