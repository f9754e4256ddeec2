"""What a deployment is tried with takes no wrong answer for a right one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tools import smoke

GOOD = {"park_id": "a", "model_version": "7", "valid_at": ["t0", "t1"], "power_kw": {"0.5": [0.0, 1.5]}}


class Gateway:
    """Answers as told; wants a key and knows one park."""

    def __init__(self) -> None:
        self.prediction: Any = GOOD
        self.open = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                known = asked["instances"][0]["park_id"] == "a"
                status = 401 if not (self.headers["x-api-key"] or outer.open) else 200 if known else 404
                body = json.dumps({"predictions": [outer.prediction]}).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    with made.server:
        threading.Thread(target=made.server.serve_forever, daemon=True).start()
        yield made
        made.server.shutdown()


def test_a_working_gateway_passes(gateway: Gateway) -> None:
    assert smoke.check(gateway.url, "key", "a") == "7"


@pytest.mark.parametrize(
    "change",
    [
        {"power_kw": {"0.5": [0.0]}},
        {"power_kw": {"0.5": [0.0, -1.0]}},
        {"power_kw": {"0.5": [0.0, float("nan")]}},
        {"valid_at": [], "power_kw": {"0.5": []}},
        {"model_version": ""},
    ],
)
def test_an_answer_that_is_not_whole_fails(gateway: Gateway, change: dict[str, Any]) -> None:
    gateway.prediction = GOOD | change
    with pytest.raises(smoke.WrongAnswer):
        smoke.check(gateway.url, "key", "a")


def test_a_gateway_that_asks_for_no_key_fails(gateway: Gateway) -> None:
    gateway.open = True
    with pytest.raises(smoke.WrongAnswer, match="without a key"):
        smoke.check(gateway.url, "key", "a")


def test_a_park_that_is_not_there_and_no_server_end_with_1(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PVF_API_KEY", "key")
    assert smoke.main(["--url", gateway.url, "--park", "b"]) == 1
    gateway.server.server_close()
    assert smoke.main(["--url", "http://127.0.0.1:9", "--park", "a"]) == 1
    assert capsys.readouterr().err.count("smoke: ") == 2
