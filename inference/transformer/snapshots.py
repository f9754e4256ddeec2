"""Snapshots of parks, from memory: pointers are revalidated in the background, objects are immutable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from inference.history import BACKTEST
from inference.stores import STORE_UP
from inference.transformer.once import Once
from pvforecast import snapshot
from pvforecast.errors import DataError, InvalidInput, NotReady
from pvforecast.known import Known
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

TTL_S = 2.0
_HOT_S = 60.0  # a park asked for within this time is revalidated in the background
_FEW = 10  # so many pointers are read one by one; of more, the ETags are listed and the changed ones read
_POINTERS = 5_000
_OBJECTS = 1_000


@dataclass(frozen=True)
class Snapshot:
    """What was known about a park, and under which name it is stored."""

    snapshot_id: str
    known: Known


@dataclass
class _Pointer:
    entry: dict[str, str] | None
    checked_at: float
    used_at: float
    etag: str = ""  # as listed before it was read; empty where it was not


class Snapshots:
    """Reads snapshots for requests. While the object store is away, the newest known ones serve on.

    Parameters
    ----------
    deadline_s : the longest that a request waits for the store.
    """

    def __init__(self, store: ObjectStore, deadline_s: float = 3.0) -> None:
        self._store = store
        self._once = Once(ThreadPoolExecutor(8, thread_name_prefix="snapshots"), deadline_s)
        self._pointers: OrderedDict[str, _Pointer] = OrderedDict()
        self._objects: OrderedDict[tuple[str, str], Snapshot] = OrderedDict()
        self._store_up = True

    async def run(self) -> None:
        """Keep the pointers of parks in demand fresh, for ever."""
        while True:
            await asyncio.sleep(TTL_S / 2)
            try:
                await self._refresh(time.monotonic())
            except Exception:
                log.exception("the pointers could not be revalidated")

    async def _refresh(self, now: float) -> None:
        """Of all parks in demand. A listing costs about as much as two or three reads, whatever the number of parks."""
        hot = {park: p for park, p in self._pointers.items() if p.entry and now - p.used_at < _HOT_S}
        due, listed = list(hot), {}
        if len(hot) > _FEW:
            try:
                listed = await self._once(("list",), lambda: snapshot.latest_etags(self._store))
            except NotReady as error:
                self._note_store(error)
                for pointer in hot.values():
                    pointer.checked_at = now
                return
            self._note_store(None)
            due = [park for park, pointer in hot.items() if listed.get(park) != pointer.etag]
            for park in hot.keys() - set(due):
                hot[park].checked_at = now
        for park, outcome in zip(
            due, await asyncio.gather(*map(self._revalidate, due), return_exceptions=True), strict=True
        ):
            if isinstance(outcome, BaseException):
                log.error("the pointer of %s could not be revalidated: %r", park, outcome)
            else:
                outcome.etag = listed.get(park, "")

    async def newest(self, park_id: str) -> Snapshot | None:
        """The newest snapshot; None for an unknown park.

        Raises
        ------
        NotReady
            the object store does not answer and nothing is in memory.
        """
        now = time.monotonic()
        pointer = self._pointers.get(park_id)
        if pointer is None or now - pointer.checked_at > TTL_S:
            pointer = await self._revalidate(park_id)
        pointer.used_at = now
        return await self._object(park_id, pointer.entry["snapshot_id"]) if pointer.entry else None

    async def at(self, park_id: str, issued_at: np.datetime64) -> Snapshot | None:
        """The newest retained snapshot taken at or before `issued_at`; None when there is none."""
        entry = await self._once(
            ("at", park_id, str(issued_at)), lambda: snapshot.entry_at(self._store, park_id, issued_at)
        )
        return await self._object(park_id, entry["snapshot_id"]) if entry else None

    async def _revalidate(self, park_id: str) -> _Pointer:
        old = self._pointers.get(park_id)
        now = time.monotonic()
        try:
            entry = await self._once(("latest", park_id), lambda: snapshot.latest_entry(self._store, park_id))
            self._note_store(None)
        except NotReady as error:
            self._note_store(error)
            if old is None or old.entry is None:
                raise
            old.checked_at = now
            return old
        except (ValueError, TypeError) as error:
            raise DataError(f"the snapshot pointer of {park_id} cannot be read: {error!r}") from error
        if entry is not None and not (isinstance(entry, dict) and isinstance(entry.get("snapshot_id"), str)):
            raise DataError(f"the snapshot pointer of {park_id} names no snapshot: {entry!r}")
        pointer = _Pointer(entry, now, old.used_at if old else now)
        self._pointers[park_id] = pointer
        self._pointers.move_to_end(park_id)
        while len(self._pointers) > _POINTERS:
            self._pointers.popitem(last=False)
        return pointer

    def _note_store(self, error: NotReady | None) -> None:
        if error is not None and self._store_up:
            log.error("snapshots are served from memory: %s", error)
        if error is None and not self._store_up:
            log.info("the object store answers again")
        self._store_up = error is None
        STORE_UP.set(self._store_up)

    async def _object(self, park_id: str, snapshot_id: str) -> Snapshot:
        key = (park_id, snapshot_id)
        found = self._objects.get(key)
        if found is None:
            found = await self._once(("object", *key), lambda: _read(self._store, park_id, snapshot_id))
            self._objects[key] = found
            while len(self._objects) > _OBJECTS:
                self._objects.popitem(last=False)
        self._objects.move_to_end(key)
        return found


def plausible(park_id: str) -> bool:
    """Whether it can be the id of a park: it becomes part of a key in the store."""
    return park_id.isascii() and park_id.strip(".") != "" and all(c.isalnum() or c in "-_." for c in park_id)


def require(found: Snapshot | None, field: str, issued_at: np.datetime64) -> Snapshot:
    """Raise InvalidInput where no retained snapshot is old enough for `issued_at`."""
    if found is None:
        raise InvalidInput(
            f"no snapshot as old as {issued_at}Z is retained",
            field=field,
            hint=BACKTEST,
        )
    return found


def _read(store: ObjectStore, park_id: str, snapshot_id: str) -> Snapshot:
    try:
        return Snapshot(snapshot_id, snapshot.read(store, park_id, snapshot_id))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:  # Arrow's damaged files are OSError
        raise DataError(f"snapshot {snapshot_id} of {park_id} cannot be read: {error!r}") from error
