"""Which hours of which parks have rows that are not rolled up yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from pvforecast.telemetry.translate import Reading

_HOUR = 3_600_000_000

Hours = dict[str, set[int]]
"""Park id -> hours since 1970 UTC."""


class Touched:
    """Filled by the committer, emptied by the refresher."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hours: Hours = {}
        self._settled = 0.0

    def add(self, readings: Iterable[Reading]) -> None:
        new: Hours = {}
        for reading in readings:
            new.setdefault(reading.park_id, set()).add(reading.measured_at // _HOUR)
        self.give_back(new)

    def give_back(self, hours: Mapping[str, Iterable[int]]) -> None:
        """What was taken and could not be rolled up."""
        with self._lock:
            for park, some in hours.items():
                self._hours.setdefault(park, set()).update(some)

    def settled_until(self, moment: float) -> None:
        """Every message received before is committed (unix seconds)."""
        self._settled = moment

    def take(self) -> tuple[Hours, float]:
        """All of it, and until when what was received is in it or was taken before."""
        with self._lock:
            hours, self._hours = self._hours, {}
            return hours, self._settled

    def __len__(self) -> int:
        return len(self._hours)
