"""The registered parks, read from the lake at most once a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from pvforecast.parks import Park

_KEPT_S = 60.0


class Fleet:
    """Blocking: call it off the event loop.

    Parameters
    ----------
    read : the parks as registered now; raises what the lake raises.
    """

    def __init__(self, read: Callable[[], list[Park]]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._parks: dict[str, Park] = {}

    def parks(self) -> dict[str, Park]:
        """By id; without those that are out of service."""
        with self._lock:
            if time.monotonic() - self._read_at > _KEPT_S:
                self._parks = {park.id: park for park in self._read() if not park.retired}
                self._read_at = time.monotonic()
            return self._parks


def entry(park: Park) -> dict[str, Any]:
    """What the page shows of a park's facts."""
    kept = ("id", "name", "latitude", "longitude", "timezone", "ac_capacity_kw", "groups", "resolution")
    return {name: getattr(park, name) for name in kept}
