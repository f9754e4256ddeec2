"""How good what was served was, by park: metrics out of the days that the drift job has scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from inference import metrics
from inference.metric_names import MOST_PARKS
from pvf.kept import Kept
from pvforecast import wiring
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.settings import Settings

_OF_DAY = {  # the table's name -> ours
    "nmae": "pvf_served_daylight_nmae",
    "bias": "pvf_served_daylight_bias",
    "coverage": "pvf_served_coverage",
}
_FORTNIGHT = "pvf_served_fortnight_skill"
_KEPT_S = 300.0  # it changes once a day
# By the days of the newest check of all, not by the clock: in a replay that is years away.
_DAYS = (
    "SELECT park_id, day, name, max(value) AS value FROM t WHERE kind = 'accuracy' AND day > (SELECT"
    " CAST(CAST(max(day) AS DATE) - INTERVAL '14 days' AS VARCHAR) FROM t WHERE kind = 'accuracy')"
    " GROUP BY park_id, day, name"
)


def days(settings: Settings) -> Kept:
    """Of each park's newest day that was scored, and of two weeks; nothing before the first."""
    return Kept(lambda: families(_rows(settings)), _KEPT_S)


def families(rows: Sequence[dict[str, Any]]) -> list[GaugeMetricFamily]:
    """The metrics out of rows with park_id, day, name, value; the worst parks are kept where there are too many."""
    made = {name: metrics.family(name) for name in (*_OF_DAY.values(), _FORTNIGHT)}
    parks: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        parks.setdefault(row["park_id"], {}).setdefault(row["day"], {})[row["name"]] = row["value"]
    skills = {park: _skill(list(scored.values())) for park, scored in parks.items()}
    for park in sorted(parks, key=lambda park: skills[park])[:MOST_PARKS]:
        newest = parks[park][max(parks[park])]
        for name, value in newest.items():
            if name in _OF_DAY:
                made[_OF_DAY[name]].add_metric([park], value)
        if skills[park] != float("inf"):
            made[_FORTNIGHT].add_metric([park], skills[park])
    return list(made.values())


def _skill(scored: Sequence[dict[str, float]]) -> float:
    """Of all hours of some days together; infinite where smart persistence made no error."""
    theirs = sum(day["persistence"] * day["hours"] for day in scored)
    ours = sum(day["nmae"] * day["hours"] for day in scored)
    return 1.0 - ours / theirs if theirs > 0.0 else float("inf")


def _rows(settings: Settings) -> list[dict[str, Any]]:
    found = wiring.lake(settings).query(DRIFT_SCORES, _DAYS)
    return [] if found is None else list(found.to_pylist())
