"""The trigger's memory in Postgres: every event, every run, and which event led to which run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from inference.retrain import drifted
from inference.retrain.cloudevent import parks_of
from inference.retrain.policy import Decision, Past, Policy, Waiting, decide
from pvforecast.errors import InvalidInput, NotReady

Row = dict[str, Any]

_LOCK = 72_401_013  # advisory lock: creation of the tables, and the decision to start a run
_DDL = """
CREATE TABLE IF NOT EXISTS retrain_runs (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status          text NOT NULL CHECK (status IN ('active', 'succeeded', 'failed', 'lost')),
    as_of           timestamptz NOT NULL,
    reason          text NOT NULL,
    event_id        text NOT NULL,
    host            text NOT NULL,
    pid             integer,
    pid_created     double precision,
    heartbeat_at    timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    exit_code       integer,
    pipeline_run_id text,
    verdict         text,
    model_version   text,
    mlflow_run_id   text,
    error           text
);
CREATE UNIQUE INDEX IF NOT EXISTS retrain_one_active_run ON retrain_runs (status) WHERE status = 'active';
CREATE TABLE IF NOT EXISTS retrain_events (
    id          text PRIMARY KEY,
    park_id     text NOT NULL,
    event_time  timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    status      text NOT NULL CHECK (status IN ('waiting', 'attached', 'ignored')),
    reason      text NOT NULL DEFAULT '',
    run_id      bigint REFERENCES retrain_runs,
    event       jsonb NOT NULL
);
ALTER TABLE retrain_events ADD COLUMN IF NOT EXISTS type text NOT NULL DEFAULT 'io.pvforecast.drift.detected.v1';
ALTER TABLE retrain_events ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0;
ALTER TABLE retrain_events ADD COLUMN IF NOT EXISTS not_before timestamptz;
ALTER TABLE retrain_events DROP CONSTRAINT IF EXISTS retrain_events_status_check;
ALTER TABLE retrain_events ADD CONSTRAINT retrain_events_status_check
    CHECK (status IN ('waiting', 'attached', 'ignored', 'noted', 'escalated'));
ALTER TABLE retrain_runs ADD COLUMN IF NOT EXISTS outcome text;
ALTER TABLE retrain_events ADD COLUMN IF NOT EXISTS lost_run bigint REFERENCES retrain_runs;
CREATE INDEX IF NOT EXISTS retrain_events_of_run ON retrain_events (run_id);
"""
_CLEARED = "io.pvforecast.drift.cleared.v1"
_PARKS: LiteralString = (
    "LATERAL jsonb_array_elements_text(coalesce(e.event->'data'->'parks', jsonb_build_array(e.park_id))) AS park"
)


class Store:
    """The two tables at one DSN, behind a small pool. Every method raises NotReady when Postgres is away."""

    def __init__(self, dsn: str, *, timeout_s: float = 5.0) -> None:
        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            dsn,
            min_size=1,
            max_size=4,
            timeout=timeout_s,
            open=False,
            kwargs={"row_factory": dict_row, "connect_timeout": 5},
            check=ConnectionPool.check_connection,
        )

    def open(self) -> None:
        """Connect and create the tables where they are missing."""
        self._pool.open()
        with self._transaction(locked=True) as connection:
            connection.execute(_DDL)

    def close(self) -> None:
        self._pool.close()

    def add_event(self, event: Mapping[str, Any], time: datetime, status: str, reason: str) -> bool:
        """Keep an event; committed when this returns. False: its id is known already."""
        with self._transaction() as connection:
            done = connection.execute(
                "INSERT INTO retrain_events (id, park_id, event_time, status, reason, event, type)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING",
                (event["id"], event["subject"], time, status, reason, json.dumps(event), event["type"]),
            )
            if done.rowcount == 1 and event["type"] == _CLEARED:
                connection.execute(
                    "UPDATE retrain_runs r SET outcome = 'cleared' WHERE status = 'succeeded' AND as_of <= %s"
                    " AND EXISTS (SELECT 1 FROM retrain_events e WHERE e.run_id = r.id AND"
                    " (e.park_id = %s OR e.event->'data'->'parks' ? %s))",
                    (time, event["subject"], event["subject"]),
                )
            return done.rowcount == 1

    def advance(self, host: str, policy: Policy, now: datetime) -> Row | None:
        """Write down what `policy` says of the waiting events; returns the run to start, which is active from here on.

        One transaction: whoever is killed in it has decided nothing.
        """
        with self._transaction(locked=True) as connection:
            waiting = connection.execute(
                "SELECT id, park_id, event_time, greatest(received_at, not_before) AS since, attempts, event, lost_run"
                " FROM retrain_events WHERE status = 'waiting' ORDER BY event_time, id"
            ).fetchall()
            if not waiting:
                return None
            events = [
                Waiting(r["id"], frozenset(parks_of(r["event"])), r["event_time"], r["since"], r["attempts"])
                for r in waiting
            ]
            decision = decide(events, _past(connection), now, policy)
            _note(connection, decision)
            if not decision.claim:
                return None
            claimed = _repeated([row for row in waiting if row["id"] in set(decision.claim)])
            run = connection.execute(
                "INSERT INTO retrain_runs (status, as_of, reason, event_id, host) VALUES ('active', %s, %s, %s, %s)"
                " RETURNING *",
                (*_arguments(connection, claimed), host),
            ).fetchone()
            assert run is not None
            connection.execute(
                "UPDATE retrain_events SET status = 'attached', run_id = %s, lost_run = NULL WHERE id = ANY(%s)",
                (run["id"], [row["id"] for row in claimed]),
            )
            return run

    def started(self, run_id: int, pid: int, pid_created: float) -> None:
        """Note which process does the run: with its start time, so that a reused pid is not taken for it."""
        self._execute("UPDATE retrain_runs SET pid = %s, pid_created = %s WHERE id = %s", (pid, pid_created, run_id))

    def beat(self, run_id: int) -> None:
        """Say that the run's keeper is alive."""
        self._execute("UPDATE retrain_runs SET heartbeat_at = now() WHERE id = %s", (run_id,))

    def finished(
        self,
        run_id: int,
        status: str,
        *,
        policy: Policy,
        exit_code: int | None = None,
        verdict: Row | None = None,
        error: str | None = None,
    ) -> None:
        """Close a run. Events of a lost run wait again at once, those of a failed one after a pause."""
        found = [_text((verdict or {}).get(name)) for name in ("run_id", "verdict", "model_version", "mlflow_run_id")]
        with self._transaction() as connection:
            closed = connection.execute(
                "UPDATE retrain_runs SET status = %s, finished_at = now(), exit_code = %s, pipeline_run_id = %s,"
                " verdict = %s, model_version = %s, mlflow_run_id = %s, error = %s WHERE id = %s AND status = 'active'",
                (status, exit_code, *found, error, run_id),
            )
            if closed.rowcount == 0 or status == "succeeded":
                return
            failed = status == "failed"
            rows = connection.execute("SELECT id, attempts FROM retrain_events WHERE run_id = %s", (run_id,)).fetchall()
            for row in rows:
                attempts = row["attempts"] + failed
                pause = policy.pause(attempts) if failed else timedelta(0)
                connection.execute(
                    "UPDATE retrain_events SET status = 'waiting', reason = %s, attempts = %s, not_before = now() + %s,"
                    " run_id = NULL, lost_run = %s WHERE id = %s",
                    (
                        f"run {run_id} {'failed' if failed else 'was lost'}",
                        attempts,
                        pause,
                        None if failed else run_id,
                        row["id"],
                    ),
                )

    def active(self) -> Row | None:
        """The run under way, with `silent_s`, seconds since its last heartbeat."""
        rows = self._fetch(
            "SELECT *, extract(epoch FROM now() - heartbeat_at)::float8 AS silent_s"
            " FROM retrain_runs WHERE status = 'active'"
        )
        return rows[0] if rows else None

    def runs(self, limit: int = 100) -> list[Row]:
        """Newest first, each with the ids of its events."""
        return self._fetch(
            "SELECT r.*, coalesce((SELECT json_agg(e.id ORDER BY e.event_time, e.id) FROM retrain_events e"
            " WHERE e.run_id = r.id), '[]') AS event_ids FROM retrain_runs r ORDER BY r.id DESC LIMIT %s",
            (limit,),
        )

    def event(self, event_id: str) -> Row | None:
        rows = self._fetch("SELECT * FROM retrain_events WHERE id = %s", (event_id,))
        return rows[0] if rows else None

    def of_park(self, park_id: str, since: datetime) -> list[Row]:
        """Events about a park at or after `since`, oldest first; those of a fleet that name it too."""
        return self._fetch(
            "SELECT * FROM retrain_events WHERE event_time >= %s"
            " AND (park_id = %s OR event->'data'->'parks' ? %s) ORDER BY event_time, id",
            (since, park_id, park_id),
        )

    def run(self, run_id: int) -> Row | None:
        rows = self._fetch("SELECT * FROM retrain_runs WHERE id = %s", (run_id,))
        return rows[0] if rows else None

    def last_ended(self) -> Row | None:
        """The run that ended last."""
        rows = self._fetch("SELECT * FROM retrain_runs WHERE finished_at IS NOT NULL ORDER BY finished_at DESC LIMIT 1")
        return rows[0] if rows else None

    def drifted(self) -> list[Row]:
        """The newest drift event of each park where it was not cleared since, the latest first: as `drifted.SQL`."""
        return self._fetch(drifted.SQL)

    def counts(self) -> list[Row]:
        """How many events and runs there are of each status: columns kind, status, n."""
        return self._fetch(
            "SELECT 'event' AS kind, status, count(*) AS n FROM retrain_events GROUP BY status"
            " UNION ALL SELECT 'run', status, count(*) FROM retrain_runs GROUP BY status"
        )

    def _execute(self, sql: LiteralString, values: tuple[Any, ...]) -> None:
        with self._transaction() as connection:
            connection.execute(sql, values)

    def _fetch(self, sql: LiteralString, values: tuple[Any, ...] = ()) -> list[Row]:
        with self._transaction() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self, *, locked: bool = False) -> Iterator[psycopg.Connection[Row]]:
        try:
            with self._pool.connection() as connection:
                if locked:
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                yield connection
        except psycopg.DataError as error:
            raise InvalidInput(f"Postgres cannot store it: {error}", hint="no NUL characters") from error
        except (psycopg.OperationalError, PoolTimeout) as error:
            raise NotReady(
                f"Postgres did not answer: {error}", field="PVF_POSTGRES_DSN", hint="is it running?"
            ) from error


def _past(connection: psycopg.Connection[Row]) -> list[Past]:
    """The runs that are active or went well, newest first."""
    runs = connection.execute(
        "SELECT r.id, r.as_of, r.status, r.verdict, coalesce(array_agg(park) FILTER (WHERE park IS NOT NULL),"
        f" '{{}}') AS parks FROM retrain_runs r LEFT JOIN (retrain_events e CROSS JOIN {_PARKS}) ON e.run_id = r.id"
        " WHERE r.status IN ('active', 'succeeded') GROUP BY r.id ORDER BY r.id DESC LIMIT 1000"
    ).fetchall()
    cleared = {
        row["park_id"]: row["at"]
        for row in connection.execute(
            "SELECT park_id, max(event_time) AS at FROM retrain_events WHERE type = %s GROUP BY park_id", (_CLEARED,)
        )
    }
    return [
        Past(r["id"], r["as_of"], r["status"] == "active", r["verdict"] or "", frozenset(r["parks"]), cleared)
        for r in runs
    ]


def _note(connection: psycopg.Connection[Row], decision: Decision) -> None:
    for event_id, run_id in decision.attach.items():
        connection.execute(
            "UPDATE retrain_events SET status = 'attached', run_id = %s,"
            " reason = 'within the cool-down of this run' WHERE id = %s",
            (run_id, event_id),
        )
    for event_id, why in decision.escalate.items():
        connection.execute("UPDATE retrain_events SET status = 'escalated', reason = %s WHERE id = %s", (why, event_id))
    if decision.unhelped:
        connection.execute(
            "UPDATE retrain_runs SET outcome = 'not_cleared' WHERE id = ANY(%s)", (list(decision.unhelped),)
        )


def _repeated(claimed: list[Row]) -> list[Row]:
    """Of the events to claim, those of a lost run alone: it is run again as it was, and what came since follows it."""
    lost = [row for row in claimed if row["lost_run"] is not None]
    return [row for row in lost if row["lost_run"] == lost[0]["lost_run"]] if lost else claimed


def _arguments(connection: psycopg.Connection[Row], claimed: list[Row]) -> tuple[datetime, str, str]:
    """As-of, reason and event id of the run of these events.

    A lost run keeps its own: what it submitted may still go on elsewhere, and the same arguments find it there.
    """
    if claimed[0]["lost_run"] is not None:
        lost = connection.execute("SELECT * FROM retrain_runs WHERE id = %s", (claimed[0]["lost_run"],)).fetchone()
        assert lost is not None
        return lost["as_of"], lost["reason"], lost["event_id"]
    return claimed[-1]["event_time"], _reason([row["event"] for row in claimed]), claimed[0]["id"]


def _reason(events: list[Row]) -> str:
    """What the training run is told: the first event in words, and how many more."""
    data = events[0]["data"]
    alarms = ", ".join(sorted({alarm["detector"] for alarm in data["alarms"]}))
    more = f" and {len(events) - 1} more" if len(events) > 1 else ""
    return f"drift of {data['park_id']} on {data['day']}: {data['cause']['likely']} ({alarms}){more}"


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
