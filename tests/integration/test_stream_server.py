"""The stream's server by itself: a listener that does not read is dropped, and costs the others nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from prometheus_client import REGISTRY
from websockets.sync.client import connect

from inference import web
from inference.stream import options
from inference.stream.app import PATH, build_app
from inference.stream.hub import Hub, Update
from inference.stream.options import Options
from inference.transformer.access import ParkAccess
from pvforecast.errors import InvalidInput
from tests.serving import eventually, free_ports

_BIG = json.dumps({"type": "forecast", "filling": "x" * 500_000})


@dataclass
class _Server:
    port: int
    hub: Hub = field(default_factory=Hub)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def publish(self, number: int) -> None:
        self.loop.call_soon_threadsafe(self.hub.publish, [Update("a", str(number), _BIG)])


@pytest.fixture
def server() -> Iterator[_Server]:
    made = _Server(free_ports(1)[0])

    async def exists(_park: str) -> bool:
        return True

    async def run() -> None:
        impatient = Options(heartbeat_s=5, send_timeout_s=1)
        app = build_app(made.hub, ParkAccess(None), exists, lambda: None, impatient)
        serving = asyncio.create_task(_serve(app, made.port))
        await stopping.wait()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    stopping = asyncio.Event()
    thread = threading.Thread(target=made.loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    eventually(lambda: _is_open(made.port))
    yield made
    made.loop.call_soon_threadsafe(stopping.set)
    thread.join(10)
    made.loop.close()


async def _serve(app: object, port: int) -> None:
    """As `web.serve`, which takes signals and so wants the main thread."""
    http = web._Http(web.uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    try:
        await http.serve(sockets=[web.listen("127.0.0.1", port)])
    except asyncio.CancelledError:
        http.should_exit = True
        await http.shutdown()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _deaf(port: int) -> socket.socket:
    """A client that has shaken hands and never reads again."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.connect(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = f"GET {PATH}?park=a HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    made.sendall(f"{head}sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode())
    assert b" 101 " in made.recv(64)
    return made


def test_a_listener_that_does_not_read_is_dropped_with_a_reason_and_the_others_get_everything(server: _Server) -> None:
    def dropped() -> float:
        return REGISTRY.get_sample_value("pvf_stream_ended_total", {"reason": "too_slow"}) or 0.0

    before = dropped()
    url = f"ws://127.0.0.1:{server.port}{PATH}?park=a"
    with _deaf(server.port), connect(url, proxy=None, max_size=None) as good:
        eventually(lambda: len(server.hub) == 2)
        for number in range(20):  # more than all buffers on the way hold
            server.publish(number)
            assert len(good.recv(5)) == len(_BIG)  # TimeoutError when it has to wait for the other
        eventually(lambda: dropped() == before + 1)
        assert len(server.hub) == 1
        server.publish(99)
        good.recv(5)


def test_plain_http_is_told_to_upgrade(server: _Server) -> None:
    answer = httpx.get(f"http://127.0.0.1:{server.port}{PATH}?park=a")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert httpx.get(f"http://127.0.0.1:{server.port}/metrics").text.count("pvf_stream_ended_total")


def test_a_setting_that_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_STREAM_HEARTBEAT_S", "600")
    with pytest.raises(InvalidInput, match="PVF_STREAM_HEARTBEAT_S"):
        options.load()
