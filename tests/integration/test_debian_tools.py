"""Debian's programs run here: each does one small real thing, so that a broken package is not found deep in a test."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.debian import program, requires_debian

pytestmark = pytest.mark.debian


@requires_debian("kustomize")
def test_kustomize_knows_components(tmp_path: Path) -> None:
    _write(
        tmp_path / "part" / "kustomization.yaml",
        "kind: Component\napiVersion: kustomize.config.k8s.io/v1alpha1\nnamePrefix: a-\n",
    )
    _write(tmp_path / "map.yaml", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: map}\n")
    _write(tmp_path / "kustomization.yaml", "resources: [map.yaml]\ncomponents: [part]\n")
    assert "name: a-map" in _run([program("kustomize"), "build", str(tmp_path)])


@requires_debian("promtool")
def test_promtool_tests_a_rule(tmp_path: Path) -> None:
    _write(tmp_path / "rules.yaml", "groups: [{name: g, rules: [{alert: Up, expr: up == 1}]}]\n")
    assert "1 rules found" in _run([program("promtool"), "check", "rules", str(tmp_path / "rules.yaml")])


@requires_debian("amtool")
def test_amtool_routes_an_alert(tmp_path: Path) -> None:
    _write(tmp_path / "config.yaml", "route: {receiver: chat}\nreceivers: [{name: chat}]\n")
    command = [program("amtool"), "config", "routes", "test", f"--config.file={tmp_path / 'config.yaml'}"]
    assert _run([*command, "severity=warning"]).strip() == "chat"


@requires_debian("prometheus")
def test_prometheus_gets_ready(tmp_path: Path) -> None:
    _write(tmp_path / "prometheus.yaml", "global: {}\n")
    port = _free_port()
    command = [
        program("prometheus"),
        f"--config.file={tmp_path / 'prometheus.yaml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with _server(command, tmp_path):
        assert _eventually_answers(f"http://127.0.0.1:{port}/-/ready") == 200


@requires_debian("prometheus-alertmanager")
def test_alertmanager_gets_ready(tmp_path: Path) -> None:
    _write(tmp_path / "config.yaml", "route: {receiver: none}\nreceivers: [{name: none}]\n")
    port = _free_port()
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={tmp_path / 'config.yaml'}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with _server(command, tmp_path):
        assert _eventually_answers(f"http://127.0.0.1:{port}/-/ready") == 200


@requires_debian("mosquitto")
def test_mosquitto_takes_a_connection(tmp_path: Path) -> None:
    port = _free_port()
    _write(tmp_path / "mosquitto.conf", f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    with _server([program("mosquitto"), "-c", str(tmp_path / "mosquitto.conf")], tmp_path):
        assert _mqtt_connect(port) == b"\x20\x02\x00\x00"  # CONNACK, accepted


@requires_debian("chromium")
def test_chromium_draws_a_page(tmp_path: Path) -> None:
    _write(tmp_path / "page.html", "<script>document.title = 6 * 7</script>")
    command = [program("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    assert "<title>42</title>" in _run(command)


def _run(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextlib.contextmanager
def _server(command: Sequence[str], folder: Path) -> Iterator[None]:
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield
        assert child.poll() is None, (folder / "log").read_text()
    finally:
        child.terminate()
        child.wait(timeout=10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _eventually_answers(url: str, within_s: float = 20) -> int:
    """The first HTTP status below 400; the last error when none comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                status: int = answer.status
                return status
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _mqtt_connect(port: int, within_s: float = 10) -> bytes:
    """Sends an MQTT 3.1.1 CONNECT and returns the broker's answer."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a")
                return connection.recv(4)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
