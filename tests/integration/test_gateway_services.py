"""Real forecast services behind a real Envoy: who sees which parks, and what is pushed over the WebSocket."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pvf.stack import api_keys, gateway
from pvforecast import snapshot
from pvforecast.known import HOUR
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site, tiny_bundle
from tests.gateway import Place
from tests.gateway import place as gateway_place
from tests.serving import PARKS, eventually

pytestmark = pytest.mark.stack

FIRST, SECOND = PARKS
LISTENERS = 1_000


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway_place(infra, tmp_path_factory.mktemp("home")) as made:
        yield made


def _received(socket: ClientConnection, within_s: float = 20.0) -> dict[str, Any]:
    """The next message that is no heartbeat."""
    deadline = time.monotonic() + within_s
    while True:
        message: dict[str, Any] = json.loads(socket.recv(deadline - time.monotonic()))
        if message["type"] != "heartbeat":
            return message


def _new_snapshot(place: Place, park: str, hours: int) -> str:
    """Taken `hours` later, from the same weather run; returns its id."""
    known = replace(record(site(park)).known_at(NOW), as_of=NOW + hours * HOUR)
    return snapshot.write(place.services.store, known)


def test_a_limited_key_sees_its_parks_and_no_sign_of_others(place: Place) -> None:
    assert place.ask(FIRST, place.limited).status_code == 200
    others, nobodys = place.ask(SECOND, place.limited), place.ask("nowhere", place.limited)
    assert (others.status_code, nobodys.status_code) == (404, 404)
    told = [{**one.json(), "request_id": ""} for one in (others, nobodys)]
    assert json.dumps(told[0]).replace(SECOND, "nowhere") == json.dumps(told[1])
    assert place.ask(SECOND, place.desk).status_code == 200


def test_a_stream_begins_with_the_newest_forecast_and_tells_what_changes(place: Place) -> None:
    with place.listen(f"park={FIRST}", place.desk) as socket:
        first = _received(socket)
        assert (first["park_id"], first["changed"]) == (FIRST, ["first"])
        assert len(first["prediction"]["valid_at"]) == 48
        assert first["prediction"]["power_kw"].keys() == {"0.1", "0.5", "0.9"}
        snapshot_id = _new_snapshot(place, FIRST, 1)
        written = time.monotonic()
        second = _received(socket)
        assert time.monotonic() - written < 3.0  # within a second on a machine that does nothing else
        assert second["prediction"]["snapshot_id"] == snapshot_id
        assert second["changed"] == ["snapshot"], "weather and generation are those of before"
        place.services.deploy(tiny_bundle(record(site(FIRST)), seed=5), "2")
        third = _received(socket)
        assert (third["changed"], third["prediction"]["model_version"]) == (["model"], "2")
        assert len({first["id"], second["id"], third["id"]}) == 3


def test_who_resumes_gets_only_what_is_new(place: Place) -> None:
    with place.listen(f"park={FIRST}", place.desk) as socket:
        last = _received(socket)["id"]
    with place.listen(f"park={FIRST}&last_id={last}", place.desk) as socket:
        assert json.loads(socket.recv(5))["type"] == "heartbeat"
    _new_snapshot(place, FIRST, 2)
    with place.listen(f"park={FIRST}&last_id={last}", place.desk) as socket:
        assert _received(socket)["id"] != last


def test_several_parks_come_on_one_connection_and_other_parks_do_not(place: Place) -> None:
    with (
        place.listen(f"park={FIRST}&park={SECOND}", place.desk) as both,
        place.listen(f"park={FIRST}", place.desk) as one,
    ):
        assert {_received(both)["park_id"] for _ in PARKS} == set(PARKS)
        _received(one)
        _new_snapshot(place, SECOND, 3)
        assert _received(both)["park_id"] == SECOND
        assert json.loads(one.recv(5))["type"] == "heartbeat"


@pytest.mark.parametrize(
    ("query", "kind", "status", "code", "field"),
    [
        (f"park={FIRST}", "", 401, "unauthorized", "x-api-key"),
        (f"park={SECOND}", "limited", 404, "unknown_park", "park[0]"),
        (f"park={FIRST}&park=nowhere", "desk", 404, "unknown_park", "park[1]"),
        ("park=..%2Fx", "desk", 404, "unknown_park", "park[0]"),
        ("", "desk", 400, "invalid_input", "park"),
        (f"park={FIRST}&since=3", "desk", 400, "invalid_input", "since"),
    ],
)
def test_who_may_not_listen_is_told_why_before_the_upgrade(
    place: Place, query: str, kind: str, status: int, code: str, field: str
) -> None:
    key = getattr(place, kind) if kind else "pvf_wrong-key-0123456789"
    with pytest.raises(InvalidStatus) as caught, place.listen(query, key):
        pass
    answer = caught.value.response
    body = json.loads(answer.body)
    assert (answer.status_code, body["code"], body["field"]) == (status, code, field)
    assert set(body) == {"error", "code", "field", "hint", "request_id"}
    assert body["request_id"]


def test_a_stream_ends_when_its_key_no_longer_sees_the_park(place: Place) -> None:
    file = gateway.keys_file(place.home)
    key = api_keys.add(file, "bi", parks=[SECOND])
    gateway.apply_keys(place.home)
    eventually(lambda: place.ask(SECOND, key.key).status_code == 200)
    time.sleep(1.5)  # the stream reads the table within a second
    with place.listen(f"park={SECOND}", key.key) as socket:
        _received(socket)
        api_keys.revoke(file, key.id)
        gateway.apply_keys(place.home)
        with pytest.raises(ConnectionClosed) as caught:
            _received(socket)  # heartbeats, then the end
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4004


@pytest.mark.slow
def test_a_thousand_listeners_get_a_push_within_a_second(place: Place) -> None:
    url = f"ws://{urlsplit(place.url).netloc}/v1/forecasts/stream?park={SECOND}"
    arrived: list[float] = []

    async def listener(ready: asyncio.Event, left: list[int]) -> None:
        headers = {"x-api-key": place.desk}
        async with connect_async(url, additional_headers=headers, proxy=None, open_timeout=60) as socket:
            json.loads(await socket.recv())
            left[0] -= 1
            if left[0] == 0:
                ready.set()
            while json.loads(await socket.recv())["type"] == "heartbeat":
                pass
            arrived.append(time.monotonic())

    async def story() -> float:
        ready, left = asyncio.Event(), [LISTENERS]
        tasks = []
        for _ in range(LISTENERS):
            tasks.append(asyncio.create_task(listener(ready, left)))
            await asyncio.sleep(0.01)  # a thousand handshakes at one instant are another matter
        await asyncio.wait_for(ready.wait(), 90)
        with _deaf(place):
            await asyncio.sleep(1)
            await asyncio.to_thread(_new_snapshot, place, SECOND, 40)
            written = time.monotonic()
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
        return written

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        written = asyncio.run(story())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    took = sorted(one - written for one in arrived)
    print(f"{len(took)} listeners: median {took[len(took) // 2]:.3f} s, last {took[-1]:.3f} s")
    assert len(took) == LISTENERS
    assert took[-1] < 1.0


def _deaf(place: Place) -> socket.socket:
    """A listener that has shaken hands and never reads again."""
    made = socket.create_connection((urlsplit(place.url).hostname, urlsplit(place.url).port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET /v1/forecasts/stream?park={SECOND} HTTP/1.1\r\nhost: x\r\nx-api-key: {place.desk}\r\n"
    head += (
        f"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    )
    made.sendall(head.encode())
    return made


def test_a_websocket_is_taken_nowhere_else(place: Place) -> None:
    url = f"ws://{urlsplit(place.url).netloc}/v1/models/pv-forecast"
    with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers={"x-api-key": place.desk}, proxy=None):
        pass
    assert caught.value.response.status_code == 403
    assert json.loads(caught.value.response.body)["code"] == "forbidden"
