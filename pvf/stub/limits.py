"""The limits as a server counts them: weighted calls a minute, hour and day, and requests at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pvforecast.sources.open_meteo_budget import Limits

HARD_AT_ONCE = 5
_REASONS = {
    60.0: "Minutely API request limit exceeded. Please try again in one minute.",
    3600.0: "Hourly API request limit exceeded. Please try again in the next hour.",
    86_400.0: "Daily API request limit exceeded. Please try again tomorrow.",
}


class Meter:
    """Counts what was asked.

    Attributes
    ----------
    requests, weighted, refused : since the start.
    running : requests in hand now; `at_once` is the most there ever were.
    """

    def __init__(self, limits: Limits, now: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._now = now
        self._events: deque[tuple[float, float]] = deque()
        self.requests = self.refused = self.running = self.at_once = 0
        self.weighted = 0.0

    def count(self, weight: float) -> str | None:
        """The reason to refuse the request, None when it is within the limits. A refused one counts as 1."""
        now = self._now()
        while self._events and self._events[0][0] <= now - 86_400.0:
            self._events.popleft()
        over = [
            seconds
            for seconds, most in self._limits.windows
            if sum(one for at, one in self._events if at > now - seconds) + weight > most + 1e-9
        ]
        taken = 1.0 if over else weight
        self._events.append((now, taken))
        self.requests += 1
        self.weighted += taken
        if not over:
            return None
        self.refused += 1
        return _REASONS[over[0]]
