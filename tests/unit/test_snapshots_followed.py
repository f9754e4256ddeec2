"""Pointers of parks in demand are kept fresh, at a cost that does not grow with their number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from inference.transformer import snapshots
from inference.transformer.snapshots import Snapshot, Snapshots
from pvforecast.errors import NotReady
from tests.bundles import NOW, record, site

PARKS = [f"p{number:02d}" for number in range(30)]


class Store:
    """Pointers in memory; counts what is read."""

    def __init__(self) -> None:
        self.ids = dict.fromkeys(PARKS, "first")
        self.reads: list[str] = []
        self.lists = 0
        self.away = False

    def get_json(self, key: str) -> Any:
        park = key.rsplit("/", 1)[-1].removesuffix(".json")
        self.reads.append(park)
        return {"snapshot_id": self.ids[park], "as_of": str(NOW)}

    def etags(self, prefix: str) -> Iterator[tuple[str, str]]:
        if self.away:
            raise NotReady("away")
        self.lists += 1
        return iter([(f"{prefix}{park}.json", f"etag of {name}") for park, name in self.ids.items()])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    known = record(site()).known_at(NOW)
    monkeypatch.setattr(snapshots, "_read", lambda _store, _park, name: Snapshot(name, known))
    return Store()


async def asked(followed: Snapshots, parks: list[str]) -> list[str]:
    return [one.snapshot_id for one in await asyncio.gather(*map(followed.newest, parks)) if one is not None]


def test_of_many_parks_only_the_changed_pointers_are_read(store: Store) -> None:
    async def scene() -> None:
        followed = Snapshots(store)  # type: ignore[arg-type]
        await asked(followed, PARKS)
        await followed._refresh(time.monotonic())
        store.reads.clear()
        await followed._refresh(time.monotonic())
        assert (store.reads, store.lists) == ([], 2)
        store.ids["p07"] = "second"
        await followed._refresh(time.monotonic())
        assert store.reads == ["p07"]
        assert await asked(followed, ["p06", "p07"]) == ["first", "second"]
        assert store.reads == ["p07"]

    asyncio.run(scene())


def test_few_parks_are_read_one_by_one(store: Store) -> None:
    async def scene() -> None:
        followed = Snapshots(store)  # type: ignore[arg-type]
        await asked(followed, PARKS[:3])
        store.reads.clear()
        await followed._refresh(time.monotonic())
        assert (sorted(store.reads), store.lists) == (PARKS[:3], 0)

    asyncio.run(scene())


def test_while_the_store_is_away_memory_serves(store: Store) -> None:
    async def scene() -> None:
        followed = Snapshots(store)  # type: ignore[arg-type]
        await asked(followed, PARKS)
        store.away = True
        store.reads.clear()
        await followed._refresh(time.monotonic())
        assert await asked(followed, PARKS) == ["first"] * len(PARKS)
        assert store.reads == []
        store.away, store.ids["p00"] = False, "second"
        await followed._refresh(time.monotonic())
        assert await asked(followed, ["p00"]) == ["second"]

    asyncio.run(scene())


def test_nobody_asks_nothing_is_read(store: Store) -> None:
    asyncio.run(Snapshots(store)._refresh(time.monotonic()))  # type: ignore[arg-type]
    assert (store.reads, store.lists) == ([], 0)
