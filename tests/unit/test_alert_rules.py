"""Each alert on made-up series, by Debian's promtool: fires on what it is for, and is silent beside it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from inference import metric_names
from inference.panels import DASHBOARDS
from pvf.monitoring import __main__ as written
from pvf.monitoring import rules
from pvf.monitoring.slos import INPUTS, WINDOWS, recorded
from tests.contract.tree import ROOT
from tests.debian import program, requires_debian

RUNBOOKS = ROOT / "docs" / "runbooks"
DAY = 24 * 3600
DRIFT = 'pvf_drift_open{park="a", severity="%s", cause="outage", advice="fix_data", event_id="e", evidence="0 kW"}'
BUCKET, COUNT = (f'pvf_request_duration_seconds_{name}{{service="transformer"%s}}' for name in ("bucket", "count"))
ENVOY = 'envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="gateway", envoy_response_code_class="%d"}'
PARTS = ("bucket", "sum", "count")
LABELS = re.compile(r"\{[^}]*\}|\bby \([^)]*\)")
UP = {"pvf_lake_up": "1", "pvf_retrain_database_up": "1"}
BACKUP = 'namespace="pvforecast", cronjob="backup"'
CHECK = 'namespace="pvforecast-dev", cronjob="north-drift-check"'  # under a namePrefix
MADE, SUCCEEDED = "kube_cronjob_created{%s}", "kube_cronjob_status_last_successful_time{%s}"
JOB = 'namespace="pvforecast", job_name="backup-29"'
FAILED_JOB = {
    f"kube_job_created{{{JOB}}}": str(DAY),
    f'kube_job_failed{{{JOB}, condition="true"}}': "0x5 1x100",
    f'kube_job_owner{{{JOB}, owner_kind="CronJob", owner_name="backup", owner_is_controller="true"}}': "1",
    MADE % BACKUP: "0",
}
CERTIFICATE = 'certmanager_certificate_%s_timestamp_seconds{namespace="pvforecast", name="telemetry"}'


class Case(NamedTuple):
    """Series in promtool's notation, one value a step (`3` is a constant), with which the alert fires, or not."""

    alert: str
    fires: dict[str, str]
    silent: dict[str, str]
    steps: int = 60
    severity: str = "warning"
    step: str = "1m"


def _latency(fast: str, every: str) -> dict[str, str]:
    return {BUCKET % f', le="{le}"': value for le, value in (("0.2", fast), ("5.0", every), ("+Inf", every))} | {
        COUNT % "": every
    }


CASES = [
    Case("DriftDetected", {DRIFT % "critical": "1"}, {DRIFT % "critical": "0"}, severity="critical"),
    Case("RetrainFailed", {"pvf_retrain_last_run_failed": "1"}, {"pvf_retrain_last_run_failed": "0"}),
    Case(
        "RetrainEscalated",
        {'pvf_retrain_events{status="escalated"}': "2x50 3x50"},
        {'pvf_retrain_events{status="escalated"}': "2"},
        70,
    ),
    Case(
        "EventsRefused",
        {'pvf_retrain_refusals_total{code="unauthenticated"}': "0+1x100"},
        {'pvf_retrain_refusals_total{code="unauthenticated"}': "0+0.1x100"},
        70,
    ),
    Case(
        "PipelineFailed",
        {'pvf_pipeline_last_run_failed{pipeline="training"}': "0x5 1x100"},
        {'pvf_pipeline_last_run_failed{pipeline="training"}': "0"},
        7,
    ),
    Case(
        "TrainingMissed",
        {'pvf_pipeline_last_success_timestamp_seconds{pipeline="training"}': "0"},
        {'pvf_pipeline_last_success_timestamp_seconds{pipeline="training"}': str(DAY)},
        183,
        step="1h",
    ),
    Case(
        "ModelStale",
        {"pvf_model_trained_until_timestamp_seconds": "0"},
        {"pvf_model_trained_until_timestamp_seconds": str(DAY)},
        183,
        step="1h",
    ),
    Case(
        "ModelRefused",
        {"pvf_model_reload_failures_total": "0x50 1x50"},
        {"pvf_model_reload_failures_total": "1"},
        55,
        "critical",
    ),
    Case(
        "AccuracyWorseThanPersistence",
        {'pvf_served_fortnight_skill{park="a"}': "-0.1", 'pvf_holdout_skill{park="a"}': "0.1"},
        {'pvf_served_fortnight_skill{park="a"}': "0.1", 'pvf_holdout_skill{park="a"}': "-0.1"},
    ),
    Case(  # before anything that was served is scored
        "AccuracyWorseThanPersistence",
        {'pvf_holdout_skill{park="a"}': "-0.1"},
        {'pvf_holdout_skill{park="a"}': "0.1"},
    ),
    Case("LatencyHigh", _latency("0+1x100", "0+2x100"), _latency("0+99x100", "0+100x100")),
    Case(
        "ErrorRateHigh",
        {ENVOY % 2: "0+90x100", ENVOY % 5: "0+10x100"},
        {ENVOY % 2: "0+100x100", ENVOY % 4: "0+50x100"},
        severity="critical",
    ),
    Case("ServiceDown", {'up{job="pvf-predictor"}': "0"}, {'up{job="pvf-predictor"}': "1"}, severity="critical"),
    Case(
        "VolumeLow",
        {"pvf_forecasts_total": "0+600x144 86400x20"},
        {"pvf_forecasts_total": "0+600x164"},
        156,
        step="10m",
    ),
    Case(
        "PredictionLogDropping",
        {'pvf_prediction_log_events_total{outcome="dropped"}': "0+1x100"},
        {'pvf_prediction_log_events_total{outcome="delivered"}': "0+1x100"},
        severity="critical",
    ),
    Case("PredictionLogBehind", {"pvf_prediction_log_spool_bytes": "6e7"}, {"pvf_prediction_log_spool_bytes": "1e6"}),
    Case(
        "ObjectStoreDown",
        {'pvf_object_store_up{service="transformer"}': "0", 'pvf_object_store_up{service="predictor"}': "0"},
        {'pvf_object_store_up{service="transformer"}': "0", 'pvf_object_store_up{service="predictor"}': "1"},
        severity="critical",
    ),
    Case("ObjectStoreDown", {"pvf_lake_up": "0"}, {"pvf_lake_up": "1"}, severity="critical"),
    Case("DatabaseDown", {"pvf_retrain_database_up": "0"}, {"pvf_retrain_database_up": "1"}, severity="critical"),
    Case("WeatherStale", {"pvf_parks_stale_weather": "3"}, {"pvf_parks_stale_weather": "0"}),
    Case("GenerationStale", {"pvf_parks_stale_generation": "3"}, {"pvf_parks_stale_generation": "0"}),
    Case("TelemetryDisconnected", {"pvf_telemetry_connected": "0"}, {"pvf_telemetry_connected": "1"}, 60, "critical"),
    Case(
        "TelemetryLost",
        {"pvf_telemetry_sessions_lost_total": "0x50 1x50"},
        {"pvf_telemetry_sessions_lost_total": "1"},
        55,
        "critical",
    ),
    Case(
        "QuarantineGrowing",
        {'pvf_quarantine_rows{table="raw/generation"}': "0+100x40"},
        {'pvf_quarantine_rows{table="raw/generation"}': "5000"},
        37,
        step="10m",
    ),
    Case(
        "MaintenanceLate",
        {"pvf_lake_maintained_timestamp_seconds": "0"},
        {"pvf_lake_maintained_timestamp_seconds": str(DAY)},
        38,
        step="1h",
    ),
    Case("DeadMansSwitch", {}, {}, severity="none"),
    Case("MetricsMissing", {"pvf_lake_up": "1"}, UP),
    Case("JobFailed", FAILED_JOB, {**FAILED_JOB, SUCCEEDED % BACKUP: f"0x20 {DAY + 60}x100"}),
    Case(
        "JobFailed",
        {**FAILED_JOB, SUCCEEDED % BACKUP: "60"},
        {n.replace("pvforecast", "others"): v for n, v in FAILED_JOB.items()},
    ),
    Case(
        "BackupMissed",
        {SUCCEEDED % BACKUP: "0", MADE % BACKUP: "0"},
        {SUCCEEDED % BACKUP: str(DAY), MADE % BACKUP: "0", SUCCEEDED % CHECK: "0"},
        38,
        "critical",
        step="1h",
    ),
    Case("BackupMissed", {MADE % BACKUP: "0"}, {MADE % BACKUP: str(DAY)}, 38, "critical", step="1h"),  # none ever
    Case(
        "DriftCheckMissed",
        {SUCCEEDED % CHECK: "0", MADE % CHECK: "0"},
        {SUCCEEDED % CHECK: str(5 * 3600), MADE % CHECK: "0"},
        8,
        step="1h",
    ),
    Case(
        "CertificateNotRenewed",
        {CERTIFICATE % "renewal": "1"},
        {CERTIFICATE % "renewal": str(DAY)},
        27,
        step="1h",
    ),
    Case(
        "CertificateExpires",
        {CERTIFICATE % "expiration": str(8 * DAY)},
        {CERTIFICATE % "expiration": str(10 * DAY)},
        27,
        "critical",
        step="1h",
    ),
    Case(  # never issued
        "CertificateExpires",
        {CERTIFICATE % "expiration": "0"},
        {CERTIFICATE.replace("pvforecast", "others") % "expiration": "0"},
        27,
        "critical",
        step="1h",
    ),
    Case(
        "ClusterMetricsMissing",
        {MADE % BACKUP: "0", CERTIFICATE.replace("pvforecast", "others") % "expiration": "0"},
        {MADE % BACKUP: "0", CERTIFICATE % "expiration": "0"},
    ),
    Case("LatencyBudgetBurn", _latency("0x80", "0+6x80"), _latency("0+97x80", "0+100x80"), 70, "critical"),
    Case(
        "AvailabilityBudgetBurn",
        {ENVOY % 2: "0+100x80", ENVOY % 5: "0+10x80"},
        {ENVOY % 2: "0+10000x80", ENVOY % 5: "0+1x80"},
        70,
        "critical",
    ),
    Case(
        "ModelAgeBudgetBurn",
        {"pvf_model_trained_until_timestamp_seconds": f"-{8 * DAY}"},
        {"pvf_model_trained_until_timestamp_seconds": "0"},
        70,
        "critical",
    ),
    Case(
        "FreshnessBudgetBurn",
        {"pvf_parks": "100", "pvf_parks_stale_generation": "20"},
        {"pvf_parks": "100", "pvf_parks_stale_generation": "0"},
        70,
        "critical",
    ),
]


def _promtool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *words], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def _rules_of(alert: str) -> list[dict[str, Any]]:
    """The groups with this alert, and what it needs to be recorded: the others only cost time."""
    wanted = [rule for group in rules.groups() for rule in group["rules"] if rule.get("alert") == alert]
    records = [rule for rule in rules.groups()[0]["rules"] if any("pvf:" in rule["expr"] for rule in wanted)]
    return [{"name": "recorded", "rules": records}, {"name": "alerts", "rules": wanted}]


def _series(given: dict[str, str], steps: int) -> list[dict[str, str]]:
    constant = {name: values if "x" in values else f"{values}x{steps + 10}" for name, values in given.items()}
    return [{"series": name, "values": values} for name, values in constant.items()]


def _test(case: Case, given: dict[str, str], fires: bool) -> dict[str, Any]:
    labels = f'alertname="{case.alert}", severity="{case.severity}"'
    firing = f'count by (alertname, severity) (ALERTS{{alertstate="firing", {labels}}}) > bool 0'
    return {
        "interval": case.step,
        "input_series": _series(given, case.steps),
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{case.steps * int(case.step[:-1])}{case.step[-1]}",
                "exp_samples": [{"labels": f"{{{labels}}}", "value": 1}] if fires else [],
            }
        ],
    }


@requires_debian("promtool")
def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": rules.groups()}))
    done = _promtool(tmp_path, "check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stderr
    assert f"{sum(len(group['rules']) for group in rules.groups())} rules found" in done.stdout


@requires_debian("promtool")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_an_alert_fires_on_what_it_is_for_and_is_silent_beside_it(case: Case, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": _rules_of(case.alert)}))
    tests = [_test(case, case.fires, fires=True)]
    if case.alert != "DeadMansSwitch":
        tests.append(_test(case, case.silent, fires=False))
    file = tmp_path / "tests.yaml"
    given = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": case.step,
        "group_eval_order": ["recorded", "alerts"],  # else at random, and none looks back an hour
        "tests": tests,
    }
    file.write_text(yaml.safe_dump(given))
    done = _promtool(tmp_path, "test", "rules", file.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_panels_name_metrics_that_are_emitted() -> None:
    known = {
        *metric_names.METRICS,
        *metric_names.ENVOY,
        *metric_names.CLUSTER,
        *INPUTS,
        *(recorded(window) for window in WINDOWS),
    }
    known |= {
        f"{name}_{part}"
        for name, metric in metric_names.METRICS.items()
        if metric.kind == "histogram"
        for part in PARTS
    }
    exprs = [rule["expr"] for group in rules.groups() for rule in group["rules"]]
    exprs += [query.expr for _, panels in DASHBOARDS.values() for panel in panels for query in panel.queries]
    named = {
        name
        for expr in exprs
        for name in re.findall(r"\b(?:pvf|envoy|kube|certmanager)[_:][\w:]+", LABELS.sub("", expr))
    }
    assert named - known == set()
    assert named >= metric_names.CLUSTER.keys()


def test_no_alert_is_without_a_case_or_a_runbook() -> None:
    assert {case.alert for case in CASES} == set(rules.names())
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(rules.names())


def test_a_runbook_says_what_it_means_what_to_check_and_what_to_do() -> None:
    for path in RUNBOOKS.glob("*.md"):
        if path.stem != "README":
            headings = [line for line in path.read_text().splitlines() if line.startswith("## ")]
            assert headings == ["## What it means", "## Check", "## Act"], path.name


def test_the_committed_files_are_what_the_lists_say() -> None:
    stale = [path.name for path, text in written.files().items() if not path.exists() or path.read_text() != text]
    assert stale == [], "run `python -m pvf.monitoring`"
