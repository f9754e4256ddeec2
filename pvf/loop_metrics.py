"""How pipelines and parks fare, as Prometheus metrics: runs that ended, runs that are due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference import metrics
from pipelines import ended, schedules
from pipelines.ended import Ended
from pvforecast.errors import PvForecastError
from pvforecast.settings import Settings

_KEPT_S = 60.0
_PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


class Kept(Collector):
    """Families that are read when they are scraped, at most once a minute; none where reading fails."""

    def __init__(self, read: Callable[[], list[GaugeMetricFamily]], kept_s: float = _KEPT_S) -> None:
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


def pipelines(settings: Settings) -> Kept:
    """Of the runs on this machine, or on the KFP server where one is set."""
    return Kept(lambda: families(_ended(settings), due(settings, datetime.now(UTC))))


def families(runs: Mapping[str, Ended], next_runs: Mapping[str, datetime]) -> list[GaugeMetricFamily]:
    """The metrics by pipeline."""
    failed = metrics.family("pvf_pipeline_last_run_failed")
    succeeded = metrics.family("pvf_pipeline_last_success_timestamp_seconds")
    coming = metrics.family("pvf_pipeline_next_run_timestamp_seconds")
    for name, run in runs.items():
        failed.add_metric([name], float(run.failed))
        if run.succeeded_at is not None:
            succeeded.add_metric([name], run.succeeded_at)
    for name, at in next_runs.items():
        coming.add_metric([name], at.timestamp())
    return [failed, succeeded, coming]


def due(settings: Settings, now: datetime) -> dict[str, datetime]:
    """When each scheduled pipeline runs next; the soonest where it has several schedules."""
    found: dict[str, datetime] = {}
    for schedule in schedules.load(settings):
        if not schedule.paused:
            at = schedule.last(now) + _PERIODS[schedule.every]
            found[schedule.pipeline] = min(at, found.get(schedule.pipeline, at))
    return found


def _ended(settings: Settings) -> dict[str, Ended]:
    if not settings.kfp_url:
        return ended.here(settings.home)
    from pipelines.client.connection import connect
    from pipelines.client.experiment import experiment

    server = connect(settings)
    names = sorted({schedule.pipeline for schedule in schedules.load(settings)})
    return ended.on_server(server, experiment(server, settings.kfp_experiment), names)
