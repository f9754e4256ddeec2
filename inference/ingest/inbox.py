"""What was received and is not committed yet: handed from the session's thread to the committer's."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from pvforecast.telemetry.translate import Message


@dataclass
class Batch:
    """Messages of one connection, in the order they came.

    Attributes
    ----------
    connection : counts the connections; packet ids mean nothing in another one.
    packets : packet ids to acknowledge, one a message.
    """

    connection: int
    messages: list[Message] = field(default_factory=list)
    packets: list[int] = field(default_factory=list)
    size: int = 0
    since: float = 0.0


class Inbox:
    """A batch that fills, and is taken when it is large enough or old enough.

    Its bound is the session's: no more messages come than are acknowledged.
    """

    def __init__(self, rows: int, size: int, seconds: float) -> None:
        self._rows, self._size, self._seconds = rows, size, seconds
        self._changed = threading.Condition()
        self._batch = Batch(0)
        self._taken = 0  # bytes of the batch that is being committed
        self._closed = False

    def put(self, message: Message, packet: int) -> None:
        # The lock alone, no notification: the committer looks by itself, and at 5,000 messages a second waking it
        # for each would cost more than the rest.
        with self._changed:
            batch = self._batch
            if not batch.messages:
                batch.since = time.monotonic()
            batch.messages.append(message)
            batch.packets.append(packet)
            batch.size += len(message.payload)
            if len(batch.messages) == self._rows:
                self._changed.notify_all()

    def restart(self, connection: int) -> None:
        """A new connection: what waits will be delivered again, and is forgotten here."""
        with self._changed:
            self._batch = Batch(connection)

    def take(self) -> Batch | None:
        """Wait for a batch; None when closed and empty."""
        with self._changed:
            self._taken = 0
            while not self._ready():
                if self._closed:
                    return None
                self._changed.wait(0.25)
            batch, self._batch = self._batch, Batch(self._batch.connection)
            self._taken = batch.size
            return batch

    def oldest(self) -> float:
        """Unix seconds: what came before this was taken; now when nothing waits."""
        with self._changed:
            messages = self._batch.messages
            return messages[0].arrival / 1e6 if messages else time.time()

    def close(self) -> None:
        """Nothing more comes; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        return len(self._batch.messages)

    @property
    def size(self) -> int:
        """Bytes of payload, those being committed included."""
        return self._batch.size + self._taken

    def _ready(self) -> bool:
        batch = self._batch
        if not batch.messages:
            return False
        full = len(batch.messages) >= self._rows or batch.size >= self._size
        return full or self._closed or time.monotonic() - batch.since >= self._seconds
