"""The arguments of a run, checked where it is asked for: before anything is submitted, scheduled or started here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.compile import PIPELINES, built_in
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings
from pvforecast.shards import instant

_TYPES: dict[str, tuple[type, ...]] = {
    "String": (str,), "Integer": (int,), "Float": (int, float), "Boolean": (bool,), "List": (list,), "Dict": (dict,),
}  # fmt: skip
_SKEW = timedelta(minutes=5)


def checked(name: str, given: Mapping[str, Any], settings: Settings, *, scheduled: bool = False) -> dict[str, Any]:
    """The arguments of a run of pipeline `name`, with quorum and recipe of the settings where none are given.

    Parameters
    ----------
    scheduled : it is for a schedule, which gives each run its time; `as_of` and the window must be left out.

    Raises
    ------
    InvalidInput
        no such pipeline or parameter, a value of another type, a time without offset, times not in their order, a
        maintenance in the future.
    """
    if name not in PIPELINES:
        raise InvalidInput(f"no pipeline {name!r}", field="NAME", hint=_choice(sorted(PIPELINES)))
    inputs = built_in(name).component_spec.inputs or {}
    arguments = {key: value for key, value in given.items() if not (key in _TIMES and value == "")}
    for key, value in arguments.items():
        if key not in inputs:
            raise InvalidInput(f"the pipeline {name} has no such parameter", field=key, hint=_choice(sorted(inputs)))
        if not _fits(value, _TYPES[inputs[key].type]):
            raise InvalidInput(f"{value!r} is no {inputs[key].type}", field=key, hint=f"default {inputs[key].default}")
    if "quorum" in inputs:
        arguments.setdefault("quorum", settings.quorum)
    if "recipe" in inputs and settings.recipe:
        arguments["recipe"] = {**settings.recipe, **arguments.get("recipe", {})}
    for key, low, high in (("parks_per_shard", 1, 100_000), ("lookback_hours", 1, 100_000), ("quorum", 0, 1)):
        if key in arguments and not low <= arguments[key] <= high:
            raise InvalidInput(
                f"{arguments[key]} is not within {low} and {high:,}", field=key, hint="see docs/pipelines.md"
            )
    if scheduled:
        _untimed(name, arguments, inputs)
    else:
        _timed(name, arguments, inputs)
    return arguments


_TIMES = ("as_of", "since", "until")


def _untimed(name: str, arguments: dict[str, Any], inputs: Mapping[str, Any]) -> None:
    if "until" in inputs:
        raise InvalidInput(f"{name} is for a range of days, not for a schedule", field="NAME", hint="use ingestion")
    for key in (key for key in _TIMES if key in arguments):
        raise InvalidInput("each run of a schedule has its own time", field=key, hint="leave it out; lookback_hours")


def _timed(name: str, arguments: dict[str, Any], inputs: Mapping[str, Any]) -> None:
    now = instant(arguments.get("as_of", ""), "as_of")
    for key in (key for key in ("since", "until") if key in inputs and key not in arguments and "until" in inputs):
        raise InvalidInput(f"{name} needs it", field=key, hint="ISO instant with offset")
    begin = instant(arguments["since"], "since") if "since" in arguments else None
    end = instant(arguments["until"], "until") if "until" in arguments else now
    if begin is not None and begin >= end:
        raise InvalidInput(f"{arguments['since']!r} is not before {_end(arguments)}", field="since", hint=str(end))
    if end > now:
        raise InvalidInput(
            f"{arguments['until']!r} is after as_of", field="until", hint=f"as_of is {arguments['as_of']}"
        )
    if name == "maintenance" and now > datetime.now(UTC) + _SKEW:
        # What is not yet old would be deleted as old.
        raise InvalidInput("lies in the future", field="as_of", hint="leave it out: now")


def _end(arguments: Mapping[str, Any]) -> str:
    return "until" if "until" in arguments else "as_of"


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _choice(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
