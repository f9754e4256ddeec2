"""How pipelines fare, as Prometheus metrics: runs that ended, runs that are due."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from prometheus_client.core import GaugeMetricFamily

from inference import metrics
from pipelines import ended
from pipelines.ended import Ended
from pvf.kept import Kept
from pvforecast.settings import Settings

_PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


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
    from pipelines import schedules  # KFP takes seconds to import

    found: dict[str, datetime] = {}
    for schedule in schedules.load(settings):
        if not schedule.paused:
            at = schedule.last(now) + _PERIODS[schedule.every]
            found[schedule.pipeline] = min(at, found.get(schedule.pipeline, at))
    return found


def _ended(settings: Settings) -> dict[str, Ended]:
    if not settings.kfp_url:
        return ended.here(settings.home)
    from pipelines import schedules
    from pipelines.client.connection import connect
    from pipelines.client.experiment import experiment

    server = connect(settings)
    names = sorted({schedule.pipeline for schedule in schedules.load(settings)})
    return ended.on_server(server, experiment(server, settings.kfp_experiment), names)
