"""Metrics that are read when they are scraped, and kept for a while: reading is dear, scraping frequent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pvforecast.errors import PvForecastError


class Kept(Collector):
    """Families that are read when they are scraped, at most once in `kept_s`; none where reading fails."""

    def __init__(self, read: Callable[[], list[GaugeMetricFamily]], kept_s: float = 60.0) -> None:
        self._read = read
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._families: list[GaugeMetricFamily] = []

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: registering must not read."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._read_at > self._kept_s:
                try:
                    self._families = self._read()
                except PvForecastError:
                    self._families = []
                self._read_at = time.monotonic()
            return iter(self._families)
