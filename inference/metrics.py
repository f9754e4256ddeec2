"""Prometheus metrics made from the table of names: a name that is not in it cannot be emitted."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily

from inference.metric_names import METRICS, Metric

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads


def counter(name: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """The counter of this name, ``_total`` included."""
    metric = _named(name, "counter")
    return Counter(name.removesuffix("_total"), metric.help, metric.labels, registry=registry)


def gauge(name: str, registry: CollectorRegistry = REGISTRY) -> Gauge:
    metric = _named(name, "gauge")
    return Gauge(name, metric.help, metric.labels, registry=registry)


def histogram(name: str, registry: CollectorRegistry = REGISTRY) -> Histogram:
    metric = _named(name, "histogram")
    return Histogram(name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


def family(name: str) -> GaugeMetricFamily:
    """An empty gauge for a collector that reads when it is scraped."""
    metric = _named(name, "gauge")
    return GaugeMetricFamily(name, metric.help, labels=metric.labels)


def value(name: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels for such a collector."""
    found = family(name)
    found.add_metric([], value)
    return found


def _named(name: str, kind: str) -> Metric:
    metric = METRICS[name]
    if metric.kind != kind:
        raise ValueError(f"{name} is a {metric.kind}, not a {kind}")
    return metric
