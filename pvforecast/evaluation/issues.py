"""When forecasts are issued in a backtest: at local hours of each day, or whenever a new weather run comes in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from pvforecast.known import ParkRecord

_DAY = np.timedelta64(86_400, "s")


def local_hours(
    record: ParkRecord, since: np.datetime64, until: np.datetime64, hours: Sequence[int] = (0,)
) -> list[np.datetime64]:
    """The given local hours of each day in [since, until), ascending, as UTC; with weather or without.

    An hour that the clocks skip counts as the instant they do; of one they have twice, the first.
    """
    zone = ZoneInfo(record.site.timezone)
    first, last = (datetime.fromtimestamp(_seconds(instant), zone).date() for instant in (since, until))
    days = [first + timedelta(days=n) for n in range(-1, (last - first).days + 2)]
    wanted = [datetime(day.year, day.month, day.day, hour, tzinfo=zone) for day in days for hour in hours]
    instants = sorted({_skipped_to(moment) for moment in wanted})
    return [instant for instant in instants if since <= instant < until]


def run_times(record: ParkRecord, since: np.datetime64, until: np.datetime64) -> list[np.datetime64]:
    """Each instant in [since, until) at which a weather run became available; where none comes for a day, 24 h on.

    So no hour is left without a forecast because a run failed to come.
    """
    times = np.unique(np.array([run.available_at for run in record.runs], "datetime64[s]"))
    inside = times[(times >= since) & (times < until)]
    result: list[np.datetime64] = []
    for instant in [*inside, until]:
        while result and instant - result[-1] > _DAY:
            result.append(result[-1] + _DAY)
        if instant < until:
            result.append(instant)
    return result


def issues(
    record: ParkRecord,
    since: np.datetime64,
    until: np.datetime64,
    *,
    hours: Sequence[int] = (0,),
    at_runs: bool = False,
) -> list[np.datetime64]:
    """Issue times of a test: the regular ones, and `since` itself where the first regular one comes later.

    The hours from `since` to the first regular issue would have no forecast otherwise.
    """
    regular = _regular(record, since, until, hours, at_runs)
    if since < until and (not regular or regular[0] > since):
        lead_in = [since]
        while at_runs and (regular[0] if regular else until) - lead_in[-1] > _DAY:
            lead_in.append(lead_in[-1] + _DAY)
        return [*lead_in, *regular]
    return regular


def learning_issues(
    record: ParkRecord,
    until: np.datetime64,
    *,
    hours: Sequence[int] = (0,),
    at_runs: bool = False,
) -> list[np.datetime64]:
    """Issue times to learn from: as in the test, from the first weather run on."""
    if not record.runs:
        return []
    return _regular(record, min(run.available_at for run in record.runs), until, hours, at_runs)


def _regular(
    record: ParkRecord, since: np.datetime64, until: np.datetime64, hours: Sequence[int], at_runs: bool
) -> list[np.datetime64]:
    return run_times(record, since, until) if at_runs else local_hours(record, since, until, hours)


def _skipped_to(moment: datetime) -> np.datetime64:
    return np.datetime64(int(moment.astimezone(UTC).timestamp()), "s")


def _seconds(instant: np.datetime64) -> int:
    return int(instant.astype("datetime64[s]").astype(np.int64))
