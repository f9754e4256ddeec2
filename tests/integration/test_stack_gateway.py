"""What a client meets at the gateway: a real Envoy before a tiny upstream that tells what reached it."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference.metric_names import ENVOY
from pvf import client
from pvf.stack import api_keys, gateway, gateway_tls
from pvf.stack.local import Stack
from pvforecast.errors import InvalidInput

pytestmark = pytest.mark.stack


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        received = len(self.rfile.read(length))
        if self.path == "/v1/slow":
            time.sleep(2.0)
        status = 503 if self.path == "/v1/no-model" else 200
        body = json.dumps({"headers": dict(self.headers), "received": received, "path": self.path}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 (the names http.server calls)

    def log_message(self, format: str, *args: object) -> None:
        return


@dataclass
class Gate:
    home: Path
    stack: Stack

    @property
    def key(self) -> str:
        return api_keys.load(gateway.keys_file(self.home))["desk"][0].key

    @property
    def port(self) -> int:
        return int(self.stack.urls["gateway"].rsplit(":", 1)[1])

    def ask(
        self, path: str, key: str | None = None, *, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["x-api-key"] = key
        connection.request(method, path, body=body, headers=sent)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, got, json.loads(text) if got["content-type"] == "application/json" else text


@pytest.fixture(scope="module")
def upstream() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def gate(upstream: ThreadingHTTPServer, stack_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setenv("PVF_GATEWAY_REQUESTS_PER_SECOND", "1")
    monkeypatch.setenv("PVF_GATEWAY_BURST", "20")
    monkeypatch.setenv("PVF_GATEWAY_MAX_BODY_BYTES", "1000")
    monkeypatch.setenv("PVF_GATEWAY_TIMEOUT_S", "1")
    url = f"http://127.0.0.1:{upstream.server_port}"
    with Stack(stack_home, ["gateway"], overrides={"transformer_url": url}) as stack:
        yield Gate(stack_home, stack)


def _is_error(body: dict[str, Any], headers: dict[str, str], code: str, field: str | None) -> None:
    assert set(body) == {"error", "code", "field", "hint", "request_id"}
    assert body["code"] == code
    assert body["field"] == field
    assert body["error"]
    assert body["request_id"] == headers["x-request-id"]


def test_the_key_opens_and_is_not_passed_on(gate: Gate) -> None:
    status, headers, seen = gate.ask("/v1/models/pv-forecast", gate.key)
    assert status == 200
    passed = {name.lower(): value for name, value in seen["headers"].items()}
    assert passed["x-client-id"] == "desk"
    assert "x-api-key" not in passed
    assert passed["x-request-id"] == headers["x-request-id"]


def test_a_limited_key_is_told_apart_and_shares_the_rate_limit_of_its_client(gate: Gate) -> None:
    limited = api_keys.add(gateway.keys_file(gate.home), "desk", parks=["roof"])
    _until(lambda: gate.ask("/v1/x", limited.key)[0] == 200, every=0.3)
    seen = gate.ask("/v1/x", limited.key)[2]
    passed = {name.lower(): value for name, value in seen["headers"].items()}
    assert (passed["x-client-id"], passed["x-client"]) == (f"desk#{limited.id}", "desk")
    access = json.loads(gateway.access_file(gate.home).read_text())
    assert access == {"_platform": "*", "desk": "*", f"desk#{limited.id}": ["roof"]}
    statuses = [gate.ask("/v1/x", key)[0] for _ in range(15) for key in (gate.key, limited.key)]
    assert statuses.count(429) >= 4


@pytest.mark.parametrize("header", ["x_client_id", "x_client", "x_key_id"])
def test_a_forged_client_id_reaches_neither_upstream_nor_log(gate: Gate, header: str) -> None:
    _, _, seen = gate.ask("/v1/forged", gate.key, **{header: "forged-client"})
    assert "forged-client" not in json.dumps(seen)
    gate.ask("/v1/forged", None, **{header: "forged-client"})
    text = _access_log_until(gate, "missing_api_key")
    assert "forged-client" not in text


@pytest.mark.parametrize("key", [None, "", "pvf_wrong"])
def test_a_missing_or_wrong_key_is_401_and_says_what_to_send(gate: Gate, key: str | None) -> None:
    status, headers, body = gate.ask("/v1/models/pv-forecast", key)
    assert status == 401
    _is_error(body, headers, "unauthorized", "x-api-key")
    assert "x-api-key" in body["hint"]


def test_healthz_needs_no_key(gate: Gate) -> None:
    assert gate.ask("/healthz")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/v2/repository/index", "/v2/repository/models/pv-forecast/unload", "/v1x"]
)
def test_what_is_not_for_clients_is_404(gate: Gate, path: str) -> None:
    status, headers, body = gate.ask(path, gate.key, method="POST", body=b"{}")
    assert status == 404
    _is_error(body, headers, "not_found", "path")


@pytest.mark.parametrize("path", ["/v1/../v2/repository/index", "/v2//repository/index", "/v2/%2e%2e/v2/repository/x"])
def test_no_detour_leads_to_the_model_repository(gate: Gate, path: str) -> None:
    assert gate.ask(path, gate.key)[0] == 404


def test_an_escaped_slash_is_refused(gate: Gate) -> None:
    assert gate.ask("/v2%2Frepository/index", gate.key)[0] == 400


def test_a_body_over_the_limit_is_413(gate: Gate) -> None:
    assert gate.ask("/v1/x", gate.key, method="POST", body=b"x" * 1000)[2]["received"] == 1000
    status, headers, body = gate.ask("/v1/x", gate.key, method="POST", body=b"x" * 1001)
    assert status == 413
    _is_error(body, headers, "too_large", "body")
    assert "1000 bytes" in body["error"]


def test_each_client_has_a_bucket_of_its_own(gate: Gate) -> None:
    other = api_keys.add(gateway.keys_file(gate.home), "bi").key
    _until(lambda: gate.ask("/v1/x", other)[0] == 200)
    answers = [gate.ask("/v1/x", gate.key) for _ in range(25)]
    refused = [answer for answer in answers if answer[0] == 429]
    assert len(refused) >= 3  # 20 at once, and one more for each second that passed
    _, headers, body = refused[0]
    _is_error(body, headers, "rate_limited", "x-api-key")
    assert headers["retry-after"] == "1"
    assert "desk" in body["error"]
    assert gate.ask("/v1/x", other)[0] == 200
    time.sleep(1.1)
    assert gate.ask("/v1/x", gate.key)[0] == 200


def test_the_upstreams_own_errors_pass_unchanged(gate: Gate) -> None:
    status, _, body = gate.ask("/v1/no-model", gate.key)
    assert (status, body["path"]) == (503, "/v1/no-model")


def test_a_slow_upstream_is_504(gate: Gate) -> None:
    status, headers, body = gate.ask("/v1/slow", gate.key)
    assert status == 504
    _is_error(body, headers, "timeout", None)


def test_an_upstream_that_is_down_is_503(stack_home: Path) -> None:
    with Stack(stack_home, ["gateway"], overrides={"transformer_url": "http://127.0.0.1:9"}) as stack:
        gate = Gate(stack_home, stack)
        status, headers, body = gate.ask("/v1/x", gate.key)
    assert status == 503
    assert headers["retry-after"] == "2"
    _is_error(body, headers, "not_ready", None)


def test_with_tls_only_those_are_served_who_speak_it_and_programs_of_the_stack_trust_it(
    upstream: ThreadingHTTPServer, stack_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PVF_GATEWAY_TLS", "own-ca")
    upstream_url = f"http://127.0.0.1:{upstream.server_port}"
    with Stack(stack_home, ["gateway"], overrides={"transformer_url": upstream_url}) as stack:
        url = stack.settings.gateway_url
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=gateway_tls.ca_file(stack_home))
        key = api_keys.load(gateway.keys_file(stack_home))["desk"][0].key
        with httpx.Client(verify=context, http2=False) as session:
            answer = session.get(f"{url}/v1/x", headers={"x-api-key": key})
            assert answer.status_code == 200
            assert answer.json()["headers"]["x-client-id"] == "desk"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/healthz")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url.replace('https', 'http')}/healthz")
        with pytest.raises(KeyError, match="predictions"):  # the echo is no forecast, but it was reached
            client.forecast(stack.settings, [])


def test_a_renewed_certificate_of_ones_own_is_taken_up_without_a_restart(
    upstream: ThreadingHTTPServer, stack_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, now = stack_home / "elsewhere", datetime.now(UTC)
    own = gateway_tls.ensure(elsewhere, ["127.0.0.1"], now)
    monkeypatch.setenv("PVF_GATEWAY_TLS_CERT", str(own.chain))
    monkeypatch.setenv("PVF_GATEWAY_TLS_KEY", str(own.key))
    with Stack(
        stack_home, ["gateway"], overrides={"transformer_url": f"http://127.0.0.1:{upstream.server_port}"}
    ) as stack:
        address = ("127.0.0.1", int(stack.urls["gateway"].rsplit(":", 1)[1]))
        before = ssl.get_server_certificate(address)
        assert before == own.chain.read_text()
        gateway_tls.ensure(elsewhere, ["127.0.0.1", "pv.example.org"], now)
        _until(lambda: ssl.get_server_certificate(address) == own.chain.read_text() != before)


def test_keys_rotate_without_closing_a_connection(gate: Gate) -> None:
    file, old = gateway.keys_file(gate.home), gate.key
    kept = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=10)
    kept.connect()
    sock = kept.sock

    def over_kept(key: str) -> int:
        kept.request("GET", "/v1/x", headers={"x-api-key": key})
        answer = kept.getresponse()
        answer.read()
        return answer.status

    assert over_kept(old) == 200
    made, ending = api_keys.rotate(file, "desk", timedelta(seconds=3))
    assert [key.key for key in ending] == [old]
    _until(lambda: over_kept(made.key) == 200, every=0.3)
    assert over_kept(old) == 200, "both hold while clients change over"
    _until(lambda: over_kept(old) == 401, every=0.5)
    assert over_kept(made.key) == 200
    assert api_keys.revoke(file, made.id) == "desk"
    _until(lambda: over_kept(made.key) == 401, every=0.5)
    assert kept.sock is sock, "the connection was never closed"
    kept.close()


def test_a_broken_key_file_leaves_the_old_keys_in_force(gate: Gate) -> None:
    key = gate.key
    gateway.keys_file(gate.home).write_text('{"desk": ["short"]}')
    with pytest.raises(InvalidInput, match=r"api-keys\.desk\[0\]"):
        gateway.apply_keys(gate.home)
    assert gate.ask("/v1/x", key)[0] == 200


def test_no_key_is_ever_logged(gate: Gate) -> None:
    gate.ask("/v1/logged?x-api-key=query-word", gate.key)
    gate.ask("/v1/logged", "pvf_a-wrong-key-that-looks-right")
    text = _access_log_until(gate, "unknown_api_key")
    line = next(json.loads(line) for line in text.splitlines() if '"/v1/logged"' in line)
    assert (line["client"], line["status"]) == ("desk", 200)
    assert line["key_id"] == api_keys.Key(gate.key).id
    for word in (gate.key, "a-wrong-key", "query-word"):
        assert word not in text


def test_the_admin_port_gives_statistics_but_neither_keys_nor_control(gate: Gate) -> None:
    admin = json.loads((gate.home / "run" / "ports.json").read_text())["gateway-admin"]

    def ask(method: str, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=5)
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    assert gate.ask("/v1/x", gate.key)[0] == 200
    # Envoy makes a metric when it has something to count, and histograms every 5 s
    _until(lambda: all(f"\n{name}{{" in ask("GET", "/stats/prometheus")[1] for name in ENVOY), 30.0, every=0.5)
    text = ask("GET", "/stats/prometheus")[1]
    assert gate.key not in text
    for method, path in (("GET", "/config_dump"), ("POST", "/quitquitquit"), ("POST", "/drain_listeners")):
        assert ask(method, path)[0] in (403, 404)
    assert gate.ask("/healthz")[0] == 200


def test_files_with_keys_are_for_their_owner_only(gate: Gate) -> None:
    for file in (gateway.keys_file(gate.home), gate.home / "gateway" / "routes.json"):
        assert gate.key in file.read_text()
        assert file.stat().st_mode & 0o077 == 0


def _access_log_until(gate: Gate, word: str) -> str:
    log = gate.home / "log" / "gateway.log"
    _until(lambda: word in log.read_text())
    return log.read_text()


def _until(condition: Any, seconds: float = 5.0, every: float = 0.05) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time allowed"
        time.sleep(every)
