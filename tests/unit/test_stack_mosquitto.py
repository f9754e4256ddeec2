"""The broker is optional: nothing but `--telemetry` needs it, and its absence is said."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pvf.stack import catalogue, mosquitto
from pvforecast.errors import StackError
from tests.debian import requires_debian


def test_the_stack_runs_without_a_broker_unless_it_is_asked_for() -> None:
    assert not set(catalogue.TELEMETRY) & set(catalogue.DEFAULT)
    assert catalogue.with_needs(catalogue.DEFAULT) == catalogue.DEFAULT
    assert catalogue.with_needs(["telemetry"]) == ("seaweedfs", "mosquitto", "telemetry")


def test_a_broker_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto, "find", lambda _program: None)
    with pytest.raises(StackError, match="apt-get install mosquitto"):
        mosquitto.part(tmp_path, 1883)


@requires_debian("mosquitto")
def test_passwords_are_kept_once_readable_by_their_owner_only_and_hashed_for_the_broker(tmp_path: Path) -> None:
    first = mosquitto.passwords(tmp_path)
    assert mosquitto.passwords(tmp_path) == first
    assert first.plant not in repr(first)
    mosquitto.part(tmp_path, 1883).prepare()
    hashed = (tmp_path / "mosquitto" / "passwords").read_text()
    assert first.plant not in hashed + (tmp_path / "mosquitto" / "mosquitto.conf").read_text()
    assert "listener 1883 127.0.0.1" in (tmp_path / "mosquitto" / "mosquitto.conf").read_text()
    for file in (tmp_path / "secrets" / "mqtt.json", tmp_path / "mosquitto" / "passwords"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
