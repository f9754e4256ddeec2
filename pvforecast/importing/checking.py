"""From raw to processed, of what an import added: some parks, or a slice of time, at once: memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from pvforecast import refining
from pvforecast.lake import Lake
from pvforecast.parks import Park
from pvforecast.refining import ValidationReport

AT_ONCE = 400_000  # rows

Windows = Mapping[str, Sequence[Any]]
"""Park -> rows, first and last instant that validation must look at."""


def check(
    lake: Lake, parks: Sequence[Park], windows: Windows, *, correct_clocks: bool, progress: Callable[[str], None]
) -> list[ValidationReport]:
    """Validate each park's window; a park whose window is read in slices has a report for each."""
    by_id = {park.id: park for park in parks}
    done: list[ValidationReport] = []
    for chosen, since, until in _portions(windows):
        some = [by_id[park] for park in chosen]
        done += refining.validate(lake, some, since, until, correct_clocks=correct_clocks)
        progress(f"validated {sum(item.generation_hours + item.weather_rows for item in done):,} rows")
    return done


def _portions(windows: Windows) -> Iterator[tuple[list[str], datetime, datetime]]:
    waiting: list[str] = []
    for park in sorted(windows):
        count, first, last = windows[park]
        if count > AT_ONCE:
            yield from ((([park], *slot)) for slot in _slots(first, last, -(-count // AT_ONCE)))
            continue
        if waiting and sum(windows[p][0] for p in [*waiting, park]) > AT_ONCE:
            yield _together(waiting, windows)
            waiting = []
        waiting.append(park)
    if waiting:
        yield _together(waiting, windows)


def _together(parks: list[str], windows: Windows) -> tuple[list[str], datetime, datetime]:
    first, last = min(windows[p][1] for p in parks), max(windows[p][2] for p in parks)
    return parks, first.floor("D").to_pydatetime(), (last + pd.Timedelta(hours=1)).to_pydatetime()


def _slots(first: pd.Timestamp, last: pd.Timestamp, count: int) -> Iterator[tuple[datetime, datetime]]:
    edge, end = first.floor("D"), last + pd.Timedelta(hours=1)
    length = max(((end - edge) / count).ceil("D"), pd.Timedelta(days=1))
    while edge < end:
        yield edge.to_pydatetime(), min(edge + length, end).to_pydatetime()
        edge += length
