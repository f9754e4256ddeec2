"""Sources by name, with options as plain values: what a pipeline parameter can carry."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pvforecast.errors import InvalidInput
from pvforecast.sources.base import Source
from pvforecast.sources.pvdaq_samples import SOURCE, PlantedLoss, PvdaqSamples


def source(name: str, options: dict[str, Any] | None = None) -> Source:
    """The source called `name`.

    Parameters
    ----------
    options : of ``pvdaq_samples``: ``{"loss": {"park_id", "start", "fraction"}}`` plants a loss (a drill).
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
    start = datetime.fromisoformat(loss["start"])
    if start.tzinfo is None:
        raise InvalidInput(
            "has no UTC offset", field="source_options.loss.start", hint="e.g. 2013-08-20T06:00:00+00:00"
        )
    return PvdaqSamples(PlantedLoss(loss["park_id"], start, float(loss["fraction"])))
