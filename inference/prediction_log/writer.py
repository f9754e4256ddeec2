"""Group commit: events that arrive while a transaction runs share the next one. An answer means it is on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from inference import metrics
from inference.prediction_log import partitions, store
from inference.prediction_log.record import Received
from pvforecast.errors import InvalidInput, NotReady

log = logging.getLogger(__name__)

WAITING = metrics.gauge("pvf_prediction_log_sink_waiting_events")
COMMITS = metrics.histogram("pvf_prediction_log_sink_commit_duration_seconds")
POSTGRES_UP = metrics.gauge("pvf_prediction_log_sink_postgres_up")

_WAITING = 2_000
_BATCH = 200
_DEADLINE_S = 5.0
_SKEW = timedelta(days=1)  # the sender's clock

Waiting = tuple[Received, "asyncio.Future[None]"]


class Writer:
    """Holds one connection, and makes a new one after a failure.

    Parameters
    ----------
    dsn : of Postgres. It is connected to when the first event comes, so the sink lives without it.
    days : how old an event may be at most, since its month may be gone; 0 for any age.
    """

    def __init__(self, dsn: str, days: int = 0) -> None:
        self._dsn = dsn
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._days = days
        self._months: set[datetime] = set()  # that are there, as far as this connection knows
        WAITING.set_function(self._queue.qsize)

    async def store(self, *events: Received) -> None:
        """Return when the events are committed.

        Raises
        ------
        NotReady
            Postgres does not take it now.
        InvalidInput
            Postgres can never take it, e.g. a NUL in a text; or its time lies ahead, or before what is kept.
        """
        now, loop = datetime.now(UTC), asyncio.get_running_loop()
        for event in events:
            _check_time(event.time, now, self._days)
        if self._queue.qsize() + len(events) > _WAITING:
            raise NotReady("too many events are waiting", hint="send it again later")
        waiting: list[Waiting] = [(event, loop.create_future()) for event in events]
        for one in waiting:
            self._queue.put_nowait(one)
        for outcome in await asyncio.gather(*(done for _, done in waiting), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def run(self) -> None:
        """Make the table if Postgres is there, then write for ever."""
        await self._commit([])
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._write(batch)

    async def close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _write(self, batch: Sequence[Waiting]) -> None:
        error = await self._commit([event for event, _ in batch])
        if isinstance(error, InvalidInput) and len(batch) > 1:
            for one in batch:  # one bad event must not sink the others
                await self._write([one])
            return
        for _, done in batch:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)

    async def _commit(self, events: Sequence[Received]) -> InvalidInput | NotReady | None:
        try:
            connection = await self._connected()
            async with asyncio.timeout(_DEADLINE_S):
                await self._add_months(connection, events)
                with COMMITS.time():
                    await store.insert(connection, events)
        except psycopg.DataError as error:
            return InvalidInput(f"Postgres cannot store it: {error}", field="body")
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.error("prediction log: Postgres did not take %d events: %s", len(events), error)
            POSTGRES_UP.set(0)
            await self.close()
            return NotReady("Postgres does not take events at the moment", hint="send it again later")
        POSTGRES_UP.set(1)
        return None

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            async with asyncio.timeout(_DEADLINE_S):
                self._connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=3)
                plain = await partitions.is_plain(self._connection)
            if plain:  # once in the table's life: no deadline, events wait in the spool meanwhile
                log.warning("moving the prediction log into months")
                log.warning("moved %d events into months", await partitions.adopt(self._connection))
            self._months = set()
        return self._connection

    async def _add_months(self, connection: psycopg.AsyncConnection[Any], events: Sequence[Received]) -> None:
        wanted = {partitions.month(event.time) for event in events} or {partitions.month(datetime.now(UTC))}
        if not wanted <= self._months:
            await partitions.ensure(connection, wanted - self._months)
            self._months |= wanted


def _check_time(time: datetime, now: datetime, days: int) -> None:
    if time > now + _SKEW:
        raise InvalidInput(f"{time.isoformat()} lies ahead", field="ce-time", hint="set the sender's clock")
    if days and partitions.month(time) < partitions.month(now - timedelta(days=days)):
        hint = f"events of the last {days} days are kept (PVF_PREDICTION_LOG_DAYS)"
        raise InvalidInput(f"{time.isoformat()} is older than what is kept", field="ce-time", hint=hint)
