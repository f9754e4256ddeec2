"""The one time of a run: given by its caller, or by the schedule that started it. No task reads a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pvforecast.errors import InvalidInput
from pvforecast.shards import instant


class Window(NamedTuple):
    """What a run knows and loads, as ISO instants with offset.

    Attributes
    ----------
    as_of : the run's now; nothing later is read.
    since : source data from here on is loaded.
    """

    as_of: str
    since: str


def resolve(as_of: str, since: str, lookback_hours: int, scheduled_at: str) -> Window:
    """`as_of` and `since` of a run, from what its caller and its schedule gave.

    Parameters
    ----------
    as_of : ISO instant with offset; empty for that of the schedule.
    since : ISO instant with offset; empty for `lookback_hours` before `as_of`.
    lookback_hours : hours, at least 1; KFP hands ints over as floats.
    scheduled_at : what the server put in for the schedule's time.

    Raises
    ------
    InvalidInput
        no time at all, one without offset, nothing between the two.
    """
    now = instant(as_of, "as_of") if as_of else _scheduled(scheduled_at)
    hours = int(lookback_hours)
    if hours < 1:
        raise InvalidInput(f"{lookback_hours!r} is not at least 1", field="lookback_hours", hint="e.g. 336, two weeks")
    begin = instant(since, "since") if since else now - timedelta(hours=hours)
    if begin >= now:
        raise InvalidInput(f"{since!r} is not before as_of", field="since", hint=f"as_of is {now.isoformat()}")
    return Window(as_of or now.isoformat(), since or begin.isoformat())


def _scheduled(text: str) -> datetime:
    """The schedule's time as KFP's driver writes it: UTC, whole seconds."""
    try:
        return instant(text, "scheduled_at").astimezone(UTC)
    except InvalidInput as error:
        raise InvalidInput(
            f"is not given, and {text!r} is no schedule's time",
            field="as_of",
            hint="give as_of; or the KFP server is too old to fill in when a run was scheduled",
        ) from error
