"""How a foreign file differs from the canonical one: names, units, labels, time zone. Given as YAML, or by options."""

from __future__ import annotations

import re
from collections.abc import Mapping as Dict
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from pvforecast.errors import InvalidInput, PvForecastError
from pvforecast.importing.cells import zone_of
from pvforecast.importing.files import shown

MAX_BYTES = 1 << 20

FACTORS: dict[str, dict[str, tuple[float, float]]] = {
    "power": {"W": (1e-3, 0), "kW": (1, 0), "MW": (1e3, 0), "GW": (1e6, 0)},
    "irradiance": {"W/m2": (1, 0), "W/m²": (1, 0), "kW/m2": (1e3, 0), "kJ/m2/h": (1 / 3.6, 0), "J/m2/h": (1 / 3600, 0),
                   "Wh/m2/h": (1, 0), "MJ/m2/h": (1e6 / 3600, 0)},
    "temperature": {"C": (1, 0), "°C": (1, 0), "K": (1, -273.15), "F": (5 / 9, -160 / 9), "°F": (5 / 9, -160 / 9)},
    "speed": {"m/s": (1, 0), "km/h": (1 / 3.6, 0), "kn": (0.514444, 0), "mph": (0.44704, 0)},
    "share": {"fraction": (1, 0), "1": (1, 0), "%": (0.01, 0), "okta": (0.125, 0)},
    "depth": {"mm": (1, 0), "cm": (10, 0), "m": (1e3, 0), "inch": (25.4, 0)},
    "length": {"m": (1, 0), "ft": (0.3048, 0)},
}  # fmt: skip
"""Quantity -> unit -> (factor, offset): canonical = value x factor + offset."""
ENERGIES = {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3}
"""Energy in the interval, to kWh; its mean power is that by the interval's hours."""
QUANTITIES = {
    "power_kw": "power", "export_limit_kw": "power", "dc_capacity_kw": "power", "ac_capacity_kw": "power",
    "ghi": "irradiance", "dni": "irradiance", "dhi": "irradiance", "temp_air": "temperature", "wind_speed": "speed",
    "cloud_cover": "share", "relative_humidity": "share", "available_fraction": "share", "precipitation": "depth",
    "elevation_m": "length",
}  # fmt: skip
Label = Literal["start", "middle", "end"]
Azimuth = Literal["north", "south", "south-west-positive", "south-east-positive"]


def duration(text: str, where: str) -> timedelta:
    """``6h``, ``90m``, ``1d``, ``30s``, or ISO 8601 ``PT6H``.

    Raises
    ------
    InvalidInput
        it is none, or longer than 30 days.
    """
    found = re.fullmatch(r"(?:P?T?)(\d{1,7})\s?(s|sec|m|min|h|d)", text.strip(), re.IGNORECASE)
    if found:
        unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2][0].lower()]
        if int(found[1]) * unit <= 30 * 86400:
            return timedelta(seconds=int(found[1]) * unit)
    raise InvalidInput(f"{text[:40]!r} is no time up to 30 days", field=where, hint="e.g. 6h, 90m, 30s, 1d")


def _zone(text: str) -> str:
    try:
        zone_of(text, "timezone")
    except InvalidInput as error:
        raise ValueError(f"{error.message} ({error.hint})") from error
    return text


def _duration(text: str) -> str:
    try:
        duration(text, "")
    except InvalidInput as error:
        raise ValueError(f"{error.message} ({error.hint})") from error
    return text


class Mapping(BaseModel):
    """What turns a foreign file into the canonical one. Every field may be left out.

    Attributes
    ----------
    rename : their column name -> ours.
    ignore : columns that are not read.
    constant : our column -> the value of all rows, for what the file does not say.
    units : our column -> the unit it is in.
    scale : our column -> a factor, applied before the unit.
    missing : texts that mean "no value", beside the usual ones.
    park_ids : their name of a park -> its id here.
    label : which end of its interval a time stands for.
    timezone : of times without an offset.
    time_format : as strptime, or ``unix``, ``unix_ms``; ISO 8601 when left out.
    period : length of an interval; found from the file's steps when left out.
    delay : from the start of a run, or the end of a measured interval, until it could be had.
    azimuth : where azimuths count from: clockwise from north; or from south, west positive, or east positive.
    decimal, delimiter, encoding : how the CSV is written; found out when left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rename: dict[str, str] = {}
    ignore: tuple[str, ...] = ()
    constant: dict[str, str | float | bool] = {}
    units: dict[str, str] = {}
    scale: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    missing: tuple[str, ...] = ()
    park_ids: dict[str, str] = {}
    label: Label = "start"
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    time_format: str | None = None
    period: Annotated[str, AfterValidator(_duration)] | None = None
    delay: Annotated[str, AfterValidator(_duration)] | None = None
    azimuth: Azimuth = "north"
    decimal: Literal[",", "."] | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = None

    @field_validator("units")
    @classmethod
    def _known_units(cls, value: dict[str, str]) -> dict[str, str]:
        for column, unit in value.items():
            conversion(column, unit)
        return value

    @field_validator("constant", mode="before")
    @classmethod
    def _constant_texts(cls, value: Any) -> Any:
        """YAML reads ``2024-01-01`` as a date."""
        if not isinstance(value, dict):
            return value
        return {str(k): v.isoformat() if isinstance(v, date) else v for k, v in value.items()}

    @field_validator("park_ids", "rename", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        """YAML reads ``1: site-1`` as a number."""
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else value

    @field_validator("missing", mode="before")
    @classmethod
    def _missing_texts(cls, value: Any) -> Any:
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else value


def conversion(column: str, unit: str) -> tuple[float, float]:
    """Factor and offset from a unit to the column's own.

    Raises
    ------
    ValueError
        the column has no unit, or not that one.
    """
    quantity = QUANTITIES.get(column)
    if quantity is None:
        raise ValueError(f"{column!r} has no unit to convert from (those that have: {', '.join(QUANTITIES)})")
    if column == "power_kw" and unit in ENERGIES:
        return ENERGIES[unit], 0.0
    table = FACTORS[quantity]
    if unit not in table:
        energies = list(ENERGIES) if column == "power_kw" else []
        raise ValueError(f"{unit!r} is no unit of {column} (known: {', '.join([*table, *energies])})")
    return table[unit]


def load(path: Path | None, options: Dict[str, Any] | None = None) -> Mapping:
    """A mapping file, with what options say instead.

    Parameters
    ----------
    options : field -> value; None: not given. Dictionaries add to those of the file.

    Raises
    ------
    InvalidInput
        the file can't be read, is no YAML, or has a field that is wrong; an option is.
    """
    values = {} if path is None else _read(path)
    given = {name: value for name, value in (options or {}).items() if value is not None}
    merged = {**values}
    for name, value in given.items():
        held = merged.get(name)
        merged[name] = {**held, **value} if isinstance(held, dict) and isinstance(value, dict) else value
    try:
        return Mapping.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        at = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        where = f"--{name}".replace("units", "unit") if name in given or path is None else f"{shown(path)}: {at}"
        fields = ", ".join(Mapping.model_fields)
        hint = f"known: {fields}" if first["type"] == "extra_forbidden" else "see docs/import.md"
        raise InvalidInput(said, field=where, hint=hint) from error


def _read(path: Path) -> dict[str, Any]:
    where = shown(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidInput("is larger than 1 MiB", field=where, hint="a mapping is a few lines of YAML")
        text = data.decode("utf-8-sig")
        if re.search(r"(?m)[*&][A-Za-z0-9_]+\s", text):
            raise InvalidInput("uses YAML anchors", field=where, hint="write the values out")
        values = yaml.safe_load(text)
    except PvForecastError:
        raise
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise InvalidInput(f"can't be read: {said[:300]}", field=where, hint="YAML, see docs/import.md") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InvalidInput("is no mapping", field=where, hint="lines like `rename: {Leistung: power_kw}`")
    return values
