"""Group commit: events that arrive while a transaction runs share the next one. An answer means it is on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import psycopg

from inference import metrics
from inference.prediction_log import store
from inference.prediction_log.record import Received
from pvforecast.errors import InvalidInput, NotReady

log = logging.getLogger(__name__)

WAITING = metrics.gauge("pvf_prediction_log_sink_waiting_events")
COMMITS = metrics.histogram("pvf_prediction_log_sink_commit_duration_seconds")
POSTGRES_UP = metrics.gauge("pvf_prediction_log_sink_postgres_up")

_WAITING = 2_000
_BATCH = 200
_DEADLINE_S = 5.0

Waiting = tuple[Received, "asyncio.Future[None]"]


class Writer:
    """Holds one connection, and makes a new one after a failure.

    Parameters
    ----------
    dsn : of Postgres. It is connected to when the first event comes, so the sink lives without it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(_WAITING)
        self._connection: psycopg.AsyncConnection[Any] | None = None
        WAITING.set_function(self._queue.qsize)

    async def store(self, event: Received) -> None:
        """Return when the event is committed.

        Raises
        ------
        NotReady
            Postgres does not take it now.
        InvalidInput
            Postgres can never take it, e.g. a NUL in a text.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait((event, done))
        except asyncio.QueueFull:
            raise NotReady("too many events are waiting", hint="send it again later") from None
        await done

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
            async with asyncio.timeout(_DEADLINE_S):
                with COMMITS.time():
                    await store.insert(await self._connected(), events)
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
            connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, connect_timeout=3)
            await store.ensure(connection)
            self._connection = connection
        return self._connection
