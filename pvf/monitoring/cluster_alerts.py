"""Alerts on what only a cluster has: jobs by the clock and certificates. Nobody of ours runs when these go wrong.

From kube-state-metrics and cert-manager, under their own label `namespace` (`honorLabels`: docs/monitoring.md).
"""

from __future__ import annotations

from pvf.monitoring.alerts import OBJECT_STORE, Alert

NAMESPACES = "pvforecast.*"
MISSED_H = {"backup": 36, "drift-check": 6}
"""CronJob -> hours without a success that are too many: more than a run, its retries and its deadline take."""
RENEWED_LATE_D = 1
EXPIRES_D = 7

_OURS = f'namespace=~"{NAMESPACES}"'
_BY = "max by (namespace, cronjob)"


def _succeeded(cronjob: str = "") -> str:
    """When a CronJob's last run ended well, or when the CronJob was made."""
    which = f'{_OURS}, cronjob=~"(.+-)?{cronjob}"' if cronjob else _OURS  # a namePrefix may stand before it
    return f"{_BY} (kube_cronjob_status_last_successful_time{{{which}}} or kube_cronjob_created{{{which}}})"


def _failed() -> str:
    """When the newest Job of a CronJob that failed was made."""
    owner = f'max by (namespace, job_name, owner_name) (kube_job_owner{{{_OURS}, owner_kind="CronJob"}})'
    failed = f'(kube_job_failed{{{_OURS}, condition="true"}} == 1)'
    made = f"(kube_job_created{{{_OURS}}} and on (namespace, job_name) {failed})"
    owned = f"{made} * on (namespace, job_name) group_left (owner_name) {owner}"
    return f'{_BY} (label_replace({owned}, "cronjob", "$1", "owner_name", "(.+)"))'


def _missed(cronjob: str) -> str:
    return f"time() - {_succeeded(cronjob)} > {MISSED_H[cronjob]} * 3600"


CLUSTER = (
    Alert(
        "JobFailed", f"{_failed()} > {_succeeded()}", "0m", "warning",
        "{{ $labels.cronjob }} failed, after its own retries", "its newest run did not succeed",
        "kubectl -n {{ $labels.namespace }} get jobs, then the log of the job's pod", cause="{{ $labels.cronjob }}",
        needs=OBJECT_STORE,
    ),
    Alert(
        "BackupMissed", _missed("backup"), "0m", "critical",
        "there is no backup of the last 36 hours", "the last one ended well {{ $value | humanizeDuration }} ago",
        "kubectl -n {{ $labels.namespace }} create job --from=cronjob/{{ $labels.cronjob }} backup-now",
        cause="a CronJob that is suspended, cannot be scheduled or fails", needs="",
    ),
    Alert(
        "DriftCheckMissed", _missed("drift-check"), "0m", "warning",
        "no park was checked for drift for more than 6 hours",
        "the last check ended well {{ $value | humanizeDuration }} ago",
        "kubectl -n {{ $labels.namespace }} describe cronjob {{ $labels.cronjob }}",
        cause="a CronJob that is suspended, cannot be scheduled or fails",
    ),
    Alert(
        "CertificateNotRenewed",
        f"time() - (max by (namespace, name) (certmanager_certificate_renewal_timestamp_seconds{{{_OURS}}}) > 0)"
        f" > {RENEWED_LATE_D} * 86400", "1h", "warning",
        "the certificate {{ $labels.name }} was due to be renewed and was not",
        "due {{ $value | humanizeDuration }} ago; it still holds",
        "kubectl -n {{ $labels.namespace }} describe certificate {{ $labels.name }}",
        cause="cert-manager or its issuer", needs="",
    ),
    Alert(
        "CertificateExpires",
        f"max by (namespace, name) (certmanager_certificate_expiration_timestamp_seconds{{{_OURS}}}) - time()"
        f" < {EXPIRES_D} * 86400", "1h", "critical",
        "the certificate {{ $labels.name }} runs out: who verifies it will refuse to connect",
        "{{ $value | humanizeDuration }} are left; below zero it has run out, or was never issued",
        "kubectl -n {{ $labels.namespace }} describe certificate {{ $labels.name }}",
        cause="cert-manager or its issuer", needs="",
    ),
    Alert(
        "ClusterMetricsMissing",
        f"absent(kube_cronjob_created{{{_OURS}}})"
        f" or absent(certmanager_certificate_expiration_timestamp_seconds{{{_OURS}}})", "15m", "warning",
        "jobs or certificates of the cluster are not watched: their alerts cannot fire",
        "kube-state-metrics or cert-manager says nothing of our namespaces",
        "are both scraped, with honorLabels? see Prometheus' targets", cause="monitoring", needs="",
    ),
)  # fmt: skip
