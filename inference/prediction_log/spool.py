"""Events that could not be delivered, in files, bounded in bytes: the oldest go first when it is full.

One writer a folder. A segment is one file of JSON lines; a line torn by a crash is skipped and counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from io import BufferedWriter
from pathlib import Path

from inference.prediction_log.events import Event


class Spool:
    """A folder of segments, oldest first by name.

    Parameters
    ----------
    max_bytes : of all segments together.
    segment_bytes : a segment is closed when it has become larger than this.
    """

    def __init__(self, folder: Path, max_bytes: int = 64 * 2**20, segment_bytes: int = 2**18) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._open: BufferedWriter | None = None
        self._sizes = {path: path.stat().st_size for path in sorted(folder.glob("*.jsonl"))}

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    def append(self, events: Sequence[Event]) -> int:
        """Write events; returns how many old ones were dropped to make room. Raises OSError when the disk is full."""
        for event in events:
            line = json.dumps({"headers": event.headers, "body": event.body.decode()}).encode() + b"\n"
            if self._open is None:
                path = self._folder / f"{time.time_ns():020d}.jsonl"
                self._open = path.open("ab")
                self._sizes[path] = 0
            path = Path(self._open.name)
            self._open.write(line)
            self._sizes[path] += len(line)
            if self._sizes[path] > self._segment_bytes:
                self.close()
        if self._open is not None:
            self._open.flush()
        return self._make_room()

    def oldest(self) -> Path | None:
        """The oldest segment, closed so that it can be read whole; None when the spool is empty."""
        if not self._sizes:
            return None
        oldest = next(iter(self._sizes))
        if self._open is not None and Path(self._open.name) == oldest:
            self.close()
        return oldest

    def read(self, segment: Path) -> tuple[list[Event], int]:
        """Its events, and how many lines were broken."""
        events, broken = [], 0
        for line in segment.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                events.append(Event(entry["headers"], entry["body"].encode()))
            except (ValueError, KeyError, TypeError, AttributeError):
                broken += 1
        return events, broken

    def remove(self, segment: Path) -> None:
        segment.unlink(missing_ok=True)
        self._sizes.pop(segment, None)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _make_room(self) -> int:
        dropped = 0
        while self.size > self._max_bytes and (segment := self.oldest()) is not None:
            dropped += segment.read_bytes().count(b"\n")
            self.remove(segment)
        return dropped
