"""Is the radiation of a weather file in step with the sun?

Weather that is stored is never moved, unlike generation, whose labels stay beside what is found about them. So a file
whose labels name another end of the interval, or whose times are local, is refused before anything of it is stored.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from pvforecast.clock import ClockReport, find_faults
from pvforecast.errors import InvalidInput
from pvforecast.parks import Park
from pvforecast.site import Site

PARKS = 3  # labels are the file's: a few of its parks tell
# A month of stormy afternoons is off by 15 to 30 minutes.
NOTED_MINUTES, REFUSED_MINUTES = 30, 45
_HINT = "what does a time name? --label end or middle; local times? --timezone; and the park's coordinates"
_PART = {"start": 0.0, "middle": 0.5, "end": 1.0}
_QUARTER_S, _HOUR_S = 900, 3600


class Finding(NamedTuple):
    """Of one park. `between`: its intervals begin between the steps of a day, as hours at half past."""

    clock: ClockReport
    between: bool

    @property
    def minutes(self) -> int:
        return 60 if self.clock.follows_dst else abs(self.clock.offset_minutes)


class Sunlight:
    """Collects the mean GHI of each label, of the first parks of a file."""

    def __init__(self) -> None:
        self._sums: dict[str, pd.DataFrame] = {}

    def add(self, good: pd.DataFrame) -> None:
        """Rows without faults, in canonical units, with `valid_at` as labelled."""
        if "ghi" not in good:
            return
        rows = good.loc[good.ghi.notna(), ["park_id", "valid_at", "ghi"]]
        for park_id, part in rows.groupby(rows.park_id.astype(str)):
            park = str(park_id)
            if park not in self._sums and len(self._sums) >= PARKS:
                continue
            sums = part.groupby("valid_at").ghi.agg(["sum", "count"])
            self._sums[park] = self._sums[park].add(sums, fill_value=0.0) if park in self._sums else sums

    def findings(self, parks: Iterable[Park], periods: Mapping[Hashable, int], label: str) -> list[Finding]:
        """What is found about the labels, park by park; nothing about intervals longer than an hour.

        Parameters
        ----------
        periods : (park, source) -> seconds.
        label : which part of its interval a time is said to name.
        """
        by_id = {park.id: park for park in parks}
        found = []
        for park, sums in self._sums.items():
            lengths = {seconds for group, seconds in periods.items() if isinstance(group, tuple) and group[0] == park}
            if len(lengths) == 1 and (period := lengths.pop()) <= _HOUR_S:
                begin = pd.DatetimeIndex(sums.index).tz_localize("UTC") - pd.Timedelta(seconds=_PART[label] * period)
                level = replace(by_id[park].site(), surface_tilt=0.0, arrays=(), ac_capacity_kw=1.0)
                found.append(
                    _find(pd.Series((sums["sum"] / sums["count"] / 1000.0).to_numpy(), index=begin), level, period)
                )
        return found


def judge(findings: list[Finding], where: str, notes: list[str]) -> InvalidInput | None:
    """Why the file is refused: none of its parks is in step with the sun. What is less, or of some parks, is noted."""
    off = [one for one in findings if one.minutes >= NOTED_MINUTES]
    told = [f"{one.clock.park_id}: ghi: {one.clock.fault}" for one in off]
    if not off or any(one.minutes < REFUSED_MINUTES and not one.between for one in findings):
        notes += [f"{one}: {_HINT}?" for one in told]
        return None
    return InvalidInput(
        f"its radiation is not in step with the sun, nothing was stored: {'; '.join(told)}",
        field=where,
        hint=f"{_HINT}; right all the same? --max-bad 1",
    )


def _find(ghi_kw: pd.Series, level: Site, period_s: int) -> Finding:
    begin = ghi_kw.index
    beside = pd.Timedelta((begin - begin.floor(f"{period_s}s")).to_series().mode()[0])
    moved = pd.Series(ghi_kw.to_numpy(), index=begin - beside)
    found = find_faults(moved.resample("15min").mean() if period_s < _QUARTER_S else moved, level)
    offset = found.offset_minutes + int(beside.total_seconds()) // 60
    return Finding(replace(found, offset_minutes=offset), bool(beside))
