"""What each check measured, kept: table ``drift/scores``, a row for each park, day and measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.drift.accuracy import WINDOW_DAYS, Score
from inference.drift.causes import LOSS, RETRAIN
from inference.drift.events import SERVED_SKILL
from inference.drift.served import Promise
from pvforecast.lake import Lake
from pvforecast.lake.tables import DRIFT_SCORES
from pvforecast.level_changes import LEVEL

if TYPE_CHECKING:
    from inference.drift.job import Line

PSI_LIMIT = 0.2
ACCURACY, WEATHER = "accuracy", "weather"


def keep(lake: Lake, lines: Sequence[Line]) -> int:
    """Store what is new of some checks; a check that is repeated adds nothing. Returns how many rows were."""
    rows = [row for line in lines for row in _rows(line)]
    return lake.append_new(DRIFT_SCORES, pd.DataFrame(rows)) if rows else 0


def _rows(line: Line) -> list[dict[str, object]]:
    known = {
        "park_id": line.park_id,
        "day": line.day,
        "checked_at": pd.Timestamp(line.checked_at),
        "reference_id": line.reference_id,
    }
    alarmed = {alarm["detector"] for alarm in (line.event or {"data": {"alarms": []}})["data"]["alarms"]}
    rows: list[dict[str, object]] = [
        {**known, "kind": "detector", "name": name, "value": score, "limit": limit, "alarm": name in alarmed}
        for name, (score, limit) in line.scores.items()
    ]
    rows += [
        {**known, "kind": "psi", "name": psi["feature"], "value": round(psi["psi"] - psi["bias"], 4),
         "limit": PSI_LIMIT, "alarm": psi["exceeds"]}
        for psi in line.psi
    ]  # fmt: skip
    if line.weather is not None:
        rows += [
            {**known, "kind": WEATHER, "name": name, "value": distance, "limit": line.weather.limit,
             "alarm": distance > line.weather.limit}
            for name, distance in line.weather.distance.items()
        ]  # fmt: skip
    if line.event is not None and line.event["data"]["advice"] == RETRAIN:
        rows += _level(line.event["data"], known)
    if line.accuracy is not None:
        rows += _accuracy(line.accuracy, known, stale=SERVED_SKILL in alarmed)
    return rows


def _level(data: dict[str, Any], known: dict[str, object]) -> list[dict[str, object]]:
    """For training: a few days among years would teach a model little (`pvforecast.level_changes`)."""
    cause = data["cause"]
    if cause["likely"] != LOSS or "power_ratio" not in cause["evidence"]:
        return []
    known = {**known, "day": cause["evidence"]["since"], "kind": LEVEL, "name": cause["likely"]}
    return [{**known, "value": cause["evidence"]["power_ratio"], "limit": float("nan"), "alarm": True}]


def _accuracy(score: Score, known: dict[str, object], *, stale: bool) -> list[dict[str, object]]:
    """`limit` is what the model scored on its own hold-out; `reference_id` is the model."""
    promise = score.promise
    measures = {
        "nmae": (score.nmae, promise and promise.nmae), "coverage": (score.coverage, promise and promise.coverage),
        "skill": (score.skill, promise and promise.skill), "persistence": (score.persistence, None),
        "bias": (score.bias, None), "hours": (score.hours, None), "sound": (float(score.sound), None),
    }  # fmt: skip
    known = {**known, "kind": ACCURACY, "reference_id": score.model_version}
    return [
        {**known, "name": name, "value": float(value), "limit": float("nan") if limit is None else limit,
         "alarm": stale and name == "skill"}
        for name, (value, limit) in measures.items() if value is not None
    ]  # fmt: skip


def scores(lake: Lake, park_ids: Sequence[str], day: str) -> dict[str, list[Score]]:
    """Park -> what was scored of it before `day`, as far back as a verdict on it can reach, ascending."""
    first = str(np.datetime64(day) - np.timedelta64(3 * WINDOW_DAYS, "D"))
    wanted = ", ".join("'" + park.replace("'", "''") + "'" for park in park_ids)
    found = lake.query(
        DRIFT_SCORES,
        f"SELECT park_id, day, name, value, \"limit\" AS most, reference_id FROM t WHERE kind = '{ACCURACY}'"
        f" AND day >= '{first}' AND day < '{day}' AND park_id IN ({wanted}) ORDER BY checked_at",
    )
    days: dict[tuple[str, str], dict[str, tuple[float, float | None]]] = {}
    versions: dict[tuple[str, str], str] = {}
    for row in [] if found is None else found.to_pylist():
        key = (row["park_id"], row["day"])
        if versions.setdefault(key, row["reference_id"]) == row["reference_id"]:
            days.setdefault(key, {})[row["name"]] = (row["value"], row["most"])
    made: dict[str, list[Score]] = {}
    for (park_id, of), measures in sorted(days.items()):
        made.setdefault(park_id, []).append(_score(park_id, of, versions[park_id, of], measures))
    return made


def _score(park_id: str, day: str, version: str, found: dict[str, tuple[float, float | None]]) -> Score:
    value = {name: pair[0] for name, pair in found.items()}
    promised = {name: pair[1] for name, pair in found.items() if pair[1] is not None and not math.isnan(pair[1])}
    known = {"nmae", "coverage", "skill"} <= promised.keys()
    return Score(
        park_id, day, version, int(value["hours"]), value["nmae"], value["persistence"], value["bias"],
        value.get("coverage"), bool(value["sound"]),
        Promise(promised["nmae"], promised["coverage"], promised["skill"], "", "") if known else None,
    )  # fmt: skip
