"""The configuration of a Prometheus on one machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from pvf.monitoring.__main__ import scraped
from pvforecast.errors import StackError
from tests.debian import program, requires_debian


def _running(home: Path) -> None:
    (home / "run").mkdir()
    parts = {name: {"url": f"http://127.0.0.1:{port}"} for name, port in (("transformer", 81), ("seaweedfs", 82))}
    (home / "run" / "stack.json").write_text(json.dumps({"parts": parts}))
    (home / "run" / "ports.json").write_text(json.dumps({"gateway-admin": 83}))


def test_what_runs_and_has_metrics_is_scraped(tmp_path: Path) -> None:
    _running(tmp_path)
    jobs = {job["job_name"]: job for job in yaml.safe_load(scraped(tmp_path))["scrape_configs"]}
    assert {name: job["static_configs"][0]["targets"] for name, job in jobs.items()} == {
        "pvf-transformer": ["127.0.0.1:81"], "pvf-fleet": ["127.0.0.1:9108"], "pvf-gateway": ["127.0.0.1:83"],
    }  # fmt: skip
    assert jobs["pvf-gateway"]["metrics_path"] == "/stats/prometheus"


@requires_debian("promtool")
def test_prometheus_takes_it(tmp_path: Path) -> None:
    _running(tmp_path)
    file = tmp_path / "prometheus.yaml"
    file.write_text(scraped(tmp_path))
    subprocess.run([program("promtool"), "check", "config", str(file)], check=True, capture_output=True, timeout=60)


def test_where_no_stack_runs_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no stack runs on"):
        scraped(tmp_path)
