"""The prediction log lies in months: an earlier table is moved into them, an event is one whatever its time says."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from inference.prediction_log import partitions, retention, store
from inference.prediction_log.record import RESPONSE, Received
from inference.prediction_log.writer import Writer
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack

NOW = datetime.now(UTC)
EVENT = Received(
    "e", RESPONSE, NOW, ["a"], "pv-forecast", "local", "transformer", "default", "r", '{"predictions": []}'
)
BEFORE = """
CREATE TABLE prediction_log (
    id text NOT NULL, type text NOT NULL, time timestamptz NOT NULL, park_ids text[] NOT NULL,
    inferenceservice text NOT NULL, namespace text NOT NULL, component text NOT NULL, endpoint text NOT NULL,
    request_id text, data jsonb NOT NULL, received_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, type)
);
CREATE INDEX prediction_log_time ON prediction_log (time DESC);
CREATE INDEX prediction_log_parks ON prediction_log USING gin (park_ids);
CREATE INDEX prediction_log_request ON prediction_log (request_id);
INSERT INTO prediction_log
    SELECT 'old-' || n, 'org.kubeflow.serving.inference.response', now() - n * interval '10 days', ARRAY['a'],
           'pv-forecast', 'local', 'transformer', 'default', 'r-' || n, '{"predictions": []}'
    FROM generate_series(0, 9) n;
"""


@pytest.fixture
def dsn(infra: Settings) -> Iterator[str]:
    """A schema of its own."""
    base, schema = infra.postgres_dsn.get_secret_value(), f"log_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(base) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    yield f"{base}?options=-csearch_path%3D{schema}"
    with psycopg.connect(base) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def write(dsn: str, *events: Received, writers: int = 1, days: int = 0) -> None:
    """Store them all at each of so many writers at once."""

    async def run() -> None:
        made = [Writer(dsn, days) for _ in range(writers)]
        tasks = [asyncio.create_task(one.run()) for one in made]
        try:
            await asyncio.gather(*(one.store(event) for one in made for event in events))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*(one.close() for one in made))

    asyncio.run(run())


def at(**changes: Any) -> Received:
    return dataclasses.replace(EVENT, **changes)


def test_each_month_is_a_partition_and_reads_see_them_all(dsn: str) -> None:
    write(dsn, *(at(id=f"e{n}", time=NOW - timedelta(days=31 * n)) for n in range(4)))
    held = ask(dsn, "SELECT tableoid::regclass::text, id FROM prediction_log ORDER BY time DESC")
    expected = [partitions.name(partitions.month(NOW - timedelta(days=31 * n))) for n in range(4)]
    assert [name for name, _ in held] == expected
    assert [row.id for row in store.recent(dsn, "a")] == ["e0", "e1", "e2", "e3"]
    assert store.find(dsn, event_id="e3")[0].time == NOW - timedelta(days=93)


def test_the_first_and_the_last_instant_of_a_month_are_told_apart(dsn: str) -> None:
    first = partitions.month(NOW)
    write(dsn, at(id="first", time=first), at(id="last", time=first - timedelta(microseconds=1)))
    assert len(ask(dsn, "SELECT DISTINCT tableoid FROM prediction_log")) == 2


def test_a_table_of_an_earlier_version_is_moved_with_all_its_rows(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(BEFORE.encode())
    before = ask(dsn, "SELECT * FROM prediction_log ORDER BY id")
    write(dsn, at(id="old-3"), at(id="new"), writers=3)  # three sinks find it at once; one event is there already
    assert ask(dsn, "SELECT * FROM prediction_log WHERE id <> 'new' ORDER BY id") == before
    assert len(ask(dsn, "SELECT * FROM prediction_log WHERE id = 'new'")) == 1
    assert ask(dsn, "SELECT relkind FROM pg_class WHERE oid = 'prediction_log'::regclass") == [("p",)]
    assert ask(dsn, "SELECT to_regclass('prediction_log_unpartitioned')") == [(None,)]
    indexes = {name for (name,) in ask(dsn, "SELECT indexname FROM pg_indexes WHERE tablename = 'prediction_log'")}
    assert indexes == {"prediction_log_pkey", *(f"prediction_log_{of}" for of in ("time", "parks", "request"))}


def test_an_event_is_stored_once_whatever_its_time_says(dsn: str) -> None:
    """A sender without `ce-time` gets the sink's clock, which is another at the second try."""
    write(dsn, EVENT, EVENT, at(time=NOW - timedelta(days=40)), writers=2)
    write(dsn, at(time=NOW - timedelta(days=80)), EVENT)
    assert store.count(dsn) == 1


def test_a_month_goes_when_it_is_past_its_days(dsn: str) -> None:
    write(dsn, *(at(id=f"e{n}", time=NOW - timedelta(days=31 * n)) for n in range(5)))
    first = partitions.month(NOW)
    dropped = asyncio.run(retention.step(dsn, 40, NOW))
    kept = [row.time for row in store.recent(dsn, "a")]
    assert dropped
    assert all(partitions.following(partitions.month(time)) > NOW - timedelta(days=40) for time in kept)
    assert len(kept) + len(dropped) == 5
    assert asyncio.run(retention.step(dsn, 40, NOW)) == []
    assert asyncio.run(retention.step(dsn, 0, NOW + timedelta(days=4_000))) == []  # 0 keeps everything
    assert (partitions.name(partitions.following(first)),) in ask(  # the next month is there before it begins
        dsn, "SELECT relid::regclass::text FROM pg_partition_tree('prediction_log')"
    )


def test_a_dropped_month_is_made_again_for_a_writer_that_knew_it(dsn: str) -> None:
    async def run() -> None:
        writer = Writer(dsn)
        task = asyncio.create_task(writer.run())
        await writer.store(EVENT)
        with psycopg.connect(dsn) as connection:
            connection.execute(f"DROP TABLE {partitions.name(partitions.month(NOW))}".encode())
        with pytest.raises(Exception, match="Postgres does not take events"):
            await writer.store(at(id="again"))
        await writer.store(at(id="again"))
        task.cancel()
        await writer.close()

    asyncio.run(run())
    assert store.count(dsn) == 1


@pytest.mark.parametrize("time", [NOW + timedelta(days=2), NOW - timedelta(days=200)], ids=["ahead", "too old"])
def test_an_event_of_a_time_that_is_not_kept_is_refused(dsn: str, time: datetime) -> None:
    with pytest.raises(InvalidInput) as caught:
        write(dsn, at(time=time), days=100)
    assert caught.value.field == "ce-time"
    write(dsn, EVENT, days=100)
    assert store.count(dsn) == 1
