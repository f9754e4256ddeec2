"""Databases of a real Postgres into a backup, in a folder and in a bucket, and back in one transaction."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import minio
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pvf.backup.archive import Archive, Sources
from pvf.backup.places import Bucket, Folder, Place
from pvf.stack import keyring
from pvforecast.errors import DataError, InvalidInput
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def databases(infra: Settings) -> tuple[str, str]:
    """One with a row, and another; they go with the server."""
    password = keyring.load(infra.home / "secrets").postgres_password
    server = make_conninfo(infra.postgres_dsn.get_secret_value(), user="postgres", password=password, dbname="postgres")
    names = [f"backup_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    first, second = (make_conninfo(server, dbname=name) for name in names)
    with psycopg.connect(server, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}".encode())
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE kept (what text); INSERT INTO kept VALUES ('a row')")
    return first, second


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, infra: Settings, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(tmp_path)
    keys = infra.s3_access_key.get_secret_value(), infra.s3_secret_key.get_secret_value()
    name = f"backup-{uuid.uuid4().hex[:8]}"
    minio.Minio(infra.s3_endpoint.removeprefix("http://"), *keys, secure=False).make_bucket(name)
    return Bucket(ObjectStore(infra.s3_endpoint, name, *keys), "prod")


def rows(dsn: str) -> list[tuple[str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT what FROM kept").fetchall()


def test_rows_come_back_and_a_damaged_dump_does_not(databases: tuple[str, str], place: Place) -> None:
    full, empty = databases
    with psycopg.connect(empty) as connection:
        connection.execute("DROP TABLE IF EXISTS kept")
    archive = Archive(place)
    made = archive.create(Sources({}, {"postgres": full}), NOW)
    assert made.databases["postgres"].size > 0
    archive.verify(archive.find("latest"))
    archive.restore(made, Sources({}, {"postgres": empty}))
    assert rows(empty) == [("a row",)]
    with pytest.raises(InvalidInput, match="not empty"):
        archive.restore(made, Sources({}, {"postgres": full}))

    dump = f"backups/{made.id}/postgres.dump"
    place.put(dump, place.get(dump)[:-1])
    with pytest.raises(DataError, match="damaged"):
        archive.restore(made, Sources({}, {"postgres": full}), replace=True)
    place.remove(dump)
    with pytest.raises(DataError, match="missing"):
        archive.verify(made)
    assert rows(full) == [("a row",)]
