"""Refused messages on their way to the quarantine: bounded, so that a flood of them costs little."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.quarantine import Rejected

_REMEMBERED = 50_000


class Allowance:
    """Lets through what was not let through lately, and at most so many a minute.

    Parameters
    ----------
    per_minute : entries; what exceeds it is counted.
    clock : seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._minute = -1
        self._let = 0
        self._seen: dict[str, None] = {}
        self._over = 0

    def admit(self, refused: Iterable[Rejected]) -> tuple[list[Rejected], int]:
        """Those to hold, one for each id, and how many were more than a minute allows.

        When a minute is over in which there were more, one entry says how many.
        """
        over = 0
        kept = list(self._turn())
        for item in refused:
            key = item.id
            if key in self._seen:
                continue
            if self._let >= self._per_minute:
                over += 1
                continue
            self._let += 1
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[key] = None
            kept.append(item)
        self._over += over
        return kept, over

    def _turn(self) -> Iterator[Rejected]:
        minute = int(self._clock() // 60)
        if minute == self._minute:
            return
        if self._over:
            yield Rejected(
                RAW_GENERATION.name,
                "",
                "mqtt",
                "",
                f"{self._over} more messages of one minute were refused and are not kept: raise "
                "PVF_MQTT_QUARANTINE_PER_MINUTE, or stop their sender",
                f"{time.time():.0f}",  # when: the same count twice is two entries
            )
        self._minute, self._let, self._over = minute, 0, 0


def named(items: Iterable[Rejected], reason: str) -> list[Rejected]:
    """The same with another reason."""
    return [replace(item, reason=reason) for item in items]
