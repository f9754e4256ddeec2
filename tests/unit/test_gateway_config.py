"""Envoy's configuration: where keys stand and what is open. That it works is shown with a real Envoy elsewhere."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pvf.stack import gateway, gateway_config, gateway_options, gateway_tls
from pvf.stack.api_keys import Key
from pvf.stack.canary import Counts, verdict
from pvf.stack.gateway_config import Upstreams
from pvf.stack.gateway_options import Options
from pvforecast.errors import InvalidInput, StackError

_LIMITS = {"max_body_bytes": 1000, "requests_per_second": 5, "burst": 10}
_UPSTREAMS = Upstreams([("127.0.0.1", 2)], [("127.0.0.1", 3)], [("127.0.0.1", 4)])


def _bootstrap() -> dict[str, Any]:
    return gateway_config.bootstrap(1, _UPSTREAMS, "l", "c", max_connections=100)


def _listener() -> dict[str, Any]:
    return gateway_config.listener(("127.0.0.1", 3), "r", **_LIMITS)


def test_keys_stand_with_the_routes_and_nowhere_else() -> None:
    keys = {"desk": [Key("key-one"), Key("key-two", parks=("roof",))], "bi": [Key("key-three")]}
    routes = json.dumps(gateway_config.routes(keys, _UPSTREAMS, timeout_s=5))
    for client, of_client in keys.items():
        for key in of_client:
            limited = "!" if key.limited else ""
            assert f'{{"key": "{key.key}", "client": "{client}#{key.id}{limited}"}}' in routes
    assert "key-one" not in json.dumps([_bootstrap(), _listener()])


def test_a_canary_gets_its_share_of_rest_requests_and_of_nothing_else() -> None:
    text = json.dumps(gateway_config.routes({}, _UPSTREAMS, timeout_s=5, canary_share=0.125))
    weights = [{"name": "transformer", "weight": 875}, {"name": "canary-or-transformer", "weight": 125}]
    assert text.count(json.dumps(weights)) == 3
    assert "canary" not in json.dumps(gateway_config.routes({}, _UPSTREAMS, timeout_s=5))


@pytest.mark.parametrize(
    ("canary", "stable", "stays"),
    [
        (Counts(0, 0), Counts(1000, 0), True),
        (Counts(4, 4), Counts(1000, 0), True),  # too few to tell
        (Counts(1000, 19), Counts(1000, 0), True),
        (Counts(1000, 21), Counts(1000, 0), False),
        (Counts(100, 100), Counts(1000, 0), False),
        (Counts(100, 18), Counts(1000, 100), True),  # something else is wrong, for both
        (Counts(100, 21), Counts(1000, 100), False),
    ],
)
def test_a_canary_goes_when_it_fails_more_than_the_other_model(canary: Counts, stable: Counts, stays: bool) -> None:
    assert (verdict(canary, stable) is None) is stays


def test_every_address_is_loopback() -> None:
    text = json.dumps([_bootstrap(), _listener()])
    assert text.count('"address": "127.0.0.1"') == 5
    assert "0.0.0.0" not in text


def test_all_errors_have_the_one_shape() -> None:
    manager = _listener()["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for mapper in manager["local_reply_config"]["mappers"]:
        body = mapper["body_format_override"]["json_format"]
        assert set(body) == {"error", "code", "field", "hint", "request_id"}


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Options().requests_per_second == 100
    monkeypatch.setenv("PVF_GATEWAY_REQUESTS_PER_SECOND", "7")
    assert Options().requests_per_second == 7
    monkeypatch.setenv("PVF_GATEWAY_URL", "http://127.0.0.1:1")  # a name of Settings, not of these
    Options()


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_limit_that_is_no_limit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PVF_GATEWAY_BURST", value)
    with pytest.raises(InvalidInput, match="PVF_GATEWAY_BURST"):
        gateway_options.load()


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("HOST", "0.0.0.0", "PVF_GATEWAY_HOST"),
        ("HOST", "everywhere", "PVF_GATEWAY_HOST"),
        ("TLS", "on", "PVF_GATEWAY_TLS"),
        ("TLS_CERT", "/nowhere/cert.pem", "PVF_GATEWAY_TLS_KEY"),
    ],
)
def test_listening_that_would_be_unsafe_or_cannot_work_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str
) -> None:
    monkeypatch.setenv(f"PVF_GATEWAY_{name}", value)
    with pytest.raises(InvalidInput) as caught:
        gateway_options.load()
    assert caught.value.field == field


def test_with_tls_it_may_listen_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("PVF_GATEWAY_TLS", "own-ca")
    monkeypatch.setenv("PVF_GATEWAY_TLS_NAMES", "pv.example.org, 10.0.0.7")
    options = gateway_options.load()
    assert options.names == ["localhost", "127.0.0.1", "pv.example.org", "10.0.0.7"]
    assert gateway.url(1234, options) == "https://127.0.0.1:1234"


def test_the_certificate_is_kept_until_it_nears_its_end_or_its_names_change(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    made = gateway_tls.ensure(tmp_path, ["localhost", "127.0.0.1"], now)
    authority, first = gateway_tls.ca_file(tmp_path).read_bytes(), made.chain.read_bytes()
    assert made.key.stat().st_mode & 0o077 == 0
    gateway_tls.ensure(tmp_path, ["localhost", "127.0.0.1"], now + timedelta(days=300))
    assert made.chain.read_bytes() == first
    gateway_tls.ensure(tmp_path, ["localhost", "127.0.0.1"], now + timedelta(days=340))
    second = made.chain.read_bytes()
    assert second != first
    gateway_tls.ensure(tmp_path, ["localhost", "127.0.0.1", "pv.example.org"], now + timedelta(days=341))
    assert made.chain.read_bytes() != second
    assert gateway_tls.ca_file(tmp_path).read_bytes() == authority, "clients need not be told anew"
    with pytest.raises(InvalidInput, match="PVF_GATEWAY_TLS_NAMES"):
        gateway_tls.ensure(tmp_path, ["x" * 70], now)


def test_an_upstream_without_a_port_is_refused() -> None:
    assert gateway.addresses("http://127.0.0.1:1, http://127.0.0.1:2") == [("127.0.0.1", 1), ("127.0.0.1", 2)]
    with pytest.raises(StackError, match="PVF_TRANSFORMER_URL"):
        gateway.addresses("")


@pytest.mark.parametrize("tls", ["off", "own-ca"])
def test_envoy_accepts_the_bootstrap(tmp_path: Path, tls: str) -> None:
    upstreams = Upstreams([("127.0.0.1", 18_082), ("127.0.0.1", 18_083)], [("127.0.0.1", 3)], [("127.0.0.1", 4)])
    part = gateway.part(tmp_path, 18_080, 18_081, upstreams, Options(tls=tls))
    part.prepare()
    done = subprocess.run([*part.command, "--mode", "validate"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout
