"""The facts of a park that physics needs. Plain data: imported by training, serving and the drift job alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Site:
    """One park as the feature code sees it.

    Attributes
    ----------
    latitude, longitude : degrees, north and east positive.
    elevation_m : metres above sea level.
    surface_tilt : degrees from horizontal.
    surface_azimuth : degrees east of north (south = 180).
    ac_capacity_kw : kW, the power that forecasts are a fraction of.
    timezone : IANA name; used only for "day-ahead of local day D".
    """

    park_id: str
    latitude: float
    longitude: float
    elevation_m: float
    surface_tilt: float
    surface_azimuth: float
    ac_capacity_kw: float
    timezone: str

    def as_dict(self) -> dict[str, str | float]:
        return asdict(self)
