"""`pvf migrate`: the tables in Postgres as this version wants them."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

from pvforecast.errors import InvalidInput, NotReady
from pvforecast.settings import load

MLFLOW_DATABASE = "MLFLOW_BACKEND_STORE_URI"  # MLflow's own name for it


def migrate() -> None:
    """Make or change the tables of promotions, prediction log and retrain trigger, and MLflow's where its URI is set.

    What is as it should be is left alone, so it may run as often as you like. Services make their tables at their
    start too; MLflow's server refuses to start on an older schema.
    """
    from pvforecast.wiring import needed

    dsn = needed(load().postgres_dsn.get_secret_value(), "PVF_POSTGRES_DSN")
    _promotions(dsn)
    _announcements(dsn)
    _retrain(dsn)
    asyncio.run(_prediction_log(dsn))
    made = ["promotions", "model_events", "retrain_runs", "retrain_events", "prediction_log"]
    if database := os.environ.get(MLFLOW_DATABASE):
        _mlflow(database)
        made.append("MLflow's")
    print(f"up to date: {', '.join(made)}")


def _promotions(dsn: str) -> None:
    from pvforecast.registry import Promotions

    Promotions(dsn).current()  # reading makes the table


def _announcements(dsn: str) -> None:
    from pvforecast.announcing import Outbox

    Outbox(dsn).waiting()  # the same


def _retrain(dsn: str) -> None:
    from inference.retrain.store import Store

    store = Store(dsn)
    try:
        store.open()
    finally:
        store.close()


async def _prediction_log(dsn: str) -> None:
    import psycopg

    from inference.prediction_log import partitions

    try:
        async with await psycopg.AsyncConnection.connect(dsn, connect_timeout=5) as connection:
            await partitions.prepare(connection, datetime.now(UTC))
    except psycopg.OperationalError as error:
        raise NotReady(f"Postgres does not answer: {error}", hint="see PVF_POSTGRES_DSN") from error


def _mlflow(database: str) -> None:
    """In this process: on a command line the password would be there for all to see."""
    from mlflow.db import upgrade
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    assert upgrade.callback is not None
    try:
        upgrade.callback(database)
    except (MlflowException, SQLAlchemyError) as error:
        first = str(error).splitlines()[0]
        raise InvalidInput(
            first, field=MLFLOW_DATABASE, hint="e.g. postgresql+psycopg://mlflow:…@host/mlflow"
        ) from error
