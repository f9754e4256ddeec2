"""How far each park is from an alarm, as Prometheus metrics out of what the drift job stored of its newest check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from inference import metrics
from inference.metric_names import MOST_DRIFT_PARKS
from pvf.kept import Kept
from pvforecast import wiring
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.settings import Settings

_KEPT_S = 300.0  # it changes once a day
_NEWEST = (
    'SELECT park_id, kind, name, value, "limit" AS most FROM t JOIN'
    " (SELECT park_id AS park, max(checked_at) AS at FROM t GROUP BY park_id) newest"
    " ON t.park_id = newest.park AND t.checked_at = newest.at"
)


def newest(settings: Settings) -> Kept:
    """Of each park's newest check; nothing before the first, or while the lake is away."""
    return Kept(lambda: families(_rows(settings)), _KEPT_S)


def families(rows: Sequence[dict[str, Any]]) -> list[GaugeMetricFamily]:
    """The metrics out of rows with park_id, kind, name, value, most; of too many parks the nearest to an alarm."""
    score, psi = metrics.family("pvf_drift_score_ratio"), metrics.family("pvf_drift_psi")
    weather = metrics.family("pvf_drift_weather_ratio")
    near: dict[str, float] = {}
    for row in rows:
        if row["kind"] in ("psi", "detector"):
            near[row["park_id"]] = max(near.get(row["park_id"], 0.0), _ratio(row))
    shown = set(sorted(near, key=lambda park: -near[park])[:MOST_DRIFT_PARKS])
    apart: dict[str, float] = {}
    for row in rows:
        if row["park_id"] in shown and row["kind"] == "psi":
            psi.add_metric([row["park_id"], row["name"]], row["value"])
        elif row["park_id"] in shown and row["kind"] == "detector":
            score.add_metric([row["park_id"], row["name"]], _ratio(row))
        elif row["park_id"] in shown and row["kind"] == "weather":
            apart[row["park_id"]] = max(apart.get(row["park_id"], 0.0), _ratio(row))
    for park, ratio in sorted(apart.items()):
        weather.add_metric([park], ratio)
    return [score, psi, weather]


def _ratio(row: dict[str, Any]) -> float:
    """1 is where it alarms; detectors that cannot tell have no limit, and none is reached."""
    return float(row["value"]) / float(row["most"]) if row["most"] else 0.0


def _rows(settings: Settings) -> list[dict[str, Any]]:
    found = wiring.lake(settings).query(DRIFT_SCORES, _NEWEST)
    return [] if found is None else list(found.to_pylist())
