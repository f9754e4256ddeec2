"""`pvf migrate`: all tables at once, as often as one likes."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pvf.commands import migrate
from pvf.stack import keyring, postgres
from pvforecast.errors import InvalidInput, NotReady
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack
OURS = {"promotions", "model_events", "prediction_log", "retrain_runs", "retrain_events"}


@pytest.fixture
def dsn(infra: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty schema, so that the session's own tables are left alone."""
    shared = infra.postgres_dsn.get_secret_value()
    with psycopg.connect(shared, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS migrated CASCADE")
        connection.execute("CREATE SCHEMA migrated")
    own = f"{shared}{'&' if '?' in shared else '?'}options=-csearch_path%3Dmigrated"
    monkeypatch.setenv("PVF_POSTGRES_DSN", own)
    return own


def tables(dsn: str) -> set[str]:
    """Without the months of the prediction log, which are tables too."""
    query = "SELECT relname FROM pg_class WHERE relnamespace = 'migrated'::regnamespace AND relkind IN ('r', 'p')"
    with psycopg.connect(dsn) as connection:
        return {name for (name,) in connection.execute(query + " AND NOT relispartition")}


def test_it_makes_every_table_and_leaves_them_alone_the_second_time(dsn: str) -> None:
    migrate.migrate()
    assert tables(dsn) == OURS
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO promotions (predecessor, model_version, bundle_uri, bundle_id, verdict, reason, actor)"
            " VALUES (0, 1, 's3://b', 'b', 'promote', 'first', 'test')"
        )
    migrate.migrate()
    assert tables(dsn) == OURS
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM promotions").fetchone() == (1,)


@pytest.mark.slow
def test_mlflow_gets_its_tables_in_its_own_database(dsn: str, infra: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow takes a database with other tables in it for an old one of its own.

    As the command: MLflow leaves its connections to the end of the process.
    """
    password = keyring.load(infra.home / "secrets").mlflow_password
    port = conninfo_to_dict(infra.postgres_dsn.get_secret_value())["port"]
    own = postgres.dsn(int(str(port)), "mlflow", password)
    monkeypatch.setenv(migrate.MLFLOW_DATABASE, own.replace("postgresql://", "postgresql+psycopg://", 1))
    for _ in range(2):
        done = subprocess.run([sys.executable, "-m", "pvf", "migrate"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.split()[-1:]) == (0, ["MLflow's"]), done.stderr
    with psycopg.connect(own) as mlflow:
        names = {name for (name,) in mlflow.execute("SELECT tablename FROM pg_tables")}
    assert names >= {"experiments", "registered_models", "alembic_version"}


def test_a_postgres_that_is_away_is_one_line() -> None:
    with pytest.raises(NotReady, match="Postgres does not answer"):
        asyncio.run(migrate._prediction_log("postgresql://pvf@127.0.0.1:1/pvf"))


def test_it_needs_the_address_of_postgres(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("PVF_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("PVF_POSTGRES_DSN", raising=False)
    with pytest.raises(InvalidInput, match="PVF_POSTGRES_DSN"):
        migrate.migrate()
