"""Every alert: when it fires, how loud, and what it says. Each has a page in docs/runbooks/ of its name.

`warning` goes to Slack, `critical` to PagerDuty. What depends on the object store is silent while that is down.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OBJECT_STORE = "object-store"


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes
    ----------
    hold : for how long `expr` must hold.
    severity : warning, critical or none; empty where the series says it.
    cause, evidence, next_step : what the message says; templates of Prometheus.
    needs : what has to be up for this alert to mean what it says.
    """

    name: str
    expr: str
    hold: str
    severity: str
    summary: str
    evidence: str
    next_step: str
    cause: str = ""
    needs: str = OBJECT_STORE
    labels: dict[str, str] = field(default_factory=dict)


def _percent(of: str = "$value") -> str:
    return f"{{{{ {of} | humanizePercentage }}}}"


LOOP = (
    Alert(
        "DriftDetected", "max by (park, severity, cause, advice, event_id, evidence) (pvf_drift_open) > 0", "0m", "",
        "{{ $labels.park }} no longer follows from its weather as it did",
        "{{ $labels.evidence }}",
        "{{ if eq $labels.advice `fix_data` }}repair the data: its hours are kept from training"
        "{{ else if eq $labels.advice `retrain` }}a training is started: pvf drift trace {{ $labels.event_id }}"
        "{{ else }}look at the park: pvf drift report {{ $labels.park }}{{ end }}",
        cause="{{ $labels.cause }}",
    ),
    Alert(
        "RetrainFailed", "max(pvf_retrain_last_run_failed) == 1", "0m", "warning",
        "the training run that a drift event asked for failed; the old model serves on",
        "the run that ended last did not succeed",
        "GET /runs of the trigger names its error; it is tried again by itself, three times in all",
        cause="training",
    ),
    Alert(
        "RetrainEscalated", 'delta(pvf_retrain_events{status="escalated"}[1h]) > 0', "0m", "warning",
        "a drift event was handed to people: no further training would help, or may be started",
        "{{ $value }} more events are escalated than an hour ago",
        "GET /events/ID of the trigger says why; accept the change if it is the new normal",
        cause="drift that training did not clear, failed runs, or the week's budget",
    ),
    Alert(
        "EventsRefused", "sum by (code) (increase(pvf_retrain_refusals_total[1h])) > 10", "0m", "warning",
        "the retrain trigger refuses events: {{ $labels.code }}",
        "{{ $value | humanize }} in an hour",
        "see the trigger's log for who sends them",
        cause="a wrong sender, or a schema that does not match", needs="",
    ),
    Alert(
        "PipelineFailed", "max by (pipeline) (pvf_pipeline_last_run_failed) == 1", "0m", "warning",
        "the last {{ $labels.pipeline }} run failed; what it made before is used on",
        "its newest run that ended did not succeed",
        "pvf pipeline runs --state FAILED, then pvf pipeline logs RUN",
        cause="{{ $labels.pipeline }} pipeline",
    ),
    Alert(
        "TrainingMissed",
        "time() - max(pvf_pipeline_last_success_timestamp_seconds{pipeline=\"training\"}) > 7.5 * 86400", "0m",
        "warning", "no training has succeeded for more than a week",
        "the last one ended well {{ $value | humanizeDuration }} ago",
        "is the schedule there? pvf pipeline schedule --show",
        cause="a schedule that is paused or missing, or runs that fail",
    ),
    Alert(
        "ModelStale", "pvf:model_too_old:bool == 1", "12h", "warning",
        "the served model has not learned from the last 7 days",
        "for 12 hours or more", "train by hand: pvf pipeline submit training", cause="no promotion",
    ),
    Alert(
        "ModelRefused", "sum(increase(pvf_model_reload_failures_total[15m])) > 0", "0m", "critical",
        "a promoted model was refused by the predictor; the old one serves on",
        "{{ $value | humanize }} refusals in 15 minutes",
        "see the predictor's log; pvf model rollback if it cannot be mended",
        cause="a damaged bundle, or golden rows that come out differently",
    ),
    Alert(
        "AccuracyWorseThanPersistence",
        "(max by (park) (pvf_served_fortnight_skill) or max by (park) (pvf_holdout_skill)) < 0", "10m", "warning",
        "{{ $labels.park }} is forecast worse than by yesterday's sky",
        "skill {{ $value | humanize }} of what was served within two weeks; where nothing was scored, on the hold-out",
        "pvf model show: which parks; then the park's data, pvf drift check --park {{ $labels.park }}",
        cause="accuracy",
    ),
)  # fmt: skip

SERVING = (
    Alert(
        "LatencyHigh",
        'histogram_quantile(0.95, sum by (le) (rate(pvf_request_duration_seconds_bucket{service="transformer"}[10m])))'
        " > 0.2", "10m", "warning",
        "forecasts are slow", "95 % within {{ $value | humanizeDuration }}, 200 ms are wanted",
        "pvf_hop_duration_seconds tells which hop", cause="latency",
    ),
    Alert(
        "ErrorRateHigh",
        '(sum(rate(envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix!="admin", envoy_response_code_class="5"}'
        '[5m])) or vector(0)) / sum(rate(envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix!="admin"}[5m]))'
        " > 0.01", "5m", "critical",
        "requests fail at the gateway", f"{_percent()} are answered with 5xx",
        "pvf_requests_total by code tells which error", cause="availability",
    ),
    Alert(
        "ServiceDown", 'up{job=~"pvf-.+"} == 0', "2m", "critical",
        "{{ $labels.job }} at {{ $labels.instance }} does not answer", "its /metrics does not answer for 2 minutes",
        "is it running? see its log", cause="service", needs="",
    ),
    Alert(
        "VolumeLow",
        "sum(rate(pvf_forecasts_total[1h])) < 0.2 * sum(rate(pvf_forecasts_total[1h] offset 1d)) and"
        " sum(rate(pvf_forecasts_total[1h] offset 1d)) > 0.01", "30m", "warning",
        "far fewer forecasts are asked for than yesterday at this hour",
        "{{ $value | humanize }} a second, less than a fifth of yesterday",
        "do clients reach the gateway? envoy_http_downstream_cx_active", cause="clients, DNS or certificates",
    ),
    Alert(
        "PredictionLogDropping",
        'sum(increase(pvf_prediction_log_events_total{outcome=~"dropped|refused"}[15m])) > 0', "0m", "critical",
        "predictions are not logged: drift and accuracy will not see them",
        "{{ $value | humanize }} log events lost in 15 minutes",
        "is the sink up? pvf_prediction_log_sink_postgres_up", cause="prediction log", needs="",
    ),
    Alert(
        "PredictionLogBehind", "max(pvf_prediction_log_spool_bytes) > 50e6", "15m", "warning",
        "log events pile up on the transformer's disk", "{{ $value | humanize1024 }}B wait in the spool",
        "is the sink up? pvf_prediction_log_sink_postgres_up", cause="prediction log", needs="",
    ),
)  # fmt: skip

DATA = (
    Alert(
        "ObjectStoreDown", "max(pvf_object_store_up) == 0 or max(pvf_lake_up) == 0", "2m", "critical",
        "the object store does not answer; forecasts are served from what is in memory",
        "no service reaches it for 2 minutes", "look at S3 first: other alerts follow from it and are held back",
        cause="object store", needs="",
    ),
    Alert(
        "DatabaseDown", "min(pvf_retrain_database_up) == 0 or min(pvf_prediction_log_sink_postgres_up) == 0", "2m",
        "critical", "Postgres does not answer; forecasts go on, promotions and logs wait",
        "no connection for 2 minutes", "is it running? the logs wait in the spool", cause="Postgres", needs="",
    ),
    Alert(
        "WeatherStale", "max(pvf_parks_stale_weather) > 0", "30m", "warning",
        "forecasts rest on old weather", "{{ $value }} parks' weather is older than its limit",
        "pvf status names them; is the provider up, did ingestion run?", cause="weather source or ingestion",
    ),
    Alert(
        "GenerationStale", "max(pvf_parks_stale_generation) > 0", "15m", "warning",
        "metered power does not arrive", "{{ $value }} parks' generation is older than 15 minutes while the sun is up",
        "pvf status names them; is the broker up, do the loggers send?", cause="telemetry",
    ),
    Alert(
        "TelemetryDisconnected", "max(pvf_telemetry_connected) == 0", "5m", "critical",
        "no service listens to the MQTT broker", "for 5 minutes", "is the broker up? see the telemetry service's log",
        cause="broker, network or credentials", needs="",
    ),
    Alert(
        "TelemetryLost", "sum(increase(pvf_telemetry_sessions_lost_total[1h])) > 0", "0m", "critical",
        "the broker forgot the session: messages in between are lost", "{{ $value | humanize }} times in an hour",
        "fill the gap from the loggers: pvf pipeline run backfill", cause="broker without persistence",
        needs="",
    ),
    Alert(
        "QuarantineGrowing", "sum(delta(pvf_quarantine_rows[6h])) > 1000", "0m", "warning",
        "many rows are set aside", "{{ $value | humanize }} more than six hours ago",
        "pvf quarantine list says why", cause="a source that changed",
    ),
    Alert(
        "MaintenanceLate", "time() - max(pvf_lake_maintained_timestamp_seconds) > 36 * 3600", "0m", "warning",
        "the lake was not compacted for more than 36 hours", "last {{ $value | humanizeDuration }} ago",
        "pvf pipeline submit maintenance", cause="maintenance pipeline",
    ),
)  # fmt: skip

WATCH = (
    Alert(
        "DeadMansSwitch", "vector(1)", "0m", "none",
        "always fires: whoever stops hearing it knows that alerting is dead", "it fires", "nothing", needs="",
    ),
    Alert(
        "MetricsMissing", "absent(pvf_lake_up) or absent(pvf_retrain_database_up)", "10m", "warning",
        "a part of the platform is not scraped: its alerts cannot fire",
        "pvf_lake_up or pvf_retrain_database_up is absent", "is pvf metrics running? see Prometheus' targets",
        cause="monitoring", needs="",
    ),
)  # fmt: skip

GROUPS: dict[str, tuple[Alert, ...]] = {
    "pvforecast-loop": LOOP,
    "pvforecast-serving": SERVING,
    "pvforecast-data": DATA,
    "pvforecast-watch": WATCH,
}
