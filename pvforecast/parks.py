"""A park and its facts, as people give them: validated here, at the edge."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from pvforecast.site import Site

ParkId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class Park(BaseModel):
    """One photovoltaic park.

    Azimuth counts degrees east of north (south = 180). `valid_from` is when these facts began to hold: a re-powered
    park gets a second row with a later one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: ParkId
    name: str
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    elevation_m: float = Field(ge=-450, le=6000)
    timezone: str
    ac_capacity_kw: float = Field(gt=0, le=5_000_000)
    dc_capacity_kw: float | None = Field(default=None, gt=0)
    surface_tilt: float = Field(ge=0, le=90)
    surface_azimuth: float = Field(ge=0, lt=360)
    source: str
    note: str = ""
    valid_from: AwareDatetime = datetime(2000, 1, 1, tzinfo=UTC)

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone, e.g. Europe/Amsterdam")
        return value

    @model_validator(mode="after")
    def _plausible_ratio(self) -> Park:
        if self.dc_capacity_kw is not None and not 0.7 <= self.dc_capacity_kw / self.ac_capacity_kw <= 3.0:
            raise ValueError("dc_capacity_kw / ac_capacity_kw must lie in 0.7-3.0: is one of them in W or MW?")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def site(self) -> Site:
        """What the feature code needs of this park."""
        return Site(
            self.id,
            self.latitude,
            self.longitude,
            self.elevation_m,
            self.surface_tilt,
            self.surface_azimuth,
            self.ac_capacity_kw,
            self.timezone,
        )
