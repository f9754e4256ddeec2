"""When which hour is rolled up: once when it is over, and again when the rest of it is waited for no longer."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pvforecast.processing import GRACE

_HOUR_S = 3600
_SETTLE_S = 15.0  # the last messages of an hour are on their way
_GRACE_S = GRACE.total_seconds() + 60

Hours = dict[str, set[int]]


class Agenda:
    """Hours of parks that are due later. One that is not over has no value yet: to roll it up would be for nothing.

    Attributes
    ----------
    unpublished : parks with hours that are rolled up and not in a snapshot yet.
    """

    def __init__(self) -> None:
        self._due: dict[tuple[str, int], float] = {}
        self.unpublished = set[str]()

    def __len__(self) -> int:
        return len(self._due)

    def plan(self, touched: Mapping[str, Collection[int]], now: float, quarters: Collection[str]) -> Hours:
        """The hours to roll up now; the others are remembered.

        Parameters
        ----------
        touched : park -> hours since 1970 that rows came for.
        now : unix seconds.
        quarters : parks that are forecast in quarter hours: theirs have values before the hour is over.
        """
        asked = {(park, hour) for park, some in touched.items() for hour in some}
        asked |= {key for key, due in self._due.items() if due <= now}
        chosen: Hours = {}
        for park, hour in asked:
            end = (hour + 1) * _HOUR_S
            over = now >= end
            if over or park in quarters:
                chosen.setdefault(park, set()).add(hour)
            if not over:
                self._due[park, hour] = end + _SETTLE_S
            elif now < end + _GRACE_S:
                self._due[park, hour] = end + _GRACE_S
            else:
                self._due.pop((park, hour), None)
        return chosen

    def again(self, hours: Mapping[str, Collection[int]]) -> None:
        """These could not be rolled up: they are due at once."""
        self._due |= {(park, hour): 0.0 for park, some in hours.items() for hour in some}
