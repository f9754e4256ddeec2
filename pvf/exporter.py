"""Freshness of the parks and state of the lake as Prometheus metrics, read from the lake at most twice a minute.

Series: two a park for at most `MOST_PARKS` parks (those with the oldest data are kept), and a handful beside.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pvf import overview
from pvf.overview import Overview
from pvforecast.errors import PvForecastError
from pvforecast.freshness import Freshness
from pvforecast.settings import Settings

MOST_PARKS = 2_000
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
        yield GaugeMetricFamily("pvf_lake_up", "1 while the lake can be read.", value=float(state is not None))
        if state is not None:
            yield from _families(state)


def serve(settings: Settings, host: str, port: int) -> WSGIServer:
    """Listen in a thread of its own; raises OSError when the port is taken."""
    registry = CollectorRegistry()
    registry.register(Ages(settings))
    server, _ = start_http_server(port, addr=host, registry=registry)
    return server


def _families(state: Overview) -> Iterator[GaugeMetricFamily]:
    yield GaugeMetricFamily("pvf_parks", "Parks that are not retired.", value=float(len(state.parks)))
    for what, counted in (("weather", "the start of its newest run"), ("generation", "its newest interval's end")):
        ages = GaugeMetricFamily(
            f"pvf_{what}_age_minutes", f"Minutes since {counted}; absent for none.", labels=["park"]
        )
        for park, age in _oldest(state.parks, what):
            ages.add_metric([park], age)
        yield ages
        stale = GaugeMetricFamily(f"pvf_parks_stale_{what}", f"Parks whose {what} is older than its limit, or missing.")
        stale.add_metric([], float(len(state.stale(what))))
        yield stale
    if state.snapshots:
        oldest = float(max(state.snapshots.values()))
        yield GaugeMetricFamily("pvf_snapshot_age_minutes_max", "Of the park with the oldest snapshot.", value=oldest)
    for name, help_text, counts in (
        ("pvf_quarantine_rows", "Rows held in quarantine.", state.quarantined),
        ("pvf_lake_files", "Files of a table.", state.files),
    ):
        family = GaugeMetricFamily(name, help_text, labels=["table"])
        for table, number in counts.items():
            family.add_metric([table], float(number))
        yield family
    if state.maintained_at is not None:
        yield GaugeMetricFamily(
            "pvf_lake_maintained_timestamp_seconds", "When maintenance last ran.", value=state.maintained_at.timestamp()
        )


def _oldest(parks: list[Freshness], what: str) -> list[tuple[str, float]]:
    ages = [(park.park_id, getattr(park, f"{what}_age_minutes")) for park in parks]
    known = [(park, float(age)) for park, age in ages if age is not None]
    return sorted(known, key=lambda pair: -pair[1])[:MOST_PARKS]
