"""The facts of a park that physics needs. Plain data: imported by training, serving and the drift job alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Plane(NamedTuple):
    """One array of modules: degrees from horizontal, degrees east of north, its share of the park's DC capacity."""

    surface_tilt: float
    surface_azimuth: float
    share: float


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

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Every array of the park, one at least."""
        return self.arrays or (Plane(self.surface_tilt, self.surface_azimuth, 1.0),)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Site:
        """The inverse of `as_dict`, also after a trip through JSON."""
        return cls(**{**values, "arrays": tuple(Plane(*plane) for plane in values.get("arrays", ()))})
