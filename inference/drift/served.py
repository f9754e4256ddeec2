"""What was served, and what its model promised: the prediction log and promotions in Postgres, hold-outs in MLflow.

Whatever does not answer leaves the check without a score: watching accuracy never stops the watch over the data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, LiteralString

import numpy as np
import psycopg
import requests
from psycopg.rows import dict_row

from pvforecast.known import Floats, Times

log = logging.getLogger(__name__)

_RESPONSE = "org.kubeflow.serving.inference.response"
_AT_MOST = 500  # of a park's log rows are looked through
_LOGGED_S = 60  # after its issue, at the latest
_DAY_S = 86_400
# A forecast that the caller gave the weather for says nothing of the model.
_NEWEST: LiteralString = """
SELECT p->>'issued_at' AS issued_at, p->'valid_at' AS valid_at, p->'power_kw' AS power_kw,
    p->>'model_version' AS model_version
FROM (SELECT data FROM prediction_log WHERE type = %(type)s AND park_ids @> %(parks)s
          AND time BETWEEN %(since)s AND %(until)s
      ORDER BY time DESC LIMIT %(most)s) newest, jsonb_array_elements(data->'predictions') p
WHERE p->>'park_id' = %(park)s AND p->'weather' = 'null'::jsonb
    AND jsonb_typeof(p->'valid_at') = 'array' AND jsonb_typeof(p->'power_kw') = 'object'
    AND (p->>'issued_at')::timestamptz > %(begin)s AND (p->>'issued_at')::timestamptz <= %(end)s
ORDER BY (p->>'issued_at')::timestamptz DESC LIMIT 1
"""
_RUN: LiteralString = "SELECT mlflow_run_id FROM promotions WHERE model_version = %s ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True)
class Forecast:
    """One that was answered. `power_kw`: level -> kW, shape [n] as `valid_at`."""

    model_version: str
    issued_at: np.datetime64
    valid_at: Times
    power_kw: Mapping[float, Floats]


@dataclass(frozen=True)
class Promise:
    """Scores of a model on the days held out before it was promoted; the first of those days, and the last."""

    nmae: float
    coverage: float
    skill: float
    first: str
    last: str


@dataclass(frozen=True)
class Log:
    """Where to look.

    Attributes
    ----------
    mlflow_uri : empty where there is none: then nothing is known of hold-outs.
    away : why Postgres did not answer; once it did not it is not asked again: a fleet would wait for each park.
    """

    dsn: str
    mlflow_uri: str = ""
    away: list[str] = field(default_factory=list, compare=False)

    def ahead_of(self, park_id: str, begin: np.datetime64) -> Forecast | None:
        """The last forecast of a park that was issued within the 24 hours up to `begin`."""
        end = datetime.fromtimestamp(int(begin.astype("datetime64[s]").astype(np.int64)), UTC)
        first = datetime.fromtimestamp(end.timestamp() - _DAY_S, UTC)
        wanted = {
            "type": _RESPONSE, "parks": [park_id], "park": park_id, "begin": first, "end": end, "most": _AT_MOST,
        }  # fmt: skip
        ever = {"since": datetime(1970, 1, 1, tzinfo=UTC), "until": datetime.now(UTC)}
        near = {"since": first, "until": datetime.fromtimestamp(end.timestamp() + _LOGGED_S, UTC)}
        for span in (near, ever):  # in a replay the log's clock is years from the forecast's
            rows = self._rows(_NEWEST, wanted | span)
            if rows:
                return _forecast(rows[0])
        return None

    def promise(self, park_id: str, model_version: str) -> Promise | None:
        """What that model scored for this park on its own hold-out."""
        rows = self._rows(_RUN, (model_version,)) if model_version.isdecimal() and self.mlflow_uri else []
        if not rows or not rows[0]["mlflow_run_id"]:
            return None
        data = _run(self.mlflow_uri, rows[0]["mlflow_run_id"])
        scores = data.get("metrics", {})
        nmae, coverage, skill = (
            scores.get(f"holdout.{park_id}.{name}") for name in ("daylight_nmae", "daylight_picp80", "skill")
        )
        if nmae is None or coverage is None or skill is None:
            return None
        first, last = (str(data["params"].get(name, ""))[:10] for name in ("holdout_from", "as_of"))
        return Promise(nmae, coverage, skill, first, last)

    def _rows(self, query: LiteralString, values: Any) -> list[dict[str, Any]]:
        if self.away:
            return []
        try:
            with psycopg.connect(self.dsn, connect_timeout=2, row_factory=dict_row) as connection:
                connection.execute("SET statement_timeout = '10s'")
                return connection.execute(query, values).fetchall()
        except psycopg.errors.UndefinedTable:
            return []
        except psycopg.Error as error:
            log.warning("accuracy is not scored: Postgres: %s", " ".join(str(error).split()))
            if isinstance(error, psycopg.OperationalError):
                self.away.append(str(error))
            return []


@lru_cache(maxsize=8)
def _run(mlflow_uri: str, run_id: str) -> dict[str, dict[str, Any]]:
    """Metrics and params of an MLflow run, empty where it does not answer; the client itself has no place here."""
    try:
        url = f"{mlflow_uri.rstrip('/')}/api/2.0/mlflow/runs/get"
        answer = requests.get(url, params={"run_id": run_id}, timeout=5)
        answer.raise_for_status()
        data = answer.json()["run"]["data"]
    except (requests.RequestException, ValueError, KeyError) as error:
        log.warning("the hold-out of MLflow run %s is not known: %s", run_id, error)
        return {}
    return {kind: {one["key"]: one["value"] for one in data.get(kind, ())} for kind in ("metrics", "params")}


def _forecast(row: Mapping[str, Any]) -> Forecast:
    levels = {float(level): np.array(power, np.float64) for level, power in row["power_kw"].items()}
    times = [_seconds(text) for text in row["valid_at"]]
    return Forecast(
        str(row["model_version"]), _seconds(row["issued_at"]), np.array(times, "datetime64[s]"),
        dict(sorted(levels.items())),
    )  # fmt: skip


def _seconds(text: str) -> np.datetime64:
    return np.datetime64(datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None), "s")
