"""What a Prometheus on this machine has to scrape of the local stack; a cluster has PodMonitors for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

PARTS = ("predictor", "transformer", "stream", "page", "prediction-log", "trigger", "telemetry")
FLEET = "127.0.0.1:9108"
"""Where `pvf metrics` listens by itself."""
_EVERY = "30s"
_ENVOY = "/stats/prometheus"

Targets = dict[str, tuple[str, str]]


def targets(urls: Mapping[str, str], gateway_admin: int, fleet: str = FLEET) -> Targets:
    """Job -> host:port and path; jobs are named as on a cluster.

    Parameters
    ----------
    urls : of the parts that run, by name.
    gateway_admin : port of the gateway's own metrics.
    fleet : where `pvf metrics` listens.
    """
    found = {f"pvf-{part}": (urlsplit(urls[part]).netloc, "/metrics") for part in PARTS if part in urls}
    return {**found, "pvf-fleet": (fleet, "/metrics"), "pvf-gateway": (f"127.0.0.1:{gateway_admin}", _ENVOY)}


def config(jobs: Targets) -> dict[str, Any]:
    """Prometheus' configuration file."""
    return {
        "global": {"scrape_interval": _EVERY, "scrape_timeout": _EVERY},
        "scrape_configs": [
            {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [address]}]}
            for job, (address, path) in jobs.items()
        ],
    }
