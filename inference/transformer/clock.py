"""What "now" is for a park, and whether a forecast may be issued at an instant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import numpy as np

from inference.transformer.request import to_utc64
from inference.transformer.snapshots import Snapshot
from pvforecast.errors import InvalidInput

SKEW = np.timedelta64(300, "s")
"""How far ahead a caller's clock may be."""


class Clock:
    """`system`: the machine's clock. `snapshot`: a replay, where now is when the park's newest snapshot was taken."""

    def __init__(self, kind: Literal["system", "snapshot"]) -> None:
        self._kind = kind

    def now(self, newest: Snapshot) -> np.datetime64:
        """The full minute, so that callers within it get the same forecast, and it is made once.

        Never before the newest snapshot: what that knows was not known earlier, and the machine that took it may be
        seconds ahead.
        """
        taken = newest.known.as_of
        return taken if self._kind == "snapshot" else max(taken, to_utc64(datetime.now(UTC).replace(second=0)))

    def issue_time(self, wanted: datetime | None, newest: Snapshot, field: str) -> np.datetime64:
        """`wanted`, or now. Raises InvalidInput when it lies in the future."""
        now = self.now(newest)
        if wanted is None:
            return now
        issued_at = to_utc64(wanted)
        if issued_at > now + SKEW:
            raise InvalidInput(
                f"{issued_at}Z lies in the future, it is {now}Z",
                field=field,
                hint="send null for now, or a time of the past",
            )
        return issued_at
