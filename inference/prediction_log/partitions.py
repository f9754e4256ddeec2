"""The months of the table `prediction_log`: made ahead, dropped when they are too old. UTC.

A month is one partition, `prediction_log_2026_11`, so that retention is a dropped table and not a million dead rows.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

TABLE = "prediction_log"
_LOCK = 7_486_001  # of the advisory lock under which tables are made

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
    PRIMARY KEY (id, type, time)
) PARTITION BY RANGE (time);
CREATE INDEX IF NOT EXISTS prediction_log_time ON prediction_log (time DESC);
CREATE INDEX IF NOT EXISTS prediction_log_parks ON prediction_log USING gin (park_ids);
CREATE INDEX IF NOT EXISTS prediction_log_request ON prediction_log (request_id);
"""
_SET_ASIDE: LiteralString = """
ALTER TABLE prediction_log RENAME TO prediction_log_unpartitioned;
ALTER TABLE prediction_log_unpartitioned DROP CONSTRAINT IF EXISTS prediction_log_pkey;
DROP INDEX IF EXISTS prediction_log_time, prediction_log_parks, prediction_log_request;
"""
_MOVE: LiteralString = """
INSERT INTO prediction_log SELECT
    id, type, time, park_ids, inferenceservice, namespace, component, endpoint, request_id, data, received_at
FROM prediction_log_unpartitioned;
DROP TABLE prediction_log_unpartitioned;
"""


def month(instant: datetime) -> datetime:
    """Its first instant."""
    return instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def following(first: datetime) -> datetime:
    return month(first + timedelta(days=32))


def name(first: datetime) -> str:
    return f"{TABLE}_{first:%Y_%m}"


async def ensure(connection: psycopg.AsyncConnection[Any], months: Collection[datetime]) -> None:
    """Make the table and these months where they are missing; any number of processes may do so at once."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await connection.execute(_CREATE)
        await _add(connection, months)


async def is_plain(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the table is there as versions before the months made it."""
    query = "SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(%s)"
    found = await (await connection.execute(query, (TABLE,))).fetchone()
    return bool(found and found[0])


async def adopt(connection: psycopg.AsyncConnection[Any]) -> int:
    """Move the rows of such a table into months, in one transaction that takes as long as it takes; how many."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        if not await is_plain(connection):  # another process was quicker
            return 0
        await connection.execute(_SET_ASIDE)
        await connection.execute(_CREATE)
        query: LiteralString = "SELECT DISTINCT date_trunc('month', time, 'UTC') FROM prediction_log_unpartitioned"
        await _add(connection, [row[0] for row in await (await connection.execute(query)).fetchall()])
        count = await (await connection.execute("SELECT count(*) FROM prediction_log_unpartitioned")).fetchone()
        await connection.execute(_MOVE)
    return int(count[0]) if count else 0


async def prepare(connection: psycopg.AsyncConnection[Any], now: datetime) -> None:
    """The table as it is today, with this month and the next, whatever was there before."""
    if await is_plain(connection):
        await adopt(connection)
    await ensure(connection, [month(now), following(month(now))])


async def months(connection: psycopg.AsyncConnection[Any]) -> list[datetime]:
    """The months that the table holds, oldest first."""
    query = "SELECT relid::regclass::text FROM pg_partition_tree(%s) WHERE isleaf AND level = 1"
    rows = await (await connection.execute(query, (TABLE,))).fetchall()
    found = (row[0].rsplit(".", 1)[-1].strip('"').removeprefix(f"{TABLE}_") for row in rows)
    return sorted(datetime.strptime(text, "%Y_%m").replace(tzinfo=UTC) for text in found)


async def drop_before(connection: psycopg.AsyncConnection[Any], limit: datetime) -> list[str]:
    """Drop the months that ended by `limit`; their names. A reader under way is waited for two seconds only."""
    old = [first for first in await months(connection) if following(first) <= limit]
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '2s'")
        for first in old:
            await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name(first))))
    return [name(first) for first in old]


async def _add(connection: psycopg.AsyncConnection[Any], firsts: Collection[datetime]) -> None:
    make = sql.SQL("CREATE TABLE IF NOT EXISTS {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})")
    for first in sorted(map(month, firsts)):
        bounds = (sql.Literal(edge.isoformat()) for edge in (first, following(first)))
        await connection.execute(make.format(sql.Identifier(name(first)), sql.Identifier(TABLE), *bounds))
