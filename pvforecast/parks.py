"""A park and its facts, as people give them: validated here, at the edge."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from pvforecast.errors import InvalidInput
from pvforecast.site import Limit, Plane, Site

# Part of paths, topics and URLs: no dots, slashes or blanks, and ASCII alone.
ParkId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
MAX_ARRAYS, MAX_AVAILABILITY, MAX_GROUPS = 100, 1_000, 50
_CAPACITY_MISMATCH = 0.02  # of DC: how far the sum of the arrays may lie from the park's
_EARLIEST, _LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def _in_our_time(value: datetime) -> datetime:
    if not _EARLIEST <= value < _LATEST:
        raise ValueError("lies outside 1980 to 2099")
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds characters that can't be printed, e.g. a line end")
    return value


Instant = Annotated[AwareDatetime, AfterValidator(_in_our_time)]
Words = Annotated[str, AfterValidator(_printable)]


class Array(BaseModel):
    """One array of modules of a park that has several, e.g. its east roof."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Words = Field(default="", max_length=100)
    surface_tilt: float = Field(ge=0, le=90)
    surface_azimuth: float = Field(ge=0, lt=360)
    dc_capacity_kw: float = Field(gt=0, le=5_000_000)


class Availability(BaseModel):
    """A time in which a park can't do all it could: planned work, an outage, a limit by the grid operator.

    Attributes
    ----------
    begin, end : the time it holds in, [begin, end); no end: until further notice.
    available_fraction : 0-1 of the park that can produce.
    export_limit_kw : the limit in that time; None: that of the park.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    begin: Instant
    end: Instant | None = None
    available_fraction: float = Field(default=1.0, ge=0, le=1)
    export_limit_kw: float | None = Field(default=None, ge=0, le=5_000_000)
    note: Words = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Availability:
        if self.end is not None and self.end <= self.begin:
            raise ValueError("end must lie after begin")
        return self


class Park(BaseModel):
    """One photovoltaic park.

    Azimuth counts degrees clockwise from north (east 90, south 180, west 270). `valid_from` is when these facts began
    to hold: a re-powered park gets a second row with a later one.

    Attributes
    ----------
    elevation_m : 0 where it is not known; it matters little (0.01 % of clear-sky GHI a metre).
    timezone : IANA name; found from the coordinates where it is not given.
    dc_capacity_kw : of all arrays; their sum where it is not given.
    surface_tilt, surface_azimuth : of its only array, or of the largest of `arrays`, found where not given.
    arrays : where there is more than one.
    export_limit_kw : what the connection lets out at most, where that is less than `ac_capacity_kw`.
    availability : planned and known times of less, none of which overlap.
    groups : portfolios it belongs to.
    resolution : the interval its power is metered and forecast in.
    source : who delivers its generation.
    correct_clock : whether what is found about the logger's clock against the sun is applied; it is reported anyway.
    retired : out of service for good from `valid_from` on; its data stay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: ParkId
    name: Words = Field(min_length=1, max_length=200)
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    elevation_m: float = Field(default=0.0, ge=-450, le=6000)
    timezone: str
    ac_capacity_kw: float = Field(gt=0, le=5_000_000)
    dc_capacity_kw: float | None = Field(default=None, gt=0, le=15_000_000)
    surface_tilt: float = Field(ge=0, le=90)
    surface_azimuth: float = Field(ge=0, lt=360)
    source: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_:.+-]*$")
    note: str = Field(default="", max_length=2_000)
    valid_from: Instant = datetime(2000, 1, 1, tzinfo=UTC)
    arrays: tuple[Array, ...] = Field(default=(), max_length=MAX_ARRAYS)
    export_limit_kw: float | None = Field(default=None, ge=0, le=5_000_000)
    availability: tuple[Availability, ...] = Field(default=(), max_length=MAX_AVAILABILITY)
    groups: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_ .-]{0,62}$")], ...] = Field(
        default=(), max_length=MAX_GROUPS
    )
    resolution: Literal["PT1H", "PT15M"] = "PT1H"
    retired: bool = False
    correct_clock: bool = True

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """What follows from the rest: time zone, orientation of the largest array, DC capacity."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        if not filled.get("timezone"):
            found = timezone_at(filled.get("latitude"), filled.get("longitude"))
            if found:
                filled["timezone"] = found
        arrays = filled.get("arrays") or ()
        largest = _largest(arrays)
        if largest is not None:
            filled.setdefault("surface_tilt", largest.surface_tilt)
            filled.setdefault("surface_azimuth", largest.surface_azimuth)
            if filled.get("dc_capacity_kw") is None:
                filled["dc_capacity_kw"] = sum(Array.model_validate(array).dc_capacity_kw for array in arrays)
        return filled

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        if value not in _timezones():
            raise ValueError(f"{value[:60]!r} is no IANA time zone, e.g. Europe/Amsterdam")
        return value

    @field_validator("availability")
    @classmethod
    def _no_overlap(cls, value: tuple[Availability, ...]) -> tuple[Availability, ...]:
        ordered = sorted(value, key=lambda item: item.begin)
        for before, after in pairwise(ordered):
            if before.end is None or before.end > after.begin:
                raise ValueError(f"what begins {before.begin.isoformat()} overlaps {after.begin.isoformat()}")
        return tuple(ordered)

    @field_validator("groups")
    @classmethod
    def _each_group_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _plausible(self) -> Park:
        if self.dc_capacity_kw is not None and not 0.7 <= self.dc_capacity_kw / self.ac_capacity_kw <= 3.0:
            raise ValueError("dc_capacity_kw / ac_capacity_kw must lie in 0.7-3.0: is one of them in W or MW?")
        total = sum(array.dc_capacity_kw for array in self.arrays)
        if self.arrays and self.dc_capacity_kw and abs(total / self.dc_capacity_kw - 1) > _CAPACITY_MISMATCH:
            raise ValueError(f"the arrays add up to {total:g} kW, dc_capacity_kw is {self.dc_capacity_kw:g}")
        return self

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def site(self) -> Site:
        """What the feature code needs of this park."""
        dc_capacity_kw = sum(array.dc_capacity_kw for array in self.arrays)
        return Site(
            self.id,
            self.latitude,
            self.longitude,
            self.elevation_m,
            self.surface_tilt,
            self.surface_azimuth,
            self.ac_capacity_kw,
            self.timezone,
            tuple(
                Plane(array.surface_tilt, array.surface_azimuth, array.dc_capacity_kw / dc_capacity_kw)
                for array in self.arrays
            ),
            self.export_limit_kw,
            tuple(
                Limit.between(item.begin, item.end, item.available_fraction, item.export_limit_kw)
                for item in self.availability
            ),
            self.resolution,
        )


def timezone_at(latitude: object, longitude: object) -> str | None:
    """The IANA time zone at a place, None where the coordinates are none (whoever checks them says so)."""
    if not all(isinstance(value, int | float | str) and not isinstance(value, bool) for value in (latitude, longitude)):
        return None
    try:
        north, east = float(latitude), float(longitude)  # type: ignore[arg-type]
    except ValueError:
        return None
    if not (-90 <= north <= 90 and -180 <= east <= 180):
        return None
    import tzfpy  # loads its map when it is imported

    return tzfpy.get_tz(east, north) or None


def parse(values: dict[str, Any], where: str = "park") -> Park:
    """A park from plain values.

    Raises
    ------
    InvalidInput
        names the first field that is wrong, and what it may be.
    """
    try:
        return Park.model_validate(values)
    except ValidationError as error:
        raise said(error, where) from error


def said(error: ValidationError, where: str) -> InvalidInput:
    """What pydantic found first, as an error of ours: one line, the field named, no endless values."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))[:100] or where
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch" and field == "id":
        message = f"{str(first['input'])[:60]!r} is no park id"
        return InvalidInput(message, field=field, hint="letters, digits, - and _, 63 at most, no - or _ first")
    return InvalidInput(message, field=field)


def _largest(arrays: Any) -> Array | None:
    try:
        read = [Array.model_validate(array) for array in arrays]
    except (ValidationError, TypeError):
        return None  # the field's own check says what is wrong
    return max(read, key=lambda array: array.dc_capacity_kw, default=None)


def doubts(park: Park) -> list[str]:
    """What is allowed, and looks like a slip: said, never refused."""
    found = []
    away = park.surface_azimuth if park.latitude < 0 else (park.surface_azimuth + 180) % 360
    if abs(park.latitude) > 25 and park.surface_tilt >= 10 and not park.arrays and 135 < away < 225:
        pole, equator = ("north", 180) if park.latitude > 0 else ("south", 0)
        found.append(
            f"azimuth_deg {park.surface_azimuth:g} faces {pole}, away from the sun; from north, the equator is "
            f"at {equator}: are azimuths counted from south? (--azimuth south)"
        )
    there = timezone_at(park.latitude, park.longitude)
    if there and there != park.timezone:
        moment = datetime(2024, 1, 15, tzinfo=UTC)
        offsets = [moment.astimezone(ZoneInfo(name)).utcoffset() for name in (there, park.timezone)]
        apart = abs((offsets[0] - offsets[1]).total_seconds()) / 3600  # type: ignore[operator]
        if apart > 1.5:
            found.append(
                f"timezone {park.timezone} is {apart:g} h from {there}, where the coordinates lie: are they swapped?"
            )
    return found


@cache
def _timezones() -> set[str]:
    """Walking the tz database takes 15 ms, too long for each of a thousand parks."""
    return available_timezones()
