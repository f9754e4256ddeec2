"""The table `prediction_log` in Postgres: how it is made, written and read. Needs psycopg and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row

from inference.prediction_log.record import RESPONSE, Received, Row

_LOCK = 7_486_001  # of the advisory lock under which the table is made

_CREATE: LiteralString = """
CREATE TABLE IF NOT EXISTS prediction_log (
    id text NOT NULL,
    type text NOT NULL,
    time timestamptz NOT NULL,
    park_ids text[] NOT NULL,
    inferenceservice text NOT NULL,
    namespace text NOT NULL,
    component text NOT NULL,
    endpoint text NOT NULL,
    request_id text,
    data jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, type)
);
CREATE INDEX IF NOT EXISTS prediction_log_time ON prediction_log (time DESC);
CREATE INDEX IF NOT EXISTS prediction_log_parks ON prediction_log USING gin (park_ids);
CREATE INDEX IF NOT EXISTS prediction_log_request ON prediction_log (request_id);
"""
_INSERT: LiteralString = """
INSERT INTO prediction_log
    (id, type, time, park_ids, inferenceservice, namespace, component, endpoint, request_id, data)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)
ON CONFLICT (id, type) DO NOTHING
"""
_SELECT: LiteralString = """
SELECT id, type, time, park_ids, inferenceservice, namespace, component, endpoint, request_id, data, received_at
FROM prediction_log
"""
_AT_ONCE = 10_000
_PRUNE: LiteralString = """
DELETE FROM prediction_log WHERE ctid = ANY(ARRAY(SELECT ctid FROM prediction_log WHERE time < %s LIMIT %s))
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


async def ensure(connection: psycopg.AsyncConnection[Any]) -> None:
    """Make the table where it is missing; any number of processes may do so at once."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(_CREATE)


async def insert(connection: psycopg.AsyncConnection[Any], events: Sequence[Received]) -> None:
    """Store events in one transaction; those that are there already stay as they are."""
    rows = [
        (
            event.id, event.type, event.time, event.park_ids, event.inferenceservice, event.namespace,
            event.component, event.endpoint, event.request_id, event.data,
        )
        for event in events
    ]  # fmt: skip
    if not rows:
        return
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany(_INSERT, rows)


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


def prune(dsn: str, before: datetime) -> int:
    """Delete the events of before an instant, some at a time, so that nobody waits for it. Returns how many."""
    gone = 0
    with psycopg.connect(dsn, connect_timeout=5, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('prediction_log')").fetchone() == (None,):
            return 0
        while rows := connection.execute(_PRUNE, (before, _AT_ONCE)).rowcount:
            gone += rows
    return gone


def count(dsn: str) -> int:
    """How many events are stored; two for each answered request."""
    with psycopg.connect(dsn, connect_timeout=5) as connection:
        row = connection.execute("SELECT count(*) FROM prediction_log").fetchone()
    return int(row[0]) if row else 0


def _rows(dsn: str, query: LiteralString, values: Sequence[Any]) -> list[Row]:
    with psycopg.connect(dsn, connect_timeout=5) as connection, connection.cursor(row_factory=class_row(Row)) as cursor:
        return cursor.execute(query, values).fetchall()
