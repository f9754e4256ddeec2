"""Old forecasts go with their snapshots, and nothing goes that something newer leads to."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from inference.prediction_log import partitions
from inference.prediction_log import store as log
from inference.prediction_log.events import Pair, decode, encode
from pvf import retention
from pvforecast import snapshot
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site
from tests.stack_fixtures import object_store

pytestmark = pytest.mark.stack

DAY = np.timedelta64(24, "h")


@pytest.fixture
def settings(infra: Settings) -> Settings:
    name, whole = f"retention_{uuid.uuid4().hex[:8]}", infra.postgres_dsn.get_secret_value()
    with psycopg.connect(whole) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    dsn = make_conninfo(whole, options=f"-c search_path={name}")
    return infra.model_copy(update={"postgres_dsn": SecretStr(dsn)})


def test_the_log_loses_what_is_older_and_keeps_the_rest(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    now, dsn = datetime(2024, 6, 1, tzinfo=UTC), settings.postgres_dsn.get_secret_value()
    times = [now - timedelta(days=days) for days in (300, 200, 91, 89, 1)]
    asyncio.run(_log(dsn, times))
    monkeypatch.setattr(log, "_AT_ONCE", 4)  # three rounds
    assert retention.prune(settings, 90, now).logged == 6
    assert log.count(dsn) == 4
    assert retention.prune(settings, 90, now).logged == 0


def test_of_a_park_old_snapshots_go_and_the_newest_stays(settings: Settings) -> None:
    store, park = object_store(settings), f"sim-{uuid.uuid4().hex[:6]}"
    history = record(site(park))
    ids = [snapshot.write(store, history.known_at(NOW - days * DAY)) for days in (3, 2, 1)]
    assert snapshot.prune(store, park, NOW - DAY) == 4  # two entries, two objects
    assert snapshot.prune(store, park, NOW + 100 * DAY) == 0
    assert [key.rsplit("/", 1)[-1] for key in store.keys(f"snapshots/objects/{park}/")] == [f"{ids[2]}.arrow"]
    newest = snapshot.latest_entry(store, park)
    assert newest is not None
    assert snapshot.read(store, park, newest["snapshot_id"]).as_of == NOW - DAY


def test_an_object_that_a_newer_entry_leads_to_stays(settings: Settings) -> None:
    store, park = object_store(settings), f"sim-{uuid.uuid4().hex[:6]}"
    snapshot_id = snapshot.write(store, record(site(park)).known_at(NOW))
    entry = store.get_json(f"snapshots/latest/{park}.json")
    store.put_json(f"snapshots/index/{park}/2000-01-01T00:00:00.json", entry)
    assert snapshot.prune(store, park, NOW) == 1
    assert snapshot.read(store, park, snapshot_id)


def test_less_than_what_drift_needs_is_refused(settings: Settings) -> None:
    with pytest.raises(InvalidInput, match="--keep-days: 30 days"):
        retention.prune(settings, 30, datetime(2024, 6, 1, tzinfo=UTC))


async def _log(dsn: str, times: list[datetime]) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await partitions.ensure(connection, [partitions.month(time) for time in times])
        for time in times:
            entries = [{"park_id": "a"}]
            pair = Pair({"instances": entries}, {"predictions": entries}, str(uuid.uuid4()), time=time)
            events = encode(pair, inferenceservice="pv-forecast", namespace="test")
            await log.insert(connection, [decode(event.headers, event.body) for event in events])
        await connection.commit()
