"""What a pipeline parameter can say about Open-Meteo."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pvforecast.errors import InvalidInput
from pvforecast.sources.open_meteo_models import BY_NAME, VARIABLES, model_of

SERVICES = {"forecast": "api", "single_runs": "single-runs-api", "previous_runs": "previous-runs-api"}


@dataclass(frozen=True)
class Options:
    """Options of the source.

    Attributes
    ----------
    service : `forecast`, `single_runs` or `previous_runs`.
    models : each a source of its own, ``open_meteo:<model>``.
    variables : of the API; a request's weight grows with their number.
    horizon_hours : how far ahead of its use a run must reach.
    locations : of one request.
    run_hours : UTC hours at which the runs to take start (`single_runs`), or for which a forecast is put together
        (`previous_runs`); of all its runs, and of each midnight, when empty.
    label : first part of the column `source`; another server than Open-Meteo's own should have another.
    delay_hours : between start and availability of an archived run; the model's own when None.
    """

    service: str = "forecast"
    models: tuple[str, ...] = ("icon_global",)
    variables: tuple[str, ...] = tuple(variable.name for variable in VARIABLES)
    horizon_hours: int = 48
    locations: int = 100
    run_hours: tuple[int, ...] = ()
    delay_hours: float | None = None
    label: str = "open_meteo"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """From plain values, as JSON has them.

        Raises
        ------
        InvalidInput
            names the option that is wrong.
        """
        made: dict[str, Any] = {}
        for name, value in given.items():
            if name not in cls.__dataclass_fields__:
                known = ", ".join(cls.__dataclass_fields__)
                raise InvalidInput(f"unknown option {name!r}", field="weather_options", hint=f"known: {known}")
            made[name] = _checked(name, value)
        return cls(**made)


_Rule = tuple[Callable[[Any], bool], str]
_HOURS: _Rule = (lambda value: value in range(24), "hours 0 to 23")
_LISTS: dict[str, _Rule] = {
    "models": (lambda value: isinstance(value, str) and bool(model_of(value)), "names of models"),
    "variables": (lambda value: value in BY_NAME, f"some of {', '.join(BY_NAME)}"),
    "run_hours": _HOURS,
}
_WHOLE = {"horizon_hours": (1, 240), "locations": (1, 1000)}


def _checked(name: str, value: Any) -> Any:
    field_name = f"weather_options.{name}"
    if name in _LISTS:
        holds, hint = _LISTS[name]
        if not isinstance(value, list | tuple) or not all(holds(one) for one in value):
            raise InvalidInput(f"{value!r} is not right", field=field_name, hint=f"a list of {hint}")
        if not value and name != "run_hours":
            raise InvalidInput("is empty", field=field_name, hint=f"a list of {hint}")
        return tuple(int(one) if name == "run_hours" else one for one in dict.fromkeys(value))
    if name in _WHOLE:
        low, high = _WHOLE[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != int(value)
            or not low <= value <= high
        ):
            raise InvalidInput(f"{value!r} is not right", field=field_name, hint=f"a whole number, {low} to {high}")
        return int(value)
    if name == "label":
        if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", value):
            raise InvalidInput(f"{value!r} is not right", field=field_name, hint="a-z, 0-9 and _")
        return value
    if name == "service":
        if value not in SERVICES:
            raise InvalidInput(f"no service {value!r}", field=field_name, hint=f"one of {', '.join(SERVICES)}")
        return value
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 48):
        raise InvalidInput(f"{value!r} is not right", field=field_name, hint="hours, 0 to 48")
    return value
