"""Every metric of the platform's services: the one place where their names are written. Standard library only.

The code makes its metrics from this table (`inference.metrics`), docs/metrics.md shows it, and rules, dashboards and
tests can be held against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MOST_PARKS = 2_000
"""Series with a park in them are kept for so many parks at most."""

MOST_DRIFT_PARKS = 200
"""The same for those that have another label beside it: the parks nearest to an alarm."""

_LATENCY = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0)
_AGE = tuple(hours * 3600.0 for hours in (0.5, 1, 2, 3, 6, 9, 12, 18, 24, 36, 48, 72))
_COMMIT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_FLUSH = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
_REFRESH = (0.5, 1, 2, 5, 10, 30, 60, 120, 300)

LABELS: dict[str, tuple[int, str]] = {
    # name: how many values it can take, what they are
    "service": (3, "`transformer`, `predictor`, `page`"),
    "protocol": (5, "`v1`, `v2`, `grpc`; `http` for every other path but the portfolio's, `portfolio`"),
    "code": (40, "`ok`, or the `code` of the error as in docs/serving.md"),
    "hop": (4, "`snapshots`, `features`, `predictor`, `answer`"),
    "reason": (12, "a word of the answer's `degraded`, or why the stream did it"),
    "outcome": (8, "what became of it"),
    "status": (8, "an HTTP status, or the state of a row"),
    "type": (2, "`forecast`, `heartbeat`"),
    "severity": (2, "`warning`, `critical`"),
    "detector": (19, "of the drift job: rules, sums, distances"),
    "feature": (8, "of the drift job's PSI"),
    "cause": (1, "of a park's open drift: one a park"),
    "advice": (1, "of a park's open drift"),
    "event_id": (1, "of a park's open drift: the newest event"),
    "evidence": (1, "of a park's open drift: a few numbers in words"),
    "pipeline": (4, "`backfill`, `ingestion`, `maintenance`, `training`"),
    "table": (16, "a table of the lake"),
    "model_version": (1, "of the champion"),
    "bundle_id": (1, "of the champion"),
    "spec_hash": (1, "of the champion's features"),
    "park": (MOST_PARKS, f"a park's id; at most {MOST_PARKS} of them, the ones with the oldest data"),
}


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name : as rules name it; a counter's ends in ``_total``, a histogram's series add ``_bucket``, ``_sum``, ``_count``.
    by : the parts of the stack that emit it.
    parks : how many a label `park` can name at most.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    by: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    parks: int = MOST_PARKS

    @property
    def most_series(self) -> int:
        """At one process, whatever happens."""
        series = len(self.buckets) + 3 if self.kind == "histogram" else 1
        for label in self.labels:
            series *= self.parks if label == "park" else LABELS[label][0]
        return series


_T, _P, _L, _S, _I, _R, _X, _F = (
    ("transformer",), ("predictor",), ("prediction-log",), ("stream",), ("telemetry",), ("trigger",),
    ("pvf metrics",), ("page",),
)  # fmt: skip
_MAKES = _T + _S  # whoever makes forecasts
_ASKED = _T + _P + _F

_SERVING = (
    Metric("pvf_requests_total", "counter", "Answered requests.", _ASKED, ("service", "protocol", "code")),
    Metric(
        *("pvf_request_duration_seconds", "histogram", "From a request's arrival to its answer."),
        *(_ASKED, ("service", "protocol"), _LATENCY),
    ),
    Metric(
        *("pvf_hop_duration_seconds", "histogram", "A step of a forecast; the predictor's is its whole call."),
        *(_MAKES, ("hop",), _LATENCY),
    ),
    Metric("pvf_forecasts_total", "counter", "Forecasts made: one a park and request.", _MAKES),
    Metric(
        *("pvf_forecast_cache_total", "counter", "Forecasts looked for among those made before (hit, miss)."),
        *(_MAKES, ("outcome",)),
    ),
    Metric("pvf_forecast_rows_total", "counter", "Intervals forecast.", _MAKES),
    Metric(
        *("pvf_degraded_forecasts_total", "counter", "Forecasts made without something they should have had."),
        *(_MAKES, ("reason",)),
    ),
    Metric(
        *("pvf_forecast_weather_age_seconds", "histogram", "Age of the weather run behind a forecast."),
        *(_MAKES, (), _AGE),
    ),
    Metric(
        *("pvf_forecast_generation_age_seconds", "histogram", "Age of the newest metered interval behind a forecast."),
        *(_MAKES, (), _AGE),
    ),
    Metric("pvf_object_store_up", "gauge", "1 while the object store answers.", _T + _P + _S),
    Metric("pvf_predict_rows_total", "counter", "Rows that the model was asked for.", _P),
    Metric("pvf_predict_duration_seconds", "histogram", "The model's own work for a request.", _P, (), _LATENCY),
    Metric(
        *("pvf_model_info", "gauge", "The bundle that is served: always 1."),
        *(_P, ("bundle_id", "model_version", "spec_hash")),
    ),
    Metric(
        *("pvf_model_trained_until_timestamp_seconds", "gauge", "End of the data that the served bundle learned from."),
        *(_P,),
    ),
    Metric("pvf_model_loaded_timestamp_seconds", "gauge", "When the served bundle was taken into service.", _P),
    Metric("pvf_model_reloads_total", "counter", "Bundles loaded, verified and taken into service.", _P),
    Metric("pvf_model_reload_failures_total", "counter", "Deployed bundles refused; the old one serves on.", _P),
)

_LOG = (
    Metric(
        *("pvf_prediction_log_events_total", "counter", "Log events: delivered, spooled, dropped, refused."),
        *(_MAKES, ("outcome",)),
    ),
    Metric("pvf_prediction_log_queue_pairs", "gauge", "Request and response pairs waiting in memory.", _MAKES),
    Metric("pvf_prediction_log_spool_bytes", "gauge", "Events waiting on disk for the sink.", _MAKES),
    Metric("pvf_prediction_log_sink_events_total", "counter", "Events by answer.", _L, ("status",)),
    Metric("pvf_prediction_log_sink_waiting_events", "gauge", "Events that wait for a transaction.", _L),
    Metric("pvf_prediction_log_sink_commit_duration_seconds", "histogram", "Transactions.", _L, (), _COMMIT),
    Metric("pvf_prediction_log_sink_partitions", "gauge", "Months that the table holds.", _L),
    Metric("pvf_prediction_log_sink_dropped_partitions_total", "counter", "Months that retention took away.", _L),
    Metric("pvf_prediction_log_sink_postgres_up", "gauge", "1 while Postgres takes events.", _L),
)

_STREAM = (
    Metric("pvf_stream_connections", "gauge", "Open connections.", _S),
    Metric("pvf_stream_parks", "gauge", "Parks that somebody listens to.", _S),
    Metric("pvf_stream_messages_total", "counter", "Messages sent.", _S, ("type",)),
    Metric("pvf_stream_updates_total", "counter", "Forecasts made to be pushed, by what changed.", _S, ("reason",)),
    Metric("pvf_stream_ended_total", "counter", "Connections that ended, by why.", _S, ("reason",)),
)


def _telemetry(name: str, kind: Literal["counter", "gauge"], text: str) -> Metric:
    return Metric(f"pvf_telemetry_{name}", kind, text, _I)


_TELEMETRY = (
    _telemetry("messages_total", "counter", "Messages received, those delivered again included."),
    _telemetry("acknowledged_total", "counter", "Messages acknowledged: stored, set aside or without a value."),
    _telemetry("rows_total", "counter", "Rows committed to raw/generation."),
    _telemetry("empty_total", "counter", "Messages without a value: null, or a counter reading within its period."),
    _telemetry("quarantined_total", "counter", "Messages set aside."),
    _telemetry("quarantine_not_kept_total", "counter", "Refused messages beyond what is kept of them a minute."),
    _telemetry("commit_failures_total", "counter", "Commits that failed and were tried again."),
    _telemetry("disconnects_total", "counter", "Connections to the broker that were lost or refused."),
    _telemetry("takeovers_total", "counter", "Times another process took the session."),
    _telemetry("sessions_lost_total", "counter", "Times the broker had forgotten the session: messages were lost."),
    _telemetry("refreshes_total", "counter", "Roll-ups that ended well."),
    _telemetry("refresh_failures_total", "counter", "Roll-ups that failed and are tried again."),
    _telemetry("snapshots_total", "counter", "Snapshots published."),
    _telemetry("polled_rows_total", "counter", "Rows fetched from REST sources."),
    _telemetry("poll_failures_total", "counter", "Parks that a REST source did not deliver."),
    _telemetry("unacknowledged", "gauge", "Messages received and not acknowledged."),
    _telemetry("connected", "gauge", "1 while subscribed."),
    _telemetry("last_commit_timestamp_seconds", "gauge", "When rows were committed last; 0 before the first."),
    _telemetry("last_commit_age_seconds", "gauge", "Since rows were committed last, or since the start."),
    _telemetry("last_refresh_timestamp_seconds", "gauge", "When a roll-up ended well; 0 before the first."),
    _telemetry("refresh_failed_parks", "gauge", "Parks that the last roll-up had to leave out: see the log."),
    _telemetry("parks_waiting_for_refresh", "gauge", "Parks with rows that are not rolled up."),
    Metric("pvf_telemetry_flush_seconds", "histogram", "From taking a batch to its commit.", _I, (), _FLUSH),
    Metric(
        *("pvf_telemetry_refresh_seconds", "histogram", "Roll-up of the touched parks with their snapshots."),
        *(_I, (), _REFRESH),
    ),
)

_LOOP = (
    Metric("pvf_retrain_answers_total", "counter", "Posted events by what became of them.", _R, ("outcome",)),
    Metric("pvf_retrain_refusals_total", "counter", "Refused events by the reason's code.", _R, ("code",)),
    Metric("pvf_retrain_database_up", "gauge", "1 while Postgres answers; without it the ones below are absent.", _R),
    Metric("pvf_retrain_events", "gauge", "Kept events by status.", _R, ("status",)),
    Metric("pvf_retrain_runs", "gauge", "Kept runs by status: active, succeeded, failed, lost.", _R, ("status",)),
    Metric("pvf_retrain_last_run_failed", "gauge", "1 when the run that ended last did not succeed.", _R),
    Metric(
        *("pvf_drift_open", "gauge", "1 for a park whose newest drift event was not cleared since."),
        *(_R, ("park", "severity", "cause", "advice", "event_id", "evidence")),
    ),
)

_LAKE = (
    Metric("pvf_lake_up", "gauge", "1 while the lake can be read.", _X),
    Metric("pvf_parks", "gauge", "Parks that are not retired.", _X),
    Metric("pvf_weather_age_seconds", "gauge", "Since the newest run's start; absent without one.", _X, ("park",)),
    Metric(
        *("pvf_generation_age_seconds", "gauge", "Since the newest metered interval's end; absent without one."),
        *(_X, ("park",)),
    ),
    Metric("pvf_parks_stale_weather", "gauge", "Parks whose weather is older than its limit, or missing.", _X),
    Metric("pvf_parks_stale_generation", "gauge", "Parks whose generation is older than its limit, or missing.", _X),
    Metric("pvf_oldest_snapshot_age_seconds", "gauge", "Of the park whose snapshot is the oldest.", _X),
    Metric("pvf_quarantine_rows", "gauge", "Rows held in quarantine.", _X, ("table",)),
    Metric("pvf_lake_files", "gauge", "Files of a table.", _X, ("table",)),
    Metric("pvf_lake_maintained_timestamp_seconds", "gauge", "When maintenance last ran.", _X),
    Metric("pvf_champion_info", "gauge", "The promoted model: always 1.", _X, ("model_version", "bundle_id")),
    Metric("pvf_champion_promoted_timestamp_seconds", "gauge", "When it was promoted.", _X),
    Metric("pvf_holdout_daylight_nmae", "gauge", "Error of the champion on its hold-out, of capacity.", _X, ("park",)),
    Metric("pvf_holdout_daylight_bias", "gauge", "Forecast minus metered there, of capacity.", _X, ("park",)),
    Metric("pvf_holdout_coverage", "gauge", "Share of its daylight hours inside the 80 % band.", _X, ("park",)),
    Metric("pvf_holdout_skill", "gauge", "Against smart persistence there.", _X, ("park",)),
    Metric(
        *("pvf_served_daylight_nmae", "gauge", "Error of what was served on the newest scored day, of capacity."),
        *(_X, ("park",)),
    ),
    Metric("pvf_served_daylight_bias", "gauge", "Forecast minus metered on it, of capacity.", _X, ("park",)),
    Metric("pvf_served_coverage", "gauge", "Share of its daylight hours inside the 80 % band.", _X, ("park",)),
    Metric(
        *("pvf_served_fortnight_skill", "gauge", "Against smart persistence on the days scored within two weeks."),
        *(_X, ("park",)),
    ),
    Metric(
        *("pvf_drift_score_ratio", "gauge", "Score of the newest check by its limit: 1 is an alarm."),
        *(_X, ("park", "detector")),
        parks=MOST_DRIFT_PARKS,
    ),
    Metric(
        *("pvf_drift_psi", "gauge", "PSI of the newest check, less its bias: beyond 0.2 it has changed."),
        *(_X, ("park", "feature")),
        parks=MOST_DRIFT_PARKS,
    ),
    Metric(
        *("pvf_drift_weather_ratio", "gauge", "How far the weather's features lie from the reference, by its limit."),
        *(_X, ("park",)),
        parks=MOST_DRIFT_PARKS,
    ),
    Metric("pvf_pipeline_last_run_failed", "gauge", "1 when the newest run that ended failed.", _X, ("pipeline",)),
    Metric("pvf_pipeline_last_success_timestamp_seconds", "gauge", "When a run ended well last.", _X, ("pipeline",)),
    Metric("pvf_pipeline_next_run_timestamp_seconds", "gauge", "When its schedule is due next.", _X, ("pipeline",)),
)

_PAGE = (Metric("pvf_logins_total", "counter", "Log-ins at the page: ok, refused.", _F, ("outcome",)),)

METRICS: dict[str, Metric] = {
    metric.name: metric for group in (_SERVING, _LOG, _STREAM, _TELEMETRY, _LOOP, _LAKE, _PAGE) for metric in group
}

ENVOY: dict[str, str] = {
    "envoy_http_downstream_rq_xx": "requests by class of answer, `envoy_response_code_class`",
    "envoy_http_downstream_rq_time_bucket": "milliseconds from request to answer, the whole way",
    "envoy_http_downstream_cx_active": "open client connections",
    "envoy_cluster_upstream_rq_xx": "answers of a service, `envoy_cluster_name`, by class",
    "envoy_cluster_upstream_rq_time_bucket": "milliseconds a service took",
    "envoy_cluster_upstream_rq_retry": "requests asked again",
    "envoy_cluster_membership_healthy": "replicas that can forecast",
    "envoy_http_local_rate_limit_rate_limited": "requests refused with 429",
}
"""The gateway's own metrics that rules and dashboards use, under its admin port's /stats/prometheus."""

CLUSTER: dict[str, str] = {
    "kube_cronjob_created": "kube-state-metrics: when a CronJob was made",
    "kube_cronjob_status_last_successful_time": "kube-state-metrics: when its last run ended well; absent before",
    "kube_job_created": "kube-state-metrics: when a Job was made",
    "kube_job_failed": 'kube-state-metrics: 1 under `condition="true"` once a Job has used up its retries',
    "kube_job_owner": "kube-state-metrics: the CronJob that made it, `owner_name`",
    "certmanager_certificate_renewal_timestamp_seconds": "cert-manager: when a certificate is due to be renewed, or 0",
    "certmanager_certificate_expiration_timestamp_seconds": "cert-manager: until when it holds; 0 before it is issued",
}
"""Metrics of the cluster's own parts that rules use: docs/monitoring.md says how they are scraped."""
