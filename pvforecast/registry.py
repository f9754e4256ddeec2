"""Which model serves: an append-only table of promotions in Postgres is the authority.

MLflow's alias and the deployed pointer in S3 are projections of its last row, `models/history.json` of its last rows;
`reconcile` repairs them. Each row names its predecessor, and a predecessor can be named only once: of two promotions at
the same time one wins and the other gets a clear error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import class_row

from pvforecast.errors import NoChampion, NotReady, PromotionConflict
from pvforecast.objects import ObjectStore

if TYPE_CHECKING:
    from pvforecast.tracking import Tracking  # MLflow takes seconds to import

DEPLOYED_KEY = "models/deployed.json"
HISTORY_KEY = "models/history.json"
_PROJECTED = 500  # promotions; one a week for ten years
_LOCK = 72_401_002  # advisory lock of this table's creation
_TURN = 72_401_003  # advisory lock of whoever registers, promotes or repairs
_WAIT_S = 120
# A holder whose machine is gone must not hold for the two hours that TCP waits by itself.
_KEEPALIVE = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
_DDL = """
CREATE TABLE IF NOT EXISTS promotions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    predecessor   bigint NOT NULL UNIQUE,
    model_version integer NOT NULL,
    bundle_uri    text NOT NULL,
    bundle_id     text NOT NULL,
    verdict       text NOT NULL CHECK (verdict IN ('promote', 'refresh', 'rollback')),
    reason        text NOT NULL,
    actor         text NOT NULL,
    mlflow_run_id text NOT NULL DEFAULT '',
    event_id      text NOT NULL DEFAULT '',
    promoted_at   timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE promotions ADD COLUMN IF NOT EXISTS as_of timestamptz;
CREATE OR REPLACE FUNCTION promotions_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'promotions are append-only: add a row, e.g. a rollback'; END $$;
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON promotions
    EXECUTE FUNCTION promotions_are_append_only();
"""
_VALUES = "predecessor, model_version, bundle_uri, bundle_id, verdict, reason, actor, mlflow_run_id, event_id, as_of"
_IS_CURRENT = "SELECT FROM pg_attribute WHERE attrelid = to_regclass('promotions') AND attname = 'as_of'"
_COLUMNS = f"id, {_VALUES}, promoted_at"


@dataclass(frozen=True)
class Promotion:
    """One row: which model became champion, after which, why and by whom.

    Attributes
    ----------
    promoted_at : by the clock of Postgres.
    as_of : what time it was for the run that promoted: in a replay years before `promoted_at`. None where that is not
        known, as in rows of earlier versions.
    """

    id: int
    predecessor: int
    model_version: int
    bundle_uri: str
    bundle_id: str
    verdict: str
    reason: str
    actor: str
    mlflow_run_id: str
    event_id: str
    promoted_at: datetime
    as_of: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        as_of = self.as_of.isoformat() if self.as_of else None
        return {**asdict(self), "promoted_at": self.promoted_at.isoformat(), "as_of": as_of}


class Promotions:
    """The table, at one Postgres DSN. Every call opens and closes its own connection."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def current(self) -> Promotion | None:
        """The champion, None before the first promotion."""
        history = self.history(limit=1)
        return history[0] if history else None

    def champion(self) -> Promotion:
        """As `current`; raises NoChampion when there is none."""
        current = self.current()
        if current is None:
            raise NoChampion(
                "no model has been promoted yet", hint="run the training pipeline: pvf pipeline run training"
            )
        return current

    def history(self, limit: int = 100) -> list[Promotion]:
        """Newest first."""
        with self._connection() as connection, connection.cursor(row_factory=class_row(Promotion)) as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM promotions ORDER BY id DESC LIMIT %s", (limit,))
            return cursor.fetchall()

    def of_run(self, mlflow_run_id: str, bundle_uri: str | None = None) -> Promotion | None:
        """The newest promotion of what a training run made; a rollback to it is none."""
        sql = f"SELECT {_COLUMNS} FROM promotions WHERE mlflow_run_id = %s AND verdict <> 'rollback' ORDER BY id DESC"
        with self._connection() as connection, connection.cursor(row_factory=class_row(Promotion)) as cursor:
            rows = cursor.execute(sql, (mlflow_run_id,)).fetchall()
        return next((row for row in rows if bundle_uri in (None, row.bundle_uri)), None)

    def get(self, promotion_id: int) -> Promotion | None:
        """The promotion with this id, None where there is none."""
        with self._connection() as connection, connection.cursor(row_factory=class_row(Promotion)) as cursor:
            return cursor.execute(f"SELECT {_COLUMNS} FROM promotions WHERE id = %s", (promotion_id,)).fetchone()

    def expect(self, predecessor: int) -> None:
        """Raises PromotionConflict unless `predecessor` is the last promotion (0: there is none)."""
        current = self.current()
        if (current.id if current else 0) != predecessor:
            raise _conflict(predecessor)

    @contextmanager
    def exclusive(self, wait_s: int = _WAIT_S) -> Iterator[None]:
        """One at a time, over all machines: for what is more than one step in more than one place.

        Ends with this process or its connection, whatever happens. It guards order, not truth: a promotion is one
        statement that holds by itself.

        Raises
        ------
        NotReady
            another one did not end within `wait_s`.
        """
        self.current()  # makes the table, in a transaction of its own: what is done in here must find it
        try:
            with self._connection() as connection:
                for name, value in _KEEPALIVE.items():
                    connection.execute(f"SET LOCAL {name} = {value}")
                connection.execute(f"SET LOCAL lock_timeout = '{wait_s}s'")
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TURN,))
                yield
        except psycopg.errors.LockNotAvailable as error:
            raise NotReady(
                f"another deployment did not end within {wait_s} s",
                hint="try again; who holds it: SELECT * FROM pg_locks WHERE locktype = 'advisory'",
            ) from error

    def promote(
        self,
        predecessor: int,
        *,
        model_version: int,
        bundle_uri: str,
        bundle_id: str,
        verdict: str,
        reason: str,
        actor: str,
        mlflow_run_id: str = "",
        event_id: str = "",
        as_of: datetime | None = None,
    ) -> Promotion:
        """Append a promotion that follows the one with id `predecessor` (0: the first of all).

        Raises
        ------
        PromotionConflict
            `predecessor` is not, or no longer, the last promotion.
        """
        values = (
            predecessor,
            model_version,
            bundle_uri,
            bundle_id,
            verdict,
            reason,
            actor,
            mlflow_run_id,
            event_id,
            as_of,
        )
        sql = (
            f"INSERT INTO promotions ({_VALUES}) SELECT {', '.join(['%s'] * len(values))}"
            f" WHERE %s = (SELECT coalesce(max(id), 0) FROM promotions) RETURNING {_COLUMNS}"
        )
        try:
            with self._connection() as connection, connection.cursor(row_factory=class_row(Promotion)) as cursor:
                row = cursor.execute(sql, (*values, predecessor)).fetchone()
        except psycopg.errors.UniqueViolation:
            row = None  # two saw the same last promotion, and the other was first
        if row is None:
            raise _conflict(predecessor)
        return row

    def before(self) -> tuple[Promotion, Promotion]:
        """The champion, and the promotion of the model that served before it, of those that were not rolled back.

        Raises
        ------
        NoChampion
            there is nothing to roll back to.
        """
        history = self.history(limit=10_000)
        before = _before(history)
        if before is None:
            raise NoChampion("there is no earlier model to roll back to", hint="see pvf model history")
        return history[0], before

    def rollback(self, *, actor: str, reason: str, as_of: datetime | None = None) -> Promotion:
        """Append a promotion of the model that served before the current one.

        Each further call goes one model further back; a model that was rolled back is not returned to. `as_of` is the
        time of the rollback, not that of the model.

        Raises
        ------
        NoChampion
            there is nothing to roll back to.
        """
        current, before = self.before()
        return self.promote(
            current.id,
            model_version=before.model_version,
            bundle_uri=before.bundle_uri,
            bundle_id=before.bundle_id,
            verdict="rollback",
            reason=reason,
            actor=actor,
            mlflow_run_id=before.mlflow_run_id,
            as_of=as_of,
        )

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(self._dsn, connect_timeout=5) as connection:
                if connection.execute(_IS_CURRENT).fetchone() is None:
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    connection.execute(_DDL)
                yield connection
        except psycopg.errors.LockNotAvailable:
            raise
        except psycopg.OperationalError as error:
            raise NotReady(f"Postgres did not answer: {error}", hint="is it running? see its log") from error


def _conflict(predecessor: int) -> PromotionConflict:
    return PromotionConflict(
        f"promotion {predecessor} already has a successor, or never was: another run promoted first",
        field="predecessor",
        hint="compare with the new champion and promote again if still better: pvf model list",
    )


def _before(history: list[Promotion]) -> Promotion | None:
    """The model that served before the current one, of those that were not rolled back; `history` is newest first."""
    served: list[Promotion] = []
    for row in reversed(history):
        if row.verdict == "rollback":
            while served and served[-1].bundle_id != row.bundle_id:
                served.pop()
        elif not served or served[-1].bundle_id != row.bundle_id:
            served.append(row)
    return served[-2] if len(served) > 1 else None


def reconcile(promotions: Promotions, tracking: Tracking, store: ObjectStore) -> list[str]:
    """Make MLflow's alias, history and deployed pointer agree with the promotions; returns what was repaired.

    One at a time (`Promotions.exclusive`): two that repair at once would write over each other. Repeats until no
    promotion came in between, so that the last of several at once leaves the last champion.
    """
    repaired: list[str] = []
    if promotions.current() is None:
        return repaired
    with promotions.exclusive():
        history = promotions.history(_PROJECTED)
        while history:
            repaired += _project(history, tracking, store)
            newest = promotions.history(_PROJECTED)
            if newest == history:
                break
            history = newest
    return repaired


def _project(history: list[Promotion], tracking: Tracking, store: ObjectStore) -> list[str]:
    """`history` is newest first. It is told before the pointer: who knows the champion knows since when it is that."""
    repaired, current = [], history[0]
    if _differs(store, HISTORY_KEY, served := [_served(row) for row in history]):
        store.put_json(HISTORY_KEY, served)
        repaired.append(f"history of promotions -> {len(served)}, the last of {current.bundle_id}")
    deployed = {name: served[0][name] for name in ("bundle_uri", "bundle_id", "model_version", "promotion_id")}
    if _differs(store, DEPLOYED_KEY, deployed):
        store.put_json(DEPLOYED_KEY, deployed)
        repaired.append(f"deployed pointer -> {current.bundle_id}")
    if tracking.champion_version() != current.model_version:
        tracking.set_champion(current.model_version)
        repaired.append(f"alias champion -> version {current.model_version}")
    return repaired


def _served(row: Promotion) -> dict[str, Any]:
    return {
        "promotion_id": row.id,
        "bundle_uri": row.bundle_uri,
        "bundle_id": row.bundle_id,
        "model_version": str(row.model_version),
        "promoted_at": row.promoted_at.astimezone(UTC).isoformat(),
        "as_of": row.as_of.astimezone(UTC).isoformat() if row.as_of else None,
    }


def _differs(store: ObjectStore, key: str, wanted: object) -> bool:
    try:
        return bool(store.get_json(key) != wanted)
    except (KeyError, ValueError):  # missing, or no JSON
        return True
