"""How a sender's messages are to be read: a file that people write, checked when it is loaded.

One rule a kind of message. The canonical message is a rule like any other, see `CANONICAL`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pvforecast.errors import InvalidInput
from pvforecast.telemetry.topics import Pattern

PERIODS_S = (60, 300, 600, 900, 1800, 3600)
_TO_KW = {"W": 1e-3, "kW": 1.0, "MW": 1e3}
_TO_KWH = {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3}
_PATH = r"^[^.\s]+(\.[^.\s]+)*$"

Path_ = Annotated[str, Field(pattern=_PATH, max_length=200)]
_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Number(_Strict):
    """A number in a payload.

    Attributes
    ----------
    path : keys and positions by dots, e.g. ``data.0.power``; empty: the payload itself is the number.
    scale : to multiply by.
    exponent : path of a power of ten to multiply by as well (SunSpec's scale factors).
    text : a number in quotes counts too.
    """

    path: str = ""
    scale: float = Field(default=1.0, gt=-1e9, lt=1e9)
    exponent: Path_ | None = None
    text: bool = False

    @field_validator("path")
    @classmethod
    def _dotted(cls, value: str) -> str:
        if value and not re.match(_PATH, value):
            raise ValueError("keys by dots, e.g. data.0.power")
        return value


class Power(_Number):
    """Power: positive for export; `sign: -1` where the sender counts the other way."""

    unit: Literal["W", "kW", "MW"]
    sign: Literal[1, -1] = 1

    @property
    def factor(self) -> float:
        """To kW."""
        return _TO_KW[self.unit] * self.scale * self.sign


class Energy(_Number):
    """A counter that only grows.

    Attributes
    ----------
    bits : of the sender's register, where it rolls over to 0: 32 with `unit: Wh` after 4,294,967,295 Wh.
    """

    unit: Literal["Wh", "kWh", "MWh"]
    bits: Literal[16, 32, 48, 64] | None = None

    @model_validator(mode="after")
    def _one_modulus(self) -> Energy:
        if self.bits is not None and self.exponent is not None:
            raise ValueError("bits and exponent exclude each other: use scale where the power of ten is fixed")
        return self

    @property
    def factor(self) -> float:
        """To kWh."""
        return _TO_KWH[self.unit] * self.scale


class Time(_Strict):
    """When it was measured: the payload says so, or it counts as measured when it arrives.

    Attributes
    ----------
    path : where the payload says it; none: arrival.
    unit : seconds or milliseconds since 1970 UTC, or ISO 8601.
    timezone : IANA name, for ISO times without an offset. Times that a clock change skips or doubles are refused.
    """

    path: Path_ | None = None
    unit: Literal["s", "ms", "iso"] = "iso"
    timezone: str | None = None

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone, e.g. Europe/Amsterdam")
        return value


class Rule(_Strict):
    """One kind of message.

    Attributes
    ----------
    topic : pattern, e.g. ``N/{park}/pvinverter/{device}/Ac/Power``; not needed for REST.
    park, device : where the topic does not name them.
    parks, devices : names in the topic -> our ids; a name that is not listed counts as it stands.
    same : path in the payload -> `park` or `device`: what it says must be what the topic says.
    good : path in the payload -> values that mean good quality; absent and null count as good.
    values : `instant`: a sample that stands for the period it falls in. `mean`: of the interval that `label` and
        `period_s` name. `counter`: no power is sent; it is the mean between counter readings, on a grid of `period_s`.
    period_s : what one value stands for: the sender's interval.
    label : of a mean's interval.
    max_gap_s : counters: over a longer pause nothing is known.
    source : as stored; by default ``mqtt:<name>``.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")
    topic: str = ""
    park: str | None = None
    device: str | None = None
    parks: dict[str, str] = {}
    devices: dict[str, str] = {}
    same: dict[Path_, Literal["park", "device"]] = {}
    good: dict[Path_, tuple[str | int | bool, ...]] = {}
    power: Power | None = None
    energy_total: Energy | None = None
    available_fraction: _Number | None = None
    export_limit: Power | None = None
    curtailed: Path_ | None = None
    time: Time = Time()
    values: Literal["instant", "mean", "counter"] = "instant"
    period_s: int = 60
    label: Literal["start", "end"] = "start"
    max_gap_s: int = Field(default=3600, gt=0, le=86_400)
    source: str = Field(default="", max_length=60)

    @field_validator("topic")
    @classmethod
    def _pattern(cls, value: str) -> str:
        Pattern.parse(value)
        return value

    @field_validator("period_s")
    @classmethod
    def _period(cls, value: int) -> int:
        if value not in PERIODS_S:
            raise ValueError(f"one of {', '.join(map(str, PERIODS_S))}")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        if self.values == "counter" and self.energy_total is None:
            raise ValueError("values: counter needs energy_total")
        if self.values != "counter" and self.power is None:
            raise ValueError(f"values: {self.values} needs power")
        return self

    @property
    def stored_source(self) -> str:
        return self.source or f"mqtt:{self.name}"


class Mapping(_Strict):
    """A mapping file: the first rule whose topic fits a message reads it."""

    version: Literal[1] = 1
    rules: tuple[Rule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _topics(self) -> Mapping:
        for rule in self.rules:
            pattern = Pattern.parse(rule.topic)
            if not rule.topic:
                raise ValueError(f"rule {rule.name}: topic is missing")
            for place, fixed in (("park", rule.park), ("device", rule.device)):
                if pattern.names(place) == (fixed is not None):
                    raise ValueError(f"rule {rule.name}: {place} must stand in the topic as {{{place}}} or be given")
        names = [rule.name for rule in self.rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have one name")
        return self


CANONICAL_RULE = Rule(
    name="canonical",
    topic="pv/{park}/{device}/telemetry",
    same={"site": "park", "dev": "device"},
    good={"q": ("good",), "v": (1,)},
    power=Power(path="p_ac_w", unit="W"),
    energy_total=Energy(path="e_total_wh", unit="Wh"),
    available_fraction=_Number(path="available_fraction"),
    export_limit=Power(path="export_limit_w", unit="W"),
    curtailed="curtailed",
    time=Time(path="ts", unit="ms"),
    values="instant",
    period_s=60,
    source="mqtt",
)
"""``{"v": 1, "site", "dev", "ts", "seq", "p_ac_w", "e_total_wh", "state", "q"}``; `ts` in ms since 1970 UTC."""

CANONICAL = Mapping(rules=(CANONICAL_RULE,))


def load(file: Path) -> Mapping:
    """A mapping file, YAML or JSON; rules of the canonical topic come on top unless one is named `canonical`.

    Raises
    ------
    InvalidInput
        the file can't be read, or a field of it is wrong: named, with the rule's place.
    """
    mapping = checked(Mapping, _parsed(file), str(file))
    if any(rule.name == CANONICAL_RULE.name for rule in mapping.rules):
        return mapping
    return Mapping(rules=(*mapping.rules, CANONICAL_RULE))


def load_document(file: Path, model: type[_Model]) -> _Model:
    """Any document of ours that is YAML or JSON; raises as `load`."""
    return checked(model, _parsed(file), str(file))


def checked(model: type[_Model], content: Any, name: str) -> _Model:
    """Content as its model; raises InvalidInput naming the field."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(said, field=f"{name}: {where}" if where else name, hint="see docs/telemetry.md") from error


def _parsed(file: Path) -> Any:
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't be read: {error}", field=str(file)) from error
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise InvalidInput(f"is neither YAML nor JSON: {said}", field=str(file)) from error
