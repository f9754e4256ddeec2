"""Which parks there are: an event of another one is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from pvforecast.errors import UnknownPark

KEPT_S = 60.0


class KnownParks:
    """The registered parks, read again when a name is new and the last look is a minute old.

    Parameters
    ----------
    read : all park ids; raises NotReady where the lake is away, and so does `expect`: the sender tries again.
    """

    def __init__(self, read: Callable[[], Iterable[str]], kept_s: float = KEPT_S) -> None:
        self._read = read
        self._kept_s = kept_s
        self._known: frozenset[str] = frozenset()
        self._read_at = -float("inf")
        self._lock = threading.Lock()

    def expect(self, park_ids: Iterable[str]) -> None:
        """Raises UnknownPark for the first that is not registered."""
        wanted = list(park_ids)
        with self._lock:
            if not self._known.issuperset(wanted) and time.monotonic() - self._read_at > self._kept_s:
                self._known, self._read_at = frozenset(self._read()), time.monotonic()
            unknown = next((park_id for park_id in wanted if park_id not in self._known), None)
        if unknown is not None:
            raise UnknownPark(f"{unknown!r} is not registered", field="subject", hint="list the parks: pvf park list")
