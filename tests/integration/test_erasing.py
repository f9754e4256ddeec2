"""A park is erased: nothing of it can be read any more, in no version and no file, and nothing of others is touched."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime

import pandas as pd
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from inference.drift.outbox import Outbox
from inference.prediction_log import partitions
from inference.prediction_log import store as log
from inference.prediction_log.events import Pair, decode, encode
from inference.retrain.store import Store
from pvf import erasing
from pvforecast import snapshot, wiring
from pvforecast.lake import Lake
from pvforecast.lake.tables import GENERATION, PARKS
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site
from tests.stack_fixtures import object_store

pytestmark = pytest.mark.stack

GONE, STAYS = "o'brien-secret-park", "sim-b"


@pytest.fixture
def settings(infra: Settings) -> Settings:
    name = f"erase_{uuid.uuid4().hex[:8]}"
    dsn = make_conninfo(infra.postgres_dsn.get_secret_value(), options=f"-c search_path={name}")
    with psycopg.connect(infra.postgres_dsn.get_secret_value()) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return infra.model_copy(update={"lake_uri": f"s3://{infra.s3_bucket}/{name}", "postgres_dsn": SecretStr(dsn)})


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """Both parks, written together into the same files, twice."""
    lake, began = wiring.lake(settings), pd.Timestamp("2024-06-01", tz="UTC")
    parks = [{"park_id": name, "valid_from": began, "recorded_at": began, "facts": "{}"} for name in (GONE, STAYS)]
    lake.append_new(PARKS, pd.DataFrame(parks))
    for day in range(2):
        times = pd.date_range(began + pd.Timedelta(days=day), periods=24, freq="h")
        hours = [
            pd.DataFrame({"park_id": name, "valid_at": times, "available_at": times, "power_kw": 1.0})
            for name in (GONE, STAYS)
        ]
        rows = pd.concat(hours, ignore_index=True).assign(completeness=1.0, period_s=3600)
        lake.append_new(GENERATION, rows.astype({"period_s": "int32"}))
    return lake


def test_nothing_of_it_is_left_and_all_of_the_others(settings: Settings, lake: Lake) -> None:
    store = object_store(settings)
    for name in (GONE.replace("'", "-"), STAYS):
        snapshot.write(store, record(site(name)).known_at(NOW))
    asyncio.run(_log(settings.postgres_dsn.get_secret_value()))
    before = lake.version(GENERATION)

    erased = erasing.erase(settings, GONE)

    assert erased.rows == {GENERATION.name: 48, PARKS.name: 1}
    assert lake.read(GENERATION)["park_id"].to_pylist() == [STAYS] * 48
    assert lake.read(PARKS)["park_id"].to_pylist() == [STAYS]
    assert before < lake.version(GENERATION)
    assert _left_in_files(settings, lake) == []
    logged = log._rows(settings.postgres_dsn.get_secret_value(), log._SELECT, ())
    assert erased.logged == 4  # two messages of its own, two shared
    assert [row.park_ids for row in logged] == [[STAYS], [STAYS]]
    assert all(entry["park_id"] == STAYS for row in logged for part in row.data.values() for entry in part)


def test_its_snapshots_go_pointer_first_and_others_stay(settings: Settings) -> None:
    store, name = object_store(settings), f"sim-{uuid.uuid4().hex[:6]}"
    for park in (name, f"{name}-2"):
        snapshot.write(store, record(site(park)).known_at(NOW))
    assert erasing.erase(settings, name).snapshots == 3
    assert snapshot.latest_entry(store, name) is None
    assert list(store.keys(f"snapshots/objects/{name}/")) == []
    assert snapshot.latest_entry(store, f"{name}-2") is not None


def test_again_it_finds_nothing(settings: Settings, lake: Lake) -> None:
    erasing.erase(settings, GONE)
    assert not erasing.erase(settings, GONE).anything


def test_events_of_the_park_go(settings: Settings) -> None:
    dsn = settings.postgres_dsn.get_secret_value()
    store = Store(dsn)
    store.open()
    store.close()
    Outbox(dsn).put([{"id": f"of {name}", "subject": name} for name in (GONE, STAYS)])
    with psycopg.connect(dsn) as connection:
        columns = "id, park_id, event_time, status, reason, event, type"
        for name in (GONE, STAYS):
            values = (name, name, "2024-06-01T00:00:00Z", "waiting", "", "{}", "io.pvforecast.drift.detected.v1")
            connection.execute(
                f"INSERT INTO retrain_events ({columns}) VALUES (%s, %s, %s, %s, %s, %s, %s)".encode(), values
            )
    assert erasing.erase(settings, GONE).events == 2


def _left_in_files(settings: Settings, lake: Lake) -> list[str]:
    """Objects of the lake that hold the park's name in a row; logs keep statistics, not rows."""
    store = object_store(settings)
    prefix = settings.lake_uri.removeprefix(f"s3://{settings.s3_bucket}/")
    return [key for key in store.keys(f"{prefix}/") if GONE.encode() in store.get(key) and "_delta_log" not in key]


async def _log(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await partitions.prepare(connection, datetime.now(UTC))
        for names in ((GONE,), (GONE, STAYS)):
            entries = [{"park_id": name} for name in names]
            pair = Pair({"instances": entries}, {"predictions": entries}, str(uuid.uuid4()))
            events = encode(pair, inferenceservice="pv-forecast", namespace="test")
            await log.insert(connection, [decode(event.headers, event.body) for event in events])
        await connection.commit()
