"""Ports stay the same while they can, keys are made once and only their owner reads them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvf.stack import catalogue, keyring
from pvf.stack.lock import Lock
from pvf.stack.ports import Ports, is_free
from pvforecast.errors import StackError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_ports_are_distinct_and_remembered(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = Ports(file, {})
    chosen = {name: first.get(name, twin=name == "a") for name in "abcdef"}
    assert len(set(chosen.values())) == 6
    assert chosen["a"] + 10_000 not in chosen.values()
    first.save()
    again = Ports(file, {})
    assert {name: again.get(name) for name in "fedcba"} == chosen


def test_asking_twice_gives_the_same_port(tmp_path: Path) -> None:
    ports = Ports(tmp_path / "ports.json", {})
    assert ports.get("a") == ports.get("a")


def test_a_remembered_port_that_is_taken_changes_and_says_so(tmp_path: Path, taken: int) -> None:
    file, lines = tmp_path / "ports.json", list[str]()
    file.write_text(json.dumps({"mlflow": taken}))
    port = Ports(file, {}, lines.append).get("mlflow")
    assert port != taken
    assert lines == [f"port {taken} of mlflow is taken by another program, using {port}"]


def test_a_demanded_port_is_used_or_refused(tmp_path: Path, taken: int) -> None:
    free = Ports(tmp_path / "p", {}).get("x")
    assert Ports(tmp_path / "p", {"gateway": free}).get("gateway") == free
    with pytest.raises(StackError, match=f"port of gateway: port {taken} is taken"):
        Ports(tmp_path / "p", {"gateway": taken}).get("gateway")


def test_a_listener_on_all_addresses_makes_a_port_taken() -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        assert not is_free(other.getsockname()[1])


def test_the_keyring_is_made_once_and_hides_itself(tmp_path: Path) -> None:
    first = keyring.load(tmp_path / "secrets")
    assert keyring.load(tmp_path / "secrets") == first
    assert keyring.load(tmp_path / "other") != first
    assert first.s3_secret_key not in repr(first)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "secrets" / "stack.json").stat().st_mode & 0o777 == 0o600


def test_parts_bring_what_they_need() -> None:
    assert catalogue.with_needs(["mlflow"]) == ("seaweedfs", "postgres", "mlflow")
    assert catalogue.with_needs(["gateway"]) == ("gateway",)
    assert catalogue.with_needs(catalogue.NAMES) == catalogue.NAMES
    with pytest.raises(StackError, match=r"'minio' is no part.*seaweedfs"):
        catalogue.with_needs(["minio"])


def test_the_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    file = tmp_path / "run" / "stack.lock"
    file.parent.mkdir()
    first = Lock(file)
    first.acquire(lambda _: None)
    first.tell("http://127.0.0.1:1")
    with pytest.raises(StackError, match=r"pid \d+, http://127.0.0.1:1"):
        Lock(file).acquire(lambda _: None)
    first.tell("")
    with pytest.raises(StackError, match="it is still starting"):
        Lock(file).acquire(lambda _: None)
    first.release()
    again = Lock(file)
    again.acquire(lambda _: None)
    again.release()
