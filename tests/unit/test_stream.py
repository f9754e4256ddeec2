"""What listeners are owed: the newest forecast of each park, once, and why it is new."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from inference.stream import watch
from inference.stream.hub import Hub, Subscriber, Update
from inference.stream.watch import State, Watcher
from pvforecast.errors import NotReady


def _update(park: str, name: str) -> Update:
    return Update(park, name, "{}")


async def _owed(subscriber: Subscriber) -> list[str]:
    found = []
    while (update := await subscriber.next(0.0)) is not None:
        found.append(update.id)
    return found


def test_who_joins_is_offered_what_is_known_and_then_what_is_new() -> None:
    async def story() -> list[list[str]]:
        hub, early, late = Hub(), Subscriber(["a"]), Subscriber(["a", "b"])
        hub.join(early)
        hub.publish([_update("a", "1"), _update("b", "nobody listens")])
        hub.join(late)
        first = [await _owed(early), await _owed(late)]
        hub.publish([_update("a", "2"), _update("b", "3")])
        return [*first, await _owed(early), await _owed(late)]

    assert asyncio.run(story()) == [["1"], ["1"], ["2"], ["2", "3"]]


def test_a_slow_listener_is_owed_the_newest_only() -> None:
    async def story() -> list[str]:
        hub, slow = Hub(), Subscriber(["a"])
        hub.join(slow)
        hub.publish(_update("a", str(number)) for number in range(1_000))
        return await _owed(slow)

    assert asyncio.run(story()) == ["999"]


def test_resuming_skips_what_is_had_but_not_a_return_to_it() -> None:
    async def story() -> list[list[str]]:
        hub, subscriber = Hub(), Subscriber(["a"], seen=["old", "else"])
        hub.join(subscriber)
        hub.publish([_update("a", "old")])
        first = await _owed(subscriber)
        hub.publish([_update("a", "new")])
        second = await _owed(subscriber)
        hub.publish([_update("a", "old")])  # a rollback
        third = await _owed(subscriber)
        hub.publish([_update("a", "passing")])
        hub.publish([_update("a", "old")])
        return [first, second, third, await _owed(subscriber)]

    assert asyncio.run(story()) == [[], ["new"], ["old"], []]


def test_a_park_that_nobody_listens_to_is_forgotten() -> None:
    async def story() -> tuple[set[str], Update | None, int]:
        hub, one, other = Hub(), Subscriber(["a", "b"]), Subscriber(["a"])
        hub.join(one)
        hub.join(other)
        hub.publish([_update("a", "1"), _update("b", "1")])
        hub.leave(one)
        hub.leave(one)
        return hub.parks, hub.newest("b"), len(hub)

    assert asyncio.run(story()) == ({"a"}, None, 1)


class _World:
    """A store and a model to be changed by hand."""

    def __init__(self) -> None:
        self.snapshots = {"a": "s1", "b": "s1"}
        self.deployed = self.serving = "m1"
        self.weather_age, self.generation_age = 60, 0
        self.asked: list[list[str]] = []
        self.away = False

    def look(self, parks: set[str]) -> State:
        if self.away:
            raise NotReady("away")
        return State({park: self.snapshots[park] for park in parks if park in self.snapshots}, self.deployed)

    async def forecast(self, parks: Sequence[str]) -> list[dict[str, Any]]:
        self.asked.append(sorted(parks))
        return [
            {
                "park_id": park,
                "snapshot_id": self.snapshots[park],
                "bundle_id": self.serving,
                "issued_at": "2026-03-01T12:00:00Z",
                "weather_source": "x",
                "weather_age_minutes": self.weather_age,
                "generation_age_minutes": self.generation_age,
            }
            for park in parks
        ]


class _Listening:
    def __init__(self, *parks: str) -> None:
        self.world, self.hub, self.subscriber = _World(), Hub(), Subscriber(parks)
        self.hub.join(self.subscriber)
        self.watcher = Watcher(self.hub, self.world.look, self.world.forecast, lambda: self.world.deployed)

    async def step(self) -> list[tuple[str, list[str]]]:
        """What was pushed after one look: parks, and what had changed."""
        await self.watcher.step()
        found = []
        while (update := await self.subscriber.next(0.0)) is not None:
            message = json.loads(update.text)
            found.append((message["park_id"], message["changed"]))
        return sorted(found)


def test_only_what_changed_is_made_and_pushed_once() -> None:
    async def story() -> list[Any]:
        here = _Listening("a", "b")
        pushed = [await here.step(), await here.step()]
        here.world.snapshots["b"], here.world.generation_age = "s2", 15
        pushed += [await here.step(), await here.step()]
        return [*pushed, here.world.asked]

    first, nothing, second, again, asked = asyncio.run(story())
    assert first == [("a", ["first"]), ("b", ["first"])]
    assert (nothing, again) == ([], [])
    assert second == [("b", ["generation"])]
    assert asked == [["a", "b"], ["b"]]


def test_a_new_weather_run_is_told_apart_from_a_corrected_snapshot() -> None:
    async def story() -> list[Any]:
        here = _Listening("a")
        await here.step()
        here.world.snapshots["a"] = "s2"
        corrected = await here.step()
        here.world.snapshots["a"], here.world.weather_age = "s3", 0
        return [corrected, await here.step()]

    assert asyncio.run(story()) == [[("a", ["snapshot"])], [("a", ["weather"])]]


def test_a_new_model_is_pushed_when_the_predictor_serves_it_and_not_before() -> None:
    async def story() -> list[Any]:
        here = _Listening("a")
        await here.step()
        here.world.deployed = "m2"
        waiting = [await here.step(), await here.step()]
        here.world.serving = "m2"
        return [*waiting, await here.step(), await here.step()]

    assert asyncio.run(story()) == [[], [], [("a", ["model"])], []]


def test_a_store_that_is_away_is_no_change() -> None:
    async def story() -> list[Any]:
        here = _Listening("a")
        await here.step()
        here.world.away = True
        with pytest.raises(NotReady):
            await here.step()
        here.world.away = False
        return await here.step()

    assert asyncio.run(story()) == []


def test_ids_are_made_of_the_inputs_alone() -> None:
    answer = {"park_id": "a", "snapshot_id": "s" * 64, "bundle_id": "b" * 16, "issued_at": "2026-03-01T12:00:00Z"}
    later = answer | {"issued_at": "2026-03-01T13:00:00Z"}
    assert watch.encode(answer, ["first"]).id == watch.encode(later, ["weather"]).id == "s" * 16 + "-" + "b" * 16
