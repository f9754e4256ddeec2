"""Environments of parts, and the health check over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pvf.stack import services
from pvf.stack.part import THREAD_LIMITS, UnhealthyError, answers, python_env
from pvforecast.settings import Settings


class _Status(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Answers GET /<status> with that status."""
    http = HTTPServer(("127.0.0.1", 0), _Status)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


def test_healthy_is_2xx(server: str) -> None:
    answers(f"{server}/200")()
    answers(f"{server}/204")()


@pytest.mark.parametrize("status", [301, 404, 500, 503])
def test_any_other_answer_is_unhealthy(server: str, status: int) -> None:
    with pytest.raises(UnhealthyError, match=f"answered {status}"):
        answers(f"{server}/{status}")()


def test_no_answer_is_unhealthy() -> None:
    with pytest.raises(UnhealthyError, match="refused"):
        answers("http://127.0.0.1:9/")()


def test_python_parts_get_neither_cloud_keys_nor_a_proxy_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "mine")
    monkeypatch.setenv("PVF_S3_ENDPOINT", "http://elsewhere")
    monkeypatch.setenv("NO_PROXY", "intranet")
    env = python_env(PVF_HOME="/x")
    assert "AWS_SESSION_TOKEN" not in env
    assert "PVF_S3_ENDPOINT" not in env
    assert env["PVF_HOME"] == "/x"
    assert env["NO_PROXY"] == env["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_servers_use_one_thread_and_training_may_use_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THREAD_LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PVF_TRAINING_COMMAND", '["true"]')
    settings = Settings(home=tmp_path)
    predictor = services.predictor(tmp_path, 1, 2, settings)
    assert [predictor.env[name] for name in THREAD_LIMITS] == ["1"] * len(THREAD_LIMITS)
    trigger = services.trigger(tmp_path, 1, settings)
    assert not set(THREAD_LIMITS) & set(trigger.env)
    assert trigger.env["PVF_TRAINING_COMMAND"] == '["true"]'
    assert trigger.env["PVF_HOME"] == str(tmp_path)
