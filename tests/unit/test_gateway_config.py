"""Envoy's configuration: where keys stand and what is open. That it works is shown with a real Envoy elsewhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from pvf.stack import gateway, gateway_config
from pvf.stack.api_keys import Key
from pvforecast.errors import InvalidInput, StackError

_LIMITS = {"max_body_bytes": 1000, "requests_per_second": 5, "burst": 10}


def test_keys_stand_with_the_routes_and_nowhere_else() -> None:
    keys = {"desk": [Key("key-one"), Key("key-two", parks=("roof",))], "bi": [Key("key-three")]}
    routes = json.dumps(gateway_config.routes(keys, timeout_s=5))
    for client, of_client in keys.items():
        for key in of_client:
            limited = "!" if key.limited else ""
            assert f'{{"key": "{key.key}", "client": "{client}#{key.id}{limited}"}}' in routes
    others = [gateway_config.bootstrap(1, ("127.0.0.1", 2), "l"), gateway_config.listener(3, "r", **_LIMITS)]
    assert "key-one" not in json.dumps(others)


def test_every_address_is_loopback() -> None:
    text = json.dumps([gateway_config.bootstrap(1, ("127.0.0.1", 2), "l"), gateway_config.listener(3, "r", **_LIMITS)])
    assert text.count('"address": "127.0.0.1"') == 3
    assert "0.0.0.0" not in text


def test_all_errors_have_the_one_shape() -> None:
    listener = gateway_config.listener(3, "r", **_LIMITS)
    manager = listener["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for mapper in manager["local_reply_config"]["mappers"]:
        body = mapper["body_format_override"]["json_format"]
        assert set(body) == {"error", "code", "field", "hint", "request_id"}


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gateway.Limits().requests_per_second == 100
    monkeypatch.setenv("PVF_GATEWAY_REQUESTS_PER_SECOND", "7")
    assert gateway.Limits().requests_per_second == 7
    monkeypatch.setenv("PVF_GATEWAY_URL", "http://127.0.0.1:1")  # a name of Settings, not of these
    gateway.Limits()


@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_limit_that_is_no_limit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PVF_GATEWAY_BURST", value)
    with pytest.raises(InvalidInput, match="PVF_GATEWAY_BURST"):
        gateway.limits()


def test_an_upstream_without_a_port_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="PVF_TRANSFORMER_URL"):
        gateway.part(tmp_path, 1, 2, "", gateway.Limits())


def test_envoy_accepts_the_bootstrap(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    part = gateway.part(tmp_path, 18_080, 18_081, "http://127.0.0.1:18082", gateway.Limits())
    part.prepare()
    done = subprocess.run([*part.command, "--mode", "validate"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stdout
