"""The newest snapshots, without the seconds that the transformer may be behind."""

from __future__ import annotations

from inference.transformer.snapshots import Snapshot, Snapshots


class AlwaysNewest(Snapshots):
    """Asks the store for the pointer each time: it is asked only when a pointer has changed."""

    async def newest(self, park_id: str) -> Snapshot | None:
        """The newest snapshot; None for an unknown park. Raises NotReady when the store never answered."""
        pointer = await self._revalidate(park_id)
        return await self._object(park_id, pointer.entry["snapshot_id"]) if pointer.entry else None
