"""What the service counts; names and meanings are in `inference.metric_names`. No label grows with parks or topics."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge

from inference import metrics


class Metrics:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str) -> Counter:
            return metrics.counter(f"pvf_telemetry_{name}", registry)

        def gauge(name: str) -> Gauge:
            return metrics.gauge(f"pvf_telemetry_{name}", registry)

        self.received = counter("messages_total")
        self.acknowledged = counter("acknowledged_total")
        self.rows = counter("rows_total")
        self.empty = counter("empty_total")
        self.quarantined = counter("quarantined_total")
        self.not_kept = counter("quarantine_not_kept_total")
        self.commit_failures = counter("commit_failures_total")
        self.disconnects = counter("disconnects_total")
        self.takeovers = counter("takeovers_total")
        self.sessions_lost = counter("sessions_lost_total")
        self.refreshes = counter("refreshes_total")
        self.refresh_failures = counter("refresh_failures_total")
        self.snapshots = counter("snapshots_total")
        self.polled = counter("polled_rows_total")
        self.poll_failures = counter("poll_failures_total")
        self.unacknowledged = gauge("unacknowledged")
        self.connected = gauge("connected")
        self.last_commit = gauge("last_commit_timestamp_seconds")
        self.last_refresh = gauge("last_refresh_timestamp_seconds")
        self.failed_parks = gauge("refresh_failed_parks")
        self.touched = gauge("parks_waiting_for_refresh")
        age = gauge("last_commit_age_seconds")
        started = time.time()
        age.set_function(lambda: time.time() - (self.last_commit._value.get() or started))
        self.flush_seconds = metrics.histogram("pvf_telemetry_flush_seconds", registry)
        self.refresh_seconds = metrics.histogram("pvf_telemetry_refresh_seconds", registry)
