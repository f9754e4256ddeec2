"""Which logged forecast a day is scored on, out of a real prediction log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from inference.drift.served import Log
from inference.prediction_log import partitions, store
from inference.prediction_log.record import RESPONSE, Received
from pvforecast.settings import Settings
from tests.retrain_trigger import schema

pytestmark = pytest.mark.stack
BEGIN = datetime(2026, 6, 10, 7, tzinfo=UTC)
AT = np.datetime64("2026-06-10T07:00:00")


@pytest.fixture
def dsn(infra: Settings) -> Iterator[str]:
    with schema(infra) as name:
        yield name


def _logged(dsn: str, *forecasts: tuple[str, datetime, datetime, Any]) -> None:
    """Responses: park, issued at, logged at, the caller's own weather."""

    async def insert() -> None:
        connection = await psycopg.AsyncConnection.connect(dsn)
        async with connection:
            await partitions.prepare(connection, BEGIN)
            await partitions.ensure(connection, {at for _, _, at, _ in forecasts})
            await store.insert(connection, [_event(*one) for one in forecasts])

    asyncio.run(insert())


def _event(park: str, issued_at: datetime, at: datetime, weather: Any) -> Received:
    prediction = {
        "park_id": park, "issued_at": issued_at.isoformat(), "weather": weather, "model_version": "7",
        "valid_at": [(BEGIN + timedelta(hours=hour)).isoformat() for hour in range(24)],
        "power_kw": {"0.5": [float(issued_at.hour)] * 24, "0.1": [0.0] * 24},
    }  # fmt: skip
    data = json.dumps({"predictions": [prediction]})
    return Received(f"{park}-{issued_at}-{at}", RESPONSE, at, [park], "pv", "d", "transformer", "/", None, data)


def test_the_last_of_the_day_before_counts_and_none_with_the_caller_s_own_weather(dsn: str) -> None:
    hours = [timedelta(hours=hour) for hour in (-30, -10, -2, -1, 1)]
    weather = [None, None, None, {"valid_at": []}, None]
    _logged(dsn, *[("a", BEGIN + hour, BEGIN + hour, own) for hour, own in zip(hours, weather, strict=True)])
    found = Log(dsn).ahead_of("a", AT)
    assert found is not None
    assert found.issued_at == np.datetime64("2026-06-10T05:00:00")
    assert list(found.power_kw) == [0.1, 0.5]
    assert found.power_kw[0.5].tolist() == [5.0] * 24
    assert found.valid_at[0] == AT
    assert Log(dsn).ahead_of("b", AT) is None
    assert Log(dsn).ahead_of("a", AT + np.timedelta64(3, "D")) is None


def test_what_is_no_forecast_is_passed_over(dsn: str) -> None:
    _logged(dsn, ("a", BEGIN - timedelta(hours=3), BEGIN - timedelta(hours=3), None))
    odd = {"predictions": [{"park_id": "a", "issued_at": BEGIN.isoformat(), "weather": None, "power_kw": None}]}
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO prediction_log (id, type, time, park_ids, inferenceservice, namespace, component, endpoint,"
            " data) VALUES ('odd', %s, %s, '{a}', '', '', '', '', %s)", (RESPONSE, BEGIN, json.dumps(odd)),
        )  # fmt: skip
    found = Log(dsn).ahead_of("a", AT)
    assert found is not None
    assert found.issued_at == np.datetime64("2026-06-10T04:00:00")


def test_in_a_replay_the_log_s_clock_is_years_later(dsn: str) -> None:
    _logged(dsn, ("a", BEGIN - timedelta(hours=1), datetime.now(UTC), None))
    assert Log(dsn).ahead_of("a", AT) is not None


def test_without_tables_or_postgres_nothing_is_scored_and_nothing_fails(dsn: str) -> None:
    assert Log(dsn).ahead_of("a", AT) is None
    assert Log(dsn, "http://127.0.0.1:1").promise("a", "7") is None
    dead = Log("host=127.0.0.1 port=1")
    assert dead.ahead_of("a", AT) is None
    assert len(dead.away) == 1  # and it is not asked again
