"""Who listens to which park, and what each still has to be sent. Pure of I/O; one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Update:
    """A park's newest forecast, ready to be sent. Equal ids mean equal inputs: snapshot and bundle."""

    park_id: str
    id: str
    text: str


class Subscriber:
    """One connection. It is owed the newest update of each park at most: a later one replaces one not yet sent.

    Parameters
    ----------
    parks : it listens to.
    seen : ids of updates that it already has.
    """

    def __init__(self, parks: Collection[str], seen: Collection[str] = ()) -> None:
        self.parks = frozenset(parks)
        self._resumed = frozenset(seen)
        self._has: dict[str, str] = {}  # park -> id of what was sent last: a rollback brings an earlier id again
        self._owed: dict[str, Update] = {}
        self._woken = asyncio.Event()

    def offer(self, update: Update) -> None:
        park = update.park_id
        if park not in self._has and update.id in self._resumed:
            self._has[park] = update.id
        if self._has.get(park) == update.id:
            self._owed.pop(park, None)
        else:
            self._owed[park] = update
            self._woken.set()

    async def next(self, within_s: float) -> Update | None:
        """What to send next; None when nothing came within that time."""
        if not self._owed:
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), within_s)
            except TimeoutError:
                return None
        if not self._owed:  # taken back before it was sent
            return None
        update = self._owed.pop(next(iter(self._owed)))
        self._has[update.park_id] = update.id
        return update


class Hub:
    """All subscribers by park, and the newest update of each park that is listened to."""

    def __init__(self) -> None:
        self._of_park: dict[str, set[Subscriber]] = {}
        self._newest: dict[str, Update] = {}

    @property
    def parks(self) -> set[str]:
        """The parks that somebody listens to."""
        return set(self._of_park)

    def __len__(self) -> int:
        return len(set().union(*self._of_park.values()))

    def newest(self, park_id: str) -> Update | None:
        return self._newest.get(park_id)

    def join(self, subscriber: Subscriber) -> None:
        """From now on it is offered updates; first the newest ones that are known."""
        for park in subscriber.parks:
            self._of_park.setdefault(park, set()).add(subscriber)
            if park in self._newest:
                subscriber.offer(self._newest[park])

    def leave(self, subscriber: Subscriber) -> None:
        """A park that nobody listens to any more is forgotten: what is known of it would grow old."""
        for park in subscriber.parks:
            others = self._of_park.get(park, set())
            others.discard(subscriber)
            if not others:
                self._of_park.pop(park, None)
                self._newest.pop(park, None)

    def publish(self, updates: Iterable[Update]) -> None:
        for update in updates:
            if update.park_id in self._of_park:
                self._newest[update.park_id] = update
                for subscriber in self._of_park[update.park_id]:
                    subscriber.offer(update)
