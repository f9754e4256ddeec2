"""Deletes all that is stored about one park: rows and the files that held them, snapshots, logged forecasts, events.

What stays, and why, is said in docs/governance.md: models that learned from it among others, and backups until they
are pruned. Files of the lake go at once, so versions that models name can no longer be read afterwards.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import psycopg
from deltalake import DeltaTable

from inference.drift.store import TABLE as DRIFT_REFERENCE
from inference.prediction_log import store as prediction_log
from pvforecast import snapshot, wiring
from pvforecast.errors import NotReady
from pvforecast.lake import Lake, layout
from pvforecast.lake.tables import MAINTENANCE, TABLES, Table, features
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings

_EVENTS = {"retrain_events": "park_id", "drift_outbox": "subject"}  # tables of Postgres: the column that names the park


@dataclass(frozen=True)
class Erased:
    """How much went, by where it was."""

    park_id: str
    rows: dict[str, int]
    snapshots: int
    logged: int
    events: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @property
    def anything(self) -> bool:
        return bool(sum(self.rows.values()) or self.snapshots or self.logged or self.events)


def erase(settings: Settings, park_id: str) -> Erased:
    """Everything of the park; safe to be cut off and repeated.

    Snapshots first, so that it is no longer served; the registry's rows last among the lake's, so that a repetition
    still finds the park.
    """
    snapshots = _snapshots(wiring.objects(settings), park_id) if settings.s3_endpoint else 0
    lake = wiring.lake(settings)
    tables = [table for table in TABLES.values() if table not in (MAINTENANCE, TABLES["raw/parks"])]
    rows = {}
    for table in [*tables, features(()), DRIFT_REFERENCE, TABLES["raw/parks"]]:
        if lake.version(table) >= 0:
            rows[table.name] = _rows(lake, table, park_id)
            _remove_old_files(lake, table)
    dsn = settings.postgres_dsn.get_secret_value()
    logged, events = (prediction_log.forget(dsn, park_id), _events(dsn, park_id)) if dsn else (0, 0)
    return Erased(park_id, rows, snapshots, logged, events)


def _snapshots(store: ObjectStore, park_id: str) -> int:
    keys = list(snapshot.keys_of(store, park_id))
    for key in keys:
        store.remove(key)
    return len(keys)


def _rows(lake: Lake, table: Table, park_id: str) -> int:
    predicate = f"park_id = '{_quoted(park_id)}'"
    found = lake.query(table, f"SELECT count(*) AS n FROM t WHERE {predicate}")
    number = 0 if found is None else int(found["n"][0].as_py())
    if number == 0:
        return 0

    def delete(delta: DeltaTable) -> int:
        delta.delete(predicate, post_commithook_properties=layout.KEEP_LOG)
        return number

    return lake.commit(table, delete)


def _remove_old_files(lake: Lake, table: Table) -> None:
    """Files of earlier versions, whoever names them. Files that a writer is about to commit are none of those."""

    def vacuum(delta: DeltaTable, dry_run: bool) -> int:
        gone = delta.vacuum(
            0, dry_run=dry_run, enforce_retention_duration=False, post_commithook_properties=layout.KEEP_LOG
        )
        return len(gone)

    there = lake.delta(table)
    if there is not None and vacuum(there, True):
        lake.commit(table, lambda delta: vacuum(delta, False))


def _events(dsn: str, park_id: str) -> int:
    """Drift events of the park, kept by the trigger or waiting for the sink; the runs they started stay, as part of the
    record of promotions, and so do events of the fleet that name it among others.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            return sum(
                connection.execute(f"DELETE FROM {table} WHERE {column} = %s".encode(), (park_id,)).rowcount
                for table, column in _EVENTS.items()
                if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() != (None,)
            )
    except psycopg.OperationalError as error:
        raise NotReady(f"Postgres does not answer: {error}", hint="see PVF_POSTGRES_DSN") from error


def _quoted(text: str) -> str:
    return text.replace("'", "''")
