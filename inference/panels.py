"""What people look at: every query of every dashboard. Standard library only.

Grafana's dashboards are built from this list (`pvf.monitoring.dashboards`), and the page shows its numbers
(`inference.page.numbers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "table", "heatmap"]


@dataclass(frozen=True)
class Query:
    """PromQL, and the name of its series in Grafana's notation."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes
    ----------
    unit : Grafana's word, e.g. ``s``, ``percentunit``, ``dateTimeFromNow``.
    help : what to read out of it.
    """

    title: str
    kind: Kind
    unit: str
    queries: tuple[Query, ...]
    help: str


def _one(title: str, kind: Kind, unit: str, expr: str, legend: str, help: str) -> Panel:
    return Panel(title, kind, unit, (Query(expr, legend),), help)


_SLOW = 'sum by (le) (rate(pvf_request_duration_seconds_bucket{service="transformer"}[5m]))'

OPERATIONS = (
    _one("Requests a second", "timeseries", "reqps", "sum by (service, protocol) (rate(pvf_requests_total[5m]))",
         "{{service}} {{protocol}}", "Answered requests, by service and protocol."),
    Panel("Latency of forecasts", "timeseries", "s",
          tuple(Query(f"histogram_quantile({q}, {_SLOW})", f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
          "From a request's arrival at the transformer to its answer; p95 within 0.2 s is wanted (NF1)."),
    _one("Latency by hop, p95", "timeseries", "s",
         "histogram_quantile(0.95, sum by (le, hop) (rate(pvf_hop_duration_seconds_bucket[5m])))", "{{hop}}",
         "Which step of a forecast takes the time."),
    _one("Latency at the gateway, p95", "timeseries", "ms",
         "histogram_quantile(0.95, sum by (le) (rate(envoy_http_downstream_rq_time_bucket[5m])))", "p95",
         "The whole way, in Envoy's milliseconds."),
    _one("Answers of the gateway", "timeseries", "reqps",
         "sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx[5m]))",
         "{{envoy_response_code_class}}xx", "By class of status: 4xx is the caller's, 5xx is ours."),
    _one("Errors by code", "timeseries", "short",
         "sum by (service, code) (increase(pvf_requests_total{code!=\"ok\"}[1h]))", "{{service}} {{code}}",
         "How many of which error within an hour; the codes are those of the answers."),
    _one("Forecasts made", "timeseries", "ops", "sum(rate(pvf_forecasts_total[5m]))", "a second",
         "One a park and request, those pushed by the stream included."),
    _one("Degraded forecasts", "timeseries", "ops",
         "sum by (reason) (rate(pvf_degraded_forecasts_total[5m])) or vector(0)", "{{reason}}",
         "Made without something that they should have had."),
    _one("Log of predictions", "timeseries", "ops", "sum by (outcome) (rate(pvf_prediction_log_events_total[5m]))",
         "{{outcome}}", "Delivered; spooled while the sink is away; dropped and refused are lost."),
    _one("Log events waiting", "timeseries", "bytes", "sum(pvf_prediction_log_spool_bytes)", "on disk",
         "Waits for the sink."),
    _one("Parts that answer", "stat", "short", "sum(up{job=~\"pvf-.+\"})", "", "Processes that are scraped and up."),
)  # fmt: skip

LIFECYCLE = (
    _one("Served version", "table", "short", "max by (model_version, bundle_id) (pvf_model_info)", "",
         "What the predictors serve; two rows while a rollout or a canary goes on."),
    _one("Champion", "table", "short", "max by (model_version, bundle_id) (pvf_champion_info)", "",
         "What the promotions table says; it should be what is served."),
    _one("Promoted", "stat", "dateTimeFromNow", "1000 * max(pvf_champion_promoted_timestamp_seconds)", "",
         "When the champion became it."),
    _one("Learned up to", "stat", "dateTimeFromNow", "1000 * max(pvf_model_trained_until_timestamp_seconds)", "",
         "End of the data behind what is served; 7 days at most (NF3)."),
    _one("Last training", "stat", "dateTimeFromNow",
         "1000 * max(pvf_pipeline_last_success_timestamp_seconds{pipeline=\"training\"})", "", "That ended well."),
    _one("Next training", "stat", "dateTimeFromNow",
         "1000 * min(pvf_pipeline_next_run_timestamp_seconds{pipeline=\"training\"})", "",
         "That its schedule is due for."),
    _one("Pipelines that failed", "timeseries", "short", "max by (pipeline) (pvf_pipeline_last_run_failed)",
         "{{pipeline}}", "1 while the newest run that ended has failed."),
    _one("Retrains by state", "timeseries", "short", "max by (status) (pvf_retrain_runs)", "{{status}}",
         "Runs that drift events asked for."),
    Panel("Models taken and refused", "timeseries", "short",
          (Query("sum(increase(pvf_model_reloads_total[1h]))", "taken"),
           Query("sum(increase(pvf_model_reload_failures_total[1h]))", "refused")),
          "By the predictors, within an hour."),
)  # fmt: skip

ACCURACY = (
    _one("Error served, by park", "timeseries", "percentunit", "max by (park) (pvf_served_daylight_nmae)", "{{park}}",
         "Daylight nMAE of what was served, day by day: the last forecast before each day began."),
    _one("Skill served, two weeks", "timeseries", "percentunit", "max by (park) (pvf_served_fortnight_skill)",
         "{{park}}", "Against smart persistence; below 0 yesterday's sky forecasts better."),
    _one("Bias served, by park", "timeseries", "percentunit", "max by (park) (pvf_served_daylight_bias)", "{{park}}",
         "Mean of forecast minus metered in daylight, of capacity."),
    _one("Hours served inside the 80 % band", "timeseries", "percentunit", "max by (park) (pvf_served_coverage)",
         "{{park}}", "0.8 is right in the mean of many days; below, the forecast is surer than it should be."),
    _one("Error on the hold-out", "timeseries", "percentunit", "max by (park) (pvf_holdout_daylight_nmae)", "{{park}}",
         "Daylight nMAE of the champion on the days held out before it was promoted; a step is a promotion."),
    _one("Skill on the hold-out", "timeseries", "percentunit", "max by (park) (pvf_holdout_skill)", "{{park}}",
         "What the served skill is held against: far below it the model is stale."),
    _one("Bias on the hold-out", "timeseries", "percentunit", "max by (park) (pvf_holdout_daylight_bias)", "{{park}}",
         "Mean of forecast minus metered in daylight, of capacity."),
    _one("Hours of the hold-out inside the 80 % band", "timeseries", "percentunit",
         "max by (park) (pvf_holdout_coverage)", "{{park}}",
         "0.8 is right; below, the forecast is surer than it should be."),
)  # fmt: skip

_WATCHING = (
    'label_replace(label_replace(pvf_drift_score_ratio, "watch", "rules", "", ""),'
    ' "watch", "$1", "detector", "(cusum|ks|cvm)_.+")'
    ' or label_replace(pvf_served_daylight_nmae, "watch", "served accuracy", "", "")'
)

DRIFT = (
    _one("Parks that drift", "table", "short",
         "max by (park, severity, cause, advice, evidence, event_id) (pvf_drift_open)", "",
         "Whose newest event was not cleared since; `pvf drift trace EVENT_ID` has the rest."),
    _one("PSI by feature", "heatmap", "short", "max by (feature) (pvf_drift_psi)", "{{feature}}",
         "Of the park that is farthest off, less its bias, a column a day; beyond 0.2 the feature has changed."),
    _one("PSI by park and feature", "timeseries", "short", "pvf_drift_psi > 0.1", "{{park}} {{feature}}",
         "Of the parks and features that are near 0.2 or beyond it."),
    _one("Nearest to an alarm", "timeseries", "percentunit",
         "topk(20, max by (park, detector) (pvf_drift_score_ratio))",
         "{{park}} {{detector}}", "Score by its limit: at 100 % it alarms."),
    _one("Weather against the reference", "timeseries", "percentunit",
         "topk(20, max by (park) (pvf_drift_weather_ratio))", "{{park}}",
         "The last two weeks' features together (TabularDrift), by their limit: beyond 100 % they are new. No alarm."),
    _one("Watched by", "table", "short", f"count by (park, watch) ({_WATCHING})", "",
         "How many detectors of each family judged the newest day checked; sums and distances need a reference."),
    _one("Open drifts", "timeseries", "short", "count by (cause) (pvf_drift_open)", "{{cause}}", "By likely cause."),
    _one("Events by state", "timeseries", "short", "max by (status) (pvf_retrain_events)", "{{status}}",
         "attached led to a run; ignored asked for none; escalated went to people."),
    _one("Events that came in", "timeseries", "short", "sum by (outcome) (increase(pvf_retrain_answers_total[1d]))",
         "{{outcome}}", "Within a day."),
)  # fmt: skip

FRESHNESS = (
    _one("Age of weather", "timeseries", "s", "max by (park) (pvf_weather_age_seconds)", "{{park}}",
         "Since the start of the newest run."),
    _one("Age of generation", "timeseries", "s", "max by (park) (pvf_generation_age_seconds)", "{{park}}",
         "Since the end of the newest metered interval; 15 minutes at most while the sun is up (NF4)."),
    Panel("Parks beyond their limit", "timeseries", "short",
          (Query("max(pvf_parks_stale_weather)", "weather"), Query("max(pvf_parks_stale_generation)", "generation")),
          "Of weather and of generation."),
    _one("Parks", "stat", "short", "max(pvf_parks)", "", "That are not retired."),
    _one("Oldest snapshot", "stat", "s", "max(pvf_oldest_snapshot_age_seconds)", "", "Of all parks."),
    _one("Weather behind forecasts, p95", "timeseries", "s",
         "histogram_quantile(0.95, sum by (le) (rate(pvf_forecast_weather_age_seconds_bucket[5m])))", "p95",
         "Age of the run that answers rest on."),
    _one("Rows in quarantine", "timeseries", "short", "max by (table) (pvf_quarantine_rows) or vector(0)", "{{table}}",
         "Held until they are replayed or dismissed."),
    _one("Files of the lake", "timeseries", "short", "max by (table) (pvf_lake_files)", "{{table}}",
         "Maintenance keeps them few."),
)  # fmt: skip

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    # uid: title, panels
    "pvforecast-accuracy": ("PV forecast: accuracy", ACCURACY),
    "pvforecast-drift": ("PV forecast: drift", DRIFT),
    "pvforecast-operations": ("PV forecast: operations", OPERATIONS),
    "pvforecast-lifecycle": ("PV forecast: model lifecycle", LIFECYCLE),
    "pvforecast-freshness": ("PV forecast: data freshness", FRESHNESS),
}
