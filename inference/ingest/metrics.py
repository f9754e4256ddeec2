"""What the service counts. No label grows with parks, devices or topics."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, gauge = _maker(Counter, registry), _maker(Gauge, registry)
        self.received = counter("messages", "Messages received, those delivered again included.")
        self.acknowledged = counter("acknowledged", "Messages acknowledged: stored, set aside or without a value.")
        self.rows = counter("rows", "Rows committed to raw/generation.")
        self.empty = counter("empty", "Messages without a value: null, or a counter reading within its period.")
        self.quarantined = counter("quarantined", "Messages set aside.")
        self.not_kept = counter("quarantine_not_kept", "Refused messages beyond what is kept of them a minute.")
        self.commit_failures = counter("commit_failures", "Commits that failed and were tried again.")
        self.disconnects = counter("disconnects", "Connections to the broker that were lost or refused.")
        self.takeovers = counter("takeovers", "Times another process took the session.")
        self.sessions_lost = counter("sessions_lost", "Times the broker had forgotten the session: messages were lost.")
        self.refreshes = counter("refreshes", "Roll-ups that ended well.")
        self.refresh_failures = counter("refresh_failures", "Roll-ups that failed and are tried again.")
        self.snapshots = counter("snapshots", "Snapshots published.")
        self.polled = counter("polled_rows", "Rows fetched from REST sources.")
        self.poll_failures = counter("poll_failures", "Parks that a REST source did not deliver.")
        self.unacknowledged = gauge("unacknowledged", "Messages received and not acknowledged.")
        self.connected = gauge("connected", "1 while subscribed.")
        self.last_commit = gauge("last_commit_timestamp_seconds", "When rows were committed last; 0 before the first.")
        self.last_refresh = gauge("last_refresh_timestamp_seconds", "When a roll-up ended well; 0 before the first.")
        self.failed_parks = gauge("refresh_failed_parks", "Parks that the last roll-up had to leave out: see the log.")
        self.touched = gauge("parks_waiting_for_refresh", "Parks with rows that are not rolled up.")
        age = gauge("last_commit_age_seconds", "Since rows were committed last, or since the start.")
        started = time.time()
        age.set_function(lambda: time.time() - (self.last_commit._value.get() or started))
        self.flush_seconds = Histogram(
            "pvf_telemetry_flush_seconds",
            "From taking a batch to its commit.",
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=registry,
        )
        self.refresh_seconds = Histogram(
            "pvf_telemetry_refresh_seconds",
            "Roll-up of the touched parks with their snapshots.",
            buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300),
            registry=registry,
        )


def _maker(kind: type, registry: CollectorRegistry):  # type: ignore[no-untyped-def]
    return lambda name, text: kind(f"pvf_telemetry_{name}", text, registry=registry)
