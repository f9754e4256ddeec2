"""Which model served then, and how a predictor comes by one that serves no more."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import grpc
import numpy as np
import pytest

from inference import history, server
from inference.deployed import Deployment
from inference.history import Promoted, serving_at
from inference.predictor import earlier
from inference.predictor.earlier import Earlier, Loading
from inference.protocol import MODEL_GONE, Refusal, RefusedError
from inference.transformer import client
from inference.transformer import earlier as transformer
from inference.transformer.errors import problem
from pvforecast.errors import BundleError, DataError, InvalidInput, NotReady
from pvforecast.model.bundle import Bundle

# --- the choice ------------------------------------------------------------------------------------------------------


def at(text: str) -> np.datetime64:
    return np.datetime64(text, "s")


def promoted(bundle_id: str, promoted_at: str, as_of: str | None) -> Promoted:
    return Promoted(Deployment(f"s3://pvf/{bundle_id}", bundle_id, "1"), at(promoted_at), at(as_of) if as_of else None)


LIVE = [
    promoted("a", "2026-03-01T04:40:00", "2026-03-01T04:00:00"),  # a rollback
    promoted("b", "2026-02-01T04:40:00", "2026-02-01T04:00:00"),
    promoted("a", "2026-01-01T04:40:00", None),
]
REPLAY = [
    promoted("b", "2026-01-01T00:20:00", "2013-06-08T06:00:00"),
    promoted("a", "2026-01-01T00:10:00", "2013-06-01T06:00:00"),
]


def chosen(rows: list[Promoted], issued_at: str, *, replay: bool) -> str:
    return serving_at(rows, at(issued_at), replay=replay, field="issued_at").bundle_id


@pytest.mark.parametrize(
    ("issued_at", "served"),
    [
        ("2026-01-01T04:40:00", "a"),
        ("2026-02-01T04:39:59", "a"),  # the run was of 04:00, and trained for forty minutes
        ("2026-02-01T04:40:00", "b"),
        ("2026-03-01T04:39:59", "b"),
        ("2026-03-02T00:00:00", "a"),
    ],
)
def test_a_model_served_from_its_promotion_to_the_next(issued_at: str, served: str) -> None:
    assert chosen(LIVE, issued_at, replay=False) == served


@pytest.mark.parametrize(("issued_at", "served"), [("2013-06-01T06:00:00", "a"), ("2013-06-09T00:00:00", "b")])
def test_in_a_replay_time_is_that_of_the_runs(issued_at: str, served: str) -> None:
    assert chosen(REPLAY, issued_at, replay=True) == served


def test_a_replay_that_was_started_again_goes_by_its_last_promotions() -> None:
    again = [promoted("c", "2026-01-02T00:00:00", "2013-06-04T00:00:00"), *REPLAY]
    assert chosen(again, "2013-06-09T00:00:00", replay=True) == "c"
    assert chosen(again, "2013-06-02T00:00:00", replay=True) == "a"


@pytest.mark.parametrize(
    ("rows", "issued_at", "replay"),
    [
        (LIVE, "2026-01-01T04:39:59", False),
        (REPLAY, "2013-06-01T05:59:59", True),
        ([], "2013-06-01T05:59:59", True),
    ],
)
def test_before_the_first_promotion_there_is_no_answer(rows: list[Promoted], issued_at: str, replay: bool) -> None:
    with pytest.raises(InvalidInput, match=r"issued_at: no model served yet at .* \(.*pvf backtest\)"):
        chosen(rows, issued_at, replay=replay)


def test_a_promotion_without_a_time_in_a_replay_is_not_guessed_about() -> None:
    with pytest.raises(InvalidInput, match=r"which model served at .* is not known: .*pvf backtest"):
        chosen(LIVE, "2013-01-01T00:00:00", replay=True)
    assert chosen(LIVE, "2026-03-01T04:00:00", replay=True) == "a"  # a later one that is known decides


# --- the object in the store -----------------------------------------------------------------------------------------


class Store:
    """One object in memory."""

    def __init__(self, rows: Any) -> None:
        self.data = json.dumps(rows).encode()
        self.headers: dict[str, Any] = {}
        self.away = False
        self.bucket = "pvf"

    def etag(self, _key: str) -> str:
        if self.away:
            raise NotReady("away")
        return str(hash(self.data))

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        assert key == "models/history.json"
        if self.away:
            raise NotReady("away")
        return self.data, self.etag(key)

    def get_json(self, key: str) -> Any:
        if self.away:
            raise NotReady("away")
        return self.headers[key]


def row(bundle_id: str, **more: Any) -> dict[str, Any]:
    fields = {"promotion_id": 1, "bundle_uri": f"s3://pvf/{bundle_id}", "bundle_id": bundle_id, "model_version": "1"}
    return {**fields, "promoted_at": "2026-01-01T02:00:00.5+02:00", "as_of": None, **more}


def test_the_history_is_read_as_it_is_written() -> None:
    store = Store([row("b", as_of="2013-06-08T06:00:00+00:00"), row("a")])
    assert history.follow(cast(Any, store)).check() == (
        promoted("b", "2026-01-01T00:00:00", "2013-06-08T06:00:00"),
        promoted("a", "2026-01-01T00:00:00", None),
    )


@pytest.mark.parametrize("rows", [{"x": 1}, [1], [{"bundle_id": "a"}], [row("a", promoted_at="yesterday")]])
def test_a_damaged_history_names_itself_and_the_repair(rows: Any) -> None:
    with pytest.raises(DataError, match=r"models/history\.json: .*pvf model reconcile"):
        history.follow(cast(Any, Store(rows))).check()


def test_without_the_store_the_history_and_headers_that_were_seen_serve_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "_TTL_S", 0.0)
    store = Store([row("b", promoted_at="2026-02-01T00:00:00+00:00"), row("a")])
    store.headers = {
        f"{name}/bundle.json": {"spec": {"names": ["ghi"], "version": 1}, "quantiles": [0.5]} for name in "ab"
    }
    earlier_models = transformer.Earlier(cast(Any, store), replay=False)

    async def served(issued_at: str) -> str:
        found = await earlier_models.serving_at(at(issued_at), "issued_at")
        assert found is not None
        return found.deployment.bundle_id

    async def acts() -> None:
        store.away = True
        with pytest.raises(NotReady, match="away"):
            await served("2026-01-02T00:00:00")
        store.away = False
        assert await served("2026-01-02T00:00:00") == "a"
        store.away = True
        assert await served("2026-01-03T00:00:00") == "a"
        with pytest.raises(NotReady, match="away"):  # its header was never read
            await served("2026-02-02T00:00:00")
        store.away = False
        del store.headers["b/bundle.json"]
        with pytest.raises(InvalidInput, match=r"issued_at: the model that served at .* cannot be loaded any more"):
            await served("2026-02-02T00:00:00")

    asyncio.run(acts())


def test_where_no_history_is_kept_what_serves_now_answers() -> None:
    class Empty(Store):
        def get_with_etag(self, key: str) -> tuple[bytes, str]:
            raise KeyError(key)

    earlier_models = transformer.Earlier(cast(Any, Empty([])), replay=False)
    assert asyncio.run(earlier_models.serving_at(at("2026-01-02T00:00:00"), "issued_at")) is None


# --- loading ---------------------------------------------------------------------------------------------------------


class Scene:
    """A predictor's `Earlier` whose loads begin at once and end when they are let."""

    def __init__(self, *ids: str, wait_s: float = 30.0) -> None:
        self.store = Store([row(bundle_id) for bundle_id in ids])
        self.loads: list[str] = []
        self.go = threading.Event()
        self.error: Exception | None = None
        self.earlier = Earlier(cast(Any, self.store), self._load, wait_s)

    def _load(self, _store: object, uri: str) -> Bundle:
        self.loads.append(uri)
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        return cast(Bundle, uri)

    def play(self, acts: Callable[[], Awaitable[None]]) -> None:
        try:
            asyncio.run(cast(Any, acts()))
        finally:
            self.go.set()
            self.earlier.stop()


def test_it_is_loaded_once_for_all_who_wait() -> None:
    scene = Scene("a")

    async def acts() -> None:
        waiting = [asyncio.create_task(scene.earlier.get("a")) for _ in range(8)]
        await asyncio.sleep(0)
        scene.go.set()
        loaded = await asyncio.gather(*waiting)
        assert {(one.deployment.bundle_id, str(one.bundle)) for one in loaded} == {("a", "s3://pvf/a")}
        assert scene.loads == ["s3://pvf/a"]

    scene.play(acts)


def test_who_does_not_want_to_wait_is_told_to_come_back_and_finds_it_then() -> None:
    scene = Scene("a", wait_s=0.05)

    async def acts() -> None:
        for _ in range(2):
            with pytest.raises(Loading):
                await scene.earlier.get("a")
        scene.go.set()
        while scene.earlier._loading:
            await asyncio.sleep(0.01)
        await scene.earlier.get("a")
        assert scene.loads == ["s3://pvf/a"]

    scene.play(acts)


def test_the_two_last_asked_for_are_kept() -> None:
    scene = Scene("a", "b", "c")
    scene.go.set()

    async def acts() -> None:
        for bundle_id in "abacab":
            await scene.earlier.get(bundle_id)
        assert [uri[-1] for uri in scene.loads] == ["a", "b", "c", "b"]  # b was given up for c, a was not

    scene.play(acts)


def test_what_was_never_promoted_is_refused_without_a_look_at_the_store_for_it() -> None:
    scene = Scene("a")

    async def acts() -> None:
        with pytest.raises(RefusedError, match="was never promoted") as caught:
            await scene.earlier.get("../secrets")
        assert caught.value.refusal.code == MODEL_GONE
        assert scene.loads == []

    scene.play(acts)


def test_a_damaged_bundle_is_refused_and_not_read_for_each_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene("a")
    scene.go.set()
    scene.error = BundleError("its golden rows differ")

    async def acts() -> None:
        for _ in range(3):
            with pytest.raises(RefusedError, match="cannot be loaded any more"):
                await scene.earlier.get("a")
        assert len(scene.loads) == 1

    scene.play(acts)
    monkeypatch.setattr(earlier, "_REFUSED_AGAIN_S", 0.0)
    mended = Scene("a")
    mended.go.set()
    mended.error = scene.error

    async def later() -> None:
        with pytest.raises(RefusedError):
            await mended.earlier.get("a")
        mended.error = None
        while mended.earlier._loading:
            await asyncio.sleep(0.01)
        await mended.earlier.get("a")

    mended.play(later)


def test_a_store_that_is_away_is_asked_again() -> None:
    scene = Scene("a")
    scene.go.set()
    scene.store.away = True

    async def acts() -> None:
        with pytest.raises(NotReady, match="away"):
            await scene.earlier.get("a")
        scene.store.away = False
        await scene.earlier.get("a")

    scene.play(acts)


# --- what callers are told -------------------------------------------------------------------------------------------


def as_told(error: Exception) -> Exception:
    """An error of the predictor as the transformer gets it."""
    status, refusal = server._status(error)
    nothing = grpc.aio.Metadata()
    return client._as_ours(grpc.aio.AioRpcError(status, nothing, nothing, refusal.encode()))


def test_a_model_that_is_being_loaded_is_a_503_that_says_so() -> None:
    told = problem(as_told(Loading("s3://pvf/a is being read")))
    assert (told.status, told.code, told.message) == (503, "not_ready", "the model of then is being loaded")


def test_a_model_that_is_gone_is_a_400_that_names_the_issue_time_and_the_backtest() -> None:
    assert isinstance(as_told(RefusedError(Refusal(MODEL_GONE, "gone"))), client.ModelGone)
    told = problem(transformer.gone("instances[3].issued_at", at("2026-01-01T00:00:00")))
    assert (told.status, told.code, told.field) == (400, "invalid_input", "instances[3].issued_at")
    assert "pvf backtest" in str(told.hint)
