"""What reading a row needs to know beside the row: the fleet, the mapping, local times that occurred twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo

import numpy as np
import pandas as pd

from pvforecast.importing import cells
from pvforecast.importing.cells import Faults, Instants, Mask, Times
from pvforecast.importing.mapping import Mapping, duration


@dataclass(frozen=True)
class Facts:
    """Of a registered park, what rows are checked against."""

    ac_capacity_kw: float
    zone: tzinfo
    quarter_hours: bool


@dataclass
class Doubles:
    """Local times that occur twice in autumn, by series: the first in the file is the earlier hour, the other not.

    The survey counts them; loading then knows which occur just once, and can't be told.
    """

    counted: Counter[Hashable] = field(default_factory=Counter)
    seen: Counter[Hashable] = field(default_factory=Counter)
    counting: bool = True

    def resolve(self, times: Instants, series: Sequence[Hashable], column: str, faults: Faults) -> Times:
        """UTC instants, the second of two resolved; `series` has a key for each row."""
        utc = times.utc.copy()
        single: Mask = np.zeros(len(utc), bool)
        for i in np.flatnonzero(times.twice):
            key = (series[int(i)], times.utc[i].item())
            count = self.counted if self.counting else self.seen
            count[key] += 1
            if count[key] == 2:
                utc[i] = times.later[i]
            single[i] = not self.counting and self.counted[key] != 2
        faults.add(single, column, "occurs twice that night, which one can't be told (write the UTC offset)")
        return utc

    @property
    def unresolved(self) -> int:
        """Rows that can't be told, after counting."""
        return sum(count for count in self.counted.values() if count != 2)


@dataclass(frozen=True)
class Context:
    """See the module. `source` names who made the rows where they do not say."""

    parks: dict[str, Facts]
    mapping: Mapping
    source: str
    now: np.datetime64
    doubles: Doubles = field(default_factory=Doubles)
    observed: bool = False

    @property
    def zone(self) -> tzinfo | None:
        return cells.zone_of(self.mapping.timezone, "timezone") if self.mapping.timezone else None

    def delay(self, default: timedelta | None = None) -> timedelta | None:
        return duration(self.mapping.delay, "--delay") if self.mapping.delay else default

    def park_ids(self, found: pd.Categorical, faults: Faults) -> pd.Categorical:
        """Ids as registered; a row of an unknown park is a fault."""
        names = [self.mapping.park_ids.get(name, name) for name in found.categories]
        faults.add(found.codes < 0, "park_id", "is missing")
        unknown = np.array([*(name not in self.parks for name in names), False])[found.codes]
        faults.add(
            unknown,
            "park_id",
            lambda i: f"no park {cells.quoted(names[found.codes[i]])} is registered (pvf import parks, pvf park list)",
        )
        distinct = sorted(set(names))
        codes = np.array([*(distinct.index(name) for name in names), -1])[found.codes]
        return pd.Categorical.from_codes(codes, distinct)
