"""Debian's Prometheus and Alertmanager as tests start them, on free ports and with the committed files."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.debian import program
from tests.retrain_trigger import until

_START_S = 120.0


@contextlib.contextmanager
def prometheus(
    folder: Path,
    targets: Mapping[str, tuple[str, str]],
    groups: Sequence[dict[str, Any]] = (),
    alertmanager: str = "",
    every: str = "1s",
    tls: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Scrapes each job's (host:port, path), with `tls` over HTTPS; yields its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": list(groups)}))
    config: dict[str, Any] = {
        "global": {"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [
            {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [address]}]}
            | ({"scheme": "https", "tls_config": dict(tls)} if tls else {})
            for job, (address, path) in targets.items()
        ],
    }
    if alertmanager:
        address = alertmanager.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    port = free_port()
    words = [
        program("prometheus"), f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--rules.alert.resend-delay=1s",
    ]  # fmt: skip
    with _running(words, folder / "prometheus.log", f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    """With this configuration; yields its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yaml").write_text(config)
    port = free_port()
    words = [
        program("prometheus-alertmanager"), f"--config.file={folder / 'alertmanager.yaml'}",
        f"--storage.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        "--log.level=warn",
    ]  # fmt: skip
    with _running(words, folder / "alertmanager.log", f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


def query(url: str, expr: str) -> list[dict[str, Any]]:
    """The instant vector of an expression, now; raises where Prometheus refuses it."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expr}, timeout=60)
    answer.raise_for_status()
    result: list[dict[str, Any]] = answer.json()["data"]["result"]
    return result


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _running(words: list[str], log: Path, url: str) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file)
    try:
        until(lambda: process.poll() is not None or _ready(url), _START_S)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
