"""Keeps the months: makes the next one ahead, takes away what is too old."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import psycopg

from inference import metrics
from inference.prediction_log import partitions

log = logging.getLogger(__name__)

PARTITIONS = metrics.gauge("pvf_prediction_log_sink_partitions")
DROPPED = metrics.counter("pvf_prediction_log_sink_dropped_partitions_total")

_EVERY_S, _AGAIN_S = 3_600.0, 60.0


async def keep(dsn: str, days: int) -> None:
    """For ever. Postgres being away is told and tried again.

    Parameters
    ----------
    days : how long a month is kept after its end; 0 keeps everything.
    """
    while True:
        pause = _EVERY_S
        try:
            await step(dsn, days, datetime.now(UTC))
        except (psycopg.Error, OSError) as error:
            log.warning("the prediction log's months cannot be looked after, again in a minute: %s", error)
            pause = _AGAIN_S
        await asyncio.sleep(pause)


async def step(dsn: str, days: int, now: datetime) -> list[str]:
    """Look after the months once; the names of those that were dropped."""
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True, connect_timeout=3)
    async with connection:
        if await partitions.is_plain(connection):
            return []  # the writer moves it first
        first = partitions.month(now)
        await partitions.ensure(connection, [first, partitions.following(first)])
        dropped = await partitions.drop_before(connection, now - timedelta(days=days)) if days else []
        if dropped:
            log.info("the prediction log kept %d days, dropped: %s", days, ", ".join(dropped))
        DROPPED.inc(len(dropped))
        PARTITIONS.set(len(await partitions.months(connection)))
    return dropped
