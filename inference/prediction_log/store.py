"""The table `prediction_log` in Postgres: how it is written and read. Needs psycopg and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row

from inference.prediction_log.record import RESPONSE, Received, Row

_INSERT: LiteralString = """
INSERT INTO prediction_log
    (id, type, time, park_ids, inferenceservice, namespace, component, endpoint, request_id, data)
SELECT %(id)s, %(type)s, %(time)s, %(park_ids)s, %(inferenceservice)s, %(namespace)s, %(component)s, %(endpoint)s,
    %(request_id)s, %(data)s::jsonb
WHERE NOT EXISTS (SELECT 1 FROM prediction_log WHERE id = %(id)s AND type = %(type)s)
ON CONFLICT (id, type, time) DO NOTHING
"""
_SELECT: LiteralString = """
SELECT id, type, time, park_ids, inferenceservice, namespace, component, endpoint, request_id, data, received_at
FROM prediction_log
"""
# Requests hold `instances`, responses `predictions`: one entry a park.
_CUT: LiteralString = """
UPDATE prediction_log SET park_ids = array_remove(park_ids, %(park)s), data = (
    SELECT jsonb_object_agg(part, CASE WHEN part IN ('instances', 'predictions') THEN (
        SELECT coalesce(jsonb_agg(entry ORDER BY at), '[]')
        FROM jsonb_array_elements(whole) WITH ORDINALITY e(entry, at)
        WHERE entry ->> 'park_id' IS DISTINCT FROM %(park)s
    ) ELSE whole END) FROM jsonb_each(data) AS d(part, whole)
) WHERE park_ids @> ARRAY[%(park)s]
"""


async def insert(connection: psycopg.AsyncConnection[Any], events: Sequence[Received]) -> None:
    """Store events in one transaction, whose months are there; events that are stored already stay as they are.

    An event is known by id and type, whatever its time says: the unique key must hold the time, since it chooses the
    month, and is what stops two sinks that store one event at the same instant.
    """
    if not events:
        return
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(_INSERT, [vars(event) for event in events])


def find(dsn: str, *, event_id: str | None = None, request_id: str | None = None) -> list[Row]:
    """The events of one prediction, request before response, by event id or by request id."""
    wanted = (event_id, request_id)
    return _rows(dsn, _SELECT + "WHERE id = %s OR request_id = %s ORDER BY time, type", wanted)


def recent(dsn: str, park_id: str, limit: int = 100) -> list[Row]:
    """The newest responses that hold a forecast of the park, newest first."""
    wanted = (RESPONSE, [park_id], limit)
    return _rows(dsn, _SELECT + "WHERE type = %s AND park_ids @> %s ORDER BY time DESC LIMIT %s", wanted)


def forget(dsn: str, park_id: str) -> int:
    """Delete what was asked and answered about a park; others' parts of the same messages stay. Returns the events."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        if connection.execute("SELECT to_regclass('prediction_log')").fetchone() == (None,):
            return 0
        alone = connection.execute("DELETE FROM prediction_log WHERE park_ids = ARRAY[%s]", (park_id,)).rowcount
        return alone + connection.execute(_CUT, {"park": park_id}).rowcount


def count(dsn: str) -> int:
    """How many events are stored; two for each answered request."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        row = connection.execute("SELECT count(*) FROM prediction_log").fetchone()
    return int(row[0]) if row else 0


def _rows(dsn: str, query: LiteralString, values: Sequence[Any]) -> list[Row]:
    with psycopg.connect(dsn, connect_timeout=5) as connection, connection.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(query, values).fetchall()
