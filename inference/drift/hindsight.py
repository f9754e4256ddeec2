"""The weather of a day that is over, as the forecasts knew it best.

A check looks back: of each hour it may take the run that began last before it, not the one that the day began with.
A lead of some hours errs less than one of a day, and what the weather's error does not hide shows sooner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pvforecast.known import HOUR, Floats, Times, WeatherRun

REACH = 3 * HOUR
"""Features of an hour look so far around it."""
_OLDEST = 72 * HOUR


class Hindsight:
    """The runs of one park, by when they began."""

    def __init__(self, runs: Sequence[WeatherRun]) -> None:
        self._runs = sorted(runs, key=lambda run: (run.run_at, run.available_at))
        self._began = np.array([run.run_at for run in self._runs], "datetime64[s]")

    def of(self, first: np.datetime64, last: np.datetime64, known_at: np.datetime64) -> WeatherRun | None:
        """One run of the hours `first` ... `last` and those around them, of each the newest value known at `known_at`.

        None where no run that began in the three days before reaches any of them.
        """
        valid_at: Times = np.arange(first - REACH, last + REACH + HOUR, HOUR)
        begin, end = np.searchsorted(self._began, [valid_at[0] - _OLDEST, valid_at[-1] + HOUR])
        found: dict[str, Floats] = {}
        newest: WeatherRun | None = None
        for run in self._runs[begin:end]:
            inside = (run.valid_at >= valid_at[0]) & (run.valid_at <= valid_at[-1])
            if run.available_at > known_at or not inside.any():
                continue
            at = ((run.valid_at[inside] - valid_at[0]) / HOUR).astype(np.int64)
            for name, values in run.variables.items():
                column = found.setdefault(name, np.full(len(valid_at), np.nan))
                later = values[inside]
                column[at] = np.where(np.isnan(later), column[at], later)
            newest = run
        if newest is None:
            return None
        return WeatherRun(newest.source, newest.run_at, newest.available_at, valid_at, found)
