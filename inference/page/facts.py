"""What the page reads from Postgres: yesterday's forecast, drift, training runs. No table, no rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from inference.prediction_log.record import RESPONSE
from inference.retrain import drifted

log = logging.getLogger(__name__)

DAY = timedelta(days=1)
_NEAR = timedelta(hours=6)
_AT_MOST = 200  # log rows that are looked through

_FORECASTS: LiteralString = """
SELECT p->>'issued_at' AS issued_at, p->'valid_at' AS valid_at, p->'power_kw' AS power_kw,
    p->>'model_version' AS model_version
FROM (SELECT data FROM prediction_log WHERE type = %(type)s AND park_ids @> %(parks)s AND time <= %(until)s
      ORDER BY time DESC LIMIT %(most)s) newest, jsonb_array_elements(data->'predictions') p
WHERE p->>'park_id' = %(park)s AND p->'weather' = 'null'::jsonb
    AND (p->>'issued_at')::timestamptz BETWEEN %(begin)s AND %(end)s
ORDER BY abs(extract(epoch FROM (p->>'issued_at')::timestamptz - %(target)s)) LIMIT 1
"""
_RUNS: LiteralString = """
SELECT id, status, reason, verdict, model_version, started_at, finished_at FROM retrain_runs ORDER BY id DESC LIMIT 10
"""

Row = dict[str, Any]


class Facts:
    """Blocking. Every answer is None where Postgres does not give it: the page goes on without.

    Parameters
    ----------
    dsn : empty where there is no Postgres.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def yesterdays_forecast(self, park_id: str, issued_at: datetime, now: datetime) -> Row | None:
        """The logged forecast that was issued nearest to a day before `issued_at`, six hours off at most.

        Parameters
        ----------
        now : the machine's clock, by which rows are logged; in a replay it is years from `issued_at`.
        """
        target = issued_at - DAY
        wanted = {
            "type": RESPONSE, "parks": [park_id], "park": park_id, "most": _AT_MOST,
            "begin": target - _NEAR, "end": target + _NEAR, "target": target,
        }  # fmt: skip
        for until in (target + _NEAR, now):
            found = self._rows(_FORECASTS, wanted | {"until": until})
            if found:
                return found[0]
        return None

    def drifted(self) -> list[Row] | None:
        """Parks with a drift event that nothing cleared since: park_id, event_time, severity, likely."""
        rows = self._rows(drifted.SQL)
        return None if rows is None else [_told(row) for row in rows]

    def runs(self) -> list[Row] | None:
        """The newest training runs that drift started."""
        return self._rows(_RUNS)

    def _rows(self, query: LiteralString, values: Mapping[str, Any] | None = None) -> list[Row] | None:
        if not self._dsn:
            return None
        try:
            with psycopg.connect(self._dsn, connect_timeout=2, row_factory=dict_row) as connection:
                connection.execute("SET statement_timeout = '3s'")
                return connection.execute(query, values).fetchall()
        except psycopg.errors.UndefinedTable:
            return []
        except psycopg.Error as error:
            log.warning("the page goes on without an answer of Postgres: %s", error)
            return None


def _told(row: Row) -> Row:
    data = row["data"] or {}
    cause = (data.get("cause") or {}).get("likely")
    return {
        "park_id": row["park"],
        "event_time": row["event_time"],
        "severity": data.get("severity", "warning"),
        "likely": cause,
    }
