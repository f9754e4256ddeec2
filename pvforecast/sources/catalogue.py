"""Sources by name, with options as plain values: what a pipeline parameter can carry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pvforecast.errors import InvalidInput
from pvforecast.sources.base import Source
from pvforecast.sources.pvdaq_samples import SOURCE, PlantedLoss, PvdaqSamples

_INSTANT = "e.g. 2013-08-20T06:00:00+00:00"


def source(name: str, options: dict[str, Any] | None = None) -> Source:
    """The source called `name`.

    Parameters
    ----------
    options : of ``pvdaq_samples``: ``{"loss": {"park_id", "start", "fraction"}}`` plants a loss (a drill).

    Raises
    ------
    InvalidInput
        no such source, or an option it does not have or understand.
    """
    if name != SOURCE:
        raise InvalidInput(f"no source {name!r}", field="source", hint=f"known: {SOURCE}")
    options = options or {}
    unknown = set(options) - {"loss"}
    if unknown:
        raise InvalidInput(f"unknown option {sorted(unknown)[0]!r}", field="source_options", hint="known: loss")
    loss = options.get("loss")
    if loss is None:
        return PvdaqSamples()
    return PvdaqSamples(_planted(loss))


def _planted(loss: Any) -> PlantedLoss:
    field = "source_options.loss"
    names = ("park_id", "start", "fraction")
    if not isinstance(loss, dict) or set(loss) != set(names):
        raise InvalidInput(f"{loss!r} does not have just {', '.join(names)}", field=field, hint="give all three")
    try:
        start = datetime.fromisoformat(loss["start"])
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{loss['start']!r} is no ISO instant", field=f"{field}.start", hint=_INSTANT) from error
    if start.tzinfo is None:
        raise InvalidInput("has no UTC offset", field=f"{field}.start", hint=_INSTANT)
    fraction = loss["fraction"]
    if not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise InvalidInput(f"{fraction!r} is no share", field=f"{field}.fraction", hint="0 to 1, e.g. 0.1")
    return PlantedLoss(str(loss["park_id"]), start, float(fraction))
