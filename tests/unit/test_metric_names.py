"""The metrics' names follow Prometheus' rules, their series are bounded at any number of parks, one page shows them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from inference import metrics
from inference.drift import cusum, rules
from inference.drift.reference import EXPLAINED
from inference.drift.statistics import SCALE_FLOORS
from inference.metric_names import CLUSTER, ENVOY, LABELS, METRICS, MOST_PARKS, Metric
from inference.transformer import model
from pvf import exporter
from pvf.overview import Overview
from pvforecast.freshness import Freshness, Limits
from tests.contract.tree import ROOT
from tests.debian import program, requires_debian

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGE = (ROOT / "docs" / "metrics.md").read_text()
CODE = {path: path.read_text() for folder in ("inference", "pvf") for path in (ROOT / folder).rglob("*.py")}


def row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} | {', '.join(metric.by)} |"


def overview(parks: int) -> Overview:
    aged = [Freshness(f"park-{at}", NOW, NOW, at, at, NOW, NOW, at, 60, ("weather",)) for at in range(parks)]
    ages = {park.park_id: 7 for park in aged}
    champion = {"model_version": "3", "bundle_id": "b", "verdict": "promote", "promoted_at": NOW.isoformat()}
    return Overview(NOW, Limits(1, 1), aged, ages, champion, {"raw/weather": 1}, {"raw/weather": 2}, NOW, [])


def series(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


class Lake(Collector):
    def __init__(self, state: Overview) -> None:
        self._state = state

    def collect(self) -> Iterator[object]:
        yield metrics.value("pvf_lake_up", 1)
        yield from exporter._families(self._state)


def exported(parks: int) -> str:
    registry = CollectorRegistry()
    registry.register(Lake(overview(parks)))
    return generate_latest(registry).decode()


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_a_name_follows_the_rules(metric: Metric) -> None:
    assert re.fullmatch(r"pvf_[a-z0-9]+(_[a-z0-9]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not re.search(r"_(minutes|hours|days|ms|milliseconds|kb|mb|percent)(_|$)", metric.name)
    assert metric.name.endswith("_seconds") or metric.kind != "histogram"
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert set(metric.labels) <= set(LABELS)
    assert metric.help.endswith(".")


@requires_debian("promtool")
def test_promtool_has_nothing_to_say() -> None:
    registry = CollectorRegistry()
    for metric in METRICS.values():
        made = {"counter": metrics.counter, "gauge": metrics.gauge, "histogram": metrics.histogram}[metric.kind](
            metric.name, registry
        )
        if metric.labels:
            made.labels(*metric.labels)
    said = subprocess.run(
        [program("promtool"), "check", "metrics"], input=generate_latest(registry), capture_output=True, check=False
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, b"")


def test_the_page_shows_the_table() -> None:
    shown = [line for line in PAGE.splitlines() if line.startswith("| `pvf_")]
    assert shown == [row(metric) for metric in METRICS.values()]
    assert [line for line in PAGE.splitlines() if line.startswith("| `envoy_")] == [
        f"| `{name}` | {what} |" for name, what in ENVOY.items()
    ]
    assert [line for line in PAGE.splitlines() if line.startswith(("| `kube_", "| `certmanager_"))] == [
        f"| `{name}` | {what} |" for name, what in CLUSTER.items()
    ]
    for label, (most, which) in LABELS.items():
        assert f"| `{label}` | {most} | {which} |" in PAGE


def test_every_name_is_used_and_no_other_is_made() -> None:
    """A name in the table that nothing emits would be an alert that never fires."""
    made = "\n".join(text for path, text in CODE.items() if path.name != "metric_names.py")
    unused = [
        name
        for name in METRICS
        if f'"{name}"' not in made
        and f'"{name.removeprefix("pvf_telemetry_")}"' not in made
        # made in a loop over their last words
        and not re.fullmatch(r"pvf_(weather|generation)_age_seconds|pvf_parks_stale_\w+|pvf_retrain_(event|run)s", name)
    ]
    assert unused == []
    kinds = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
    elsewhere = [
        f"{path.relative_to(ROOT)}: {node.func.id}"
        for path, text in CODE.items()
        if path != ROOT / "inference" / "metrics.py" and "prometheus_client" in text
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds
    ]
    assert elsewhere == []


def test_a_thousand_parks_are_two_thousand_series_and_more_parks_no_more_than_the_bound() -> None:
    fixed = len(series(exported(0)))
    assert len(series(exported(1_000))) == fixed + 2 * 1_000 + 1  # and the oldest snapshot's age
    text = exported(5_000)
    assert len(series(text)) == fixed + 2 * MOST_PARKS + 1
    assert 'pvf_weather_age_seconds{park="park-4999"} 299940.0' in text  # the oldest are kept


def test_a_forecast_of_any_park_adds_no_series() -> None:
    def grown() -> int:
        return len([line for line in series(generate_latest().decode()) if line.startswith("pvf_")])

    prediction = {
        "valid_at": ["2026-03-01T00:00:00Z"] * 48,
        "degraded": ["partial_weather", "no_recent_generation"],
        "weather_age_minutes": 400,
        "generation_age_minutes": None,
    }
    model._note(prediction | {"park_id": "first"})
    before = grown()
    for at in range(1_000):
        model._note(prediction | {"park_id": f"park-{at}", "weather_age_minutes": at})
    assert grown() == before


def test_the_drift_job_s_detectors_and_features_fit_their_bounds() -> None:
    sums = {detector.name for detector in cusum.DETECTORS}
    distances = {f"{test}_{name}" for test in ("ks", "cvm") for names in EXPLAINED.values() for name in names}
    assert len(rules.RULES) + len(sums | distances) <= LABELS["detector"][0]
    assert len({"level", *SCALE_FLOORS}) <= LABELS["feature"][0]


def test_no_process_has_more_series_than_prometheus_bears() -> None:
    parts = {part for metric in METRICS.values() for part in metric.by}
    most = {part: sum(metric.most_series for metric in METRICS.values() if part in metric.by) for part in parts}
    assert {part for part, bound in most.items() if bound > 1_000} == {"pvf metrics", "trigger"}  # they have `park`
    assert max(most.values()) < 26_000


def test_a_metric_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="is a counter"):
        metrics.gauge("pvf_forecasts_total", CollectorRegistry())
    with pytest.raises(KeyError):
        metrics.counter("pvf_unheard_of_total", CollectorRegistry())


def test_what_is_exported_can_be_read_back() -> None:
    found = {family.name for family in text_string_to_metric_families(exported(3))}
    assert {"pvf_champion_info", "pvf_lake_maintained_timestamp_seconds", "pvf_parks"} <= found
    assert found <= {name.removesuffix("_total") for name in METRICS}
