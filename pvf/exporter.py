"""Freshness of the parks and state of the lake as Prometheus metrics, read from the lake at most twice a minute.

Series: two a park for at most `MOST_PARKS` parks (those with the oldest data are kept), and a handful beside.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import cast
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference import metrics
from inference.metric_names import MOST_PARKS
from inference.tls import Certificate
from pvf import drift_metrics, holdout_metrics, loop_metrics, overview, served_metrics
from pvf.overview import Overview
from pvforecast.errors import PvForecastError
from pvforecast.freshness import Freshness
from pvforecast.settings import Settings

_KEPT_S = 30.0


class Ages(Collector):
    """Reads when it is scraped; several scrapes within half a minute share one reading."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._state: Overview | None = None

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: registering must not read the lake."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._read_at > _KEPT_S:
                try:
                    self._state = overview.take(self._settings)
                except PvForecastError:
                    self._state = None
                self._read_at = time.monotonic()
            state = self._state
        yield metrics.value("pvf_lake_up", float(state is not None))
        if state is not None:
            yield from _families(state)


def serve(settings: Settings, host: str, port: int) -> WSGIServer:
    """Listen in a thread of its own; raises OSError when the port is taken.

    Reads once before: the first reading imports and connects for seconds, longer than a scrape may take.
    """
    registry = CollectorRegistry()
    registry.register(Ages(settings))
    registry.register(loop_metrics.pipelines(settings))
    registry.register(holdout_metrics.champion(settings))
    registry.register(drift_metrics.newest(settings))
    registry.register(served_metrics.days(settings))
    for _ in registry.collect():
        pass
    return _listen(registry, host, port, settings.tls_folder)


def _listen(registry: CollectorRegistry, host: str, port: int, folder: Path | None) -> WSGIServer:
    if folder is None:
        return start_http_server(port, addr=host, registry=registry)[0]
    Certificate(folder)  # its error says what is wrong with the files
    server, _ = start_http_server(
        port, addr=host, registry=registry, certfile=str(folder / "tls.crt"), keyfile=str(folder / "tls.key")
    )
    listener = cast(ssl.SSLSocket, server.socket)
    # Shake hands in the thread of each request: who says nothing holds up no other.
    listener.do_handshake_on_connect = False  # type: ignore[attr-defined]  # typeshed does not know it
    certificate = Certificate(folder, listener.context)
    threading.Thread(target=asyncio.run, args=(certificate.follow(),), name="certificate", daemon=True).start()
    return server


def _families(state: Overview) -> Iterator[GaugeMetricFamily]:
    yield metrics.value("pvf_parks", float(len(state.parks)))
    for what in ("weather", "generation"):
        ages = metrics.family(f"pvf_{what}_age_seconds")
        for park, age in _oldest(state.parks, what):
            ages.add_metric([park], age * 60)
        yield ages
        yield metrics.value(f"pvf_parks_stale_{what}", float(len(state.stale(what))))
    if state.snapshots:
        yield metrics.value("pvf_oldest_snapshot_age_seconds", max(state.snapshots.values()) * 60.0)
    for name, counts in (("pvf_quarantine_rows", state.quarantined), ("pvf_lake_files", state.files)):
        family = metrics.family(name)
        for table, number in counts.items():
            family.add_metric([table], float(number))
        yield family
    if state.maintained_at is not None:
        yield metrics.value("pvf_lake_maintained_timestamp_seconds", state.maintained_at.timestamp())
    if not isinstance(state.champion, str):
        champion = metrics.family("pvf_champion_info")
        champion.add_metric([str(state.champion[name]) for name in ("model_version", "bundle_id")], 1.0)
        yield champion
        promoted_at = datetime.fromisoformat(str(state.champion["promoted_at"]))
        yield metrics.value("pvf_champion_promoted_timestamp_seconds", promoted_at.timestamp())


def _oldest(parks: list[Freshness], what: str) -> list[tuple[str, float]]:
    ages = [(park.park_id, getattr(park, f"{what}_age_minutes")) for park in parks]
    known = [(park, float(age)) for park, age in ages if age is not None]
    return sorted(known, key=lambda pair: -pair[1])[:MOST_PARKS]
