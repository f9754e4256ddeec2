"""Events that wait for the sink: the table ``drift_outbox`` in Postgres. Sent in order per park, kept until taken."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import psycopg

from inference.drift import events
from pvforecast.errors import NotReady

log = logging.getLogger(__name__)

_LOCK, _TURN = 72_401_031, 72_401_032  # advisory locks: of the table's creation, and of whoever sends
_DDL = """
CREATE TABLE IF NOT EXISTS drift_outbox (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text NOT NULL UNIQUE,
    subject  text NOT NULL,
    event    jsonb NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    outcome  text CHECK (outcome IN ('delivered', 'refused')),
    said     text NOT NULL DEFAULT '',
    sent_at  timestamptz
)
"""


class Outbox:
    """At one Postgres DSN."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def put(self, made: Sequence[dict[str, Any]]) -> int:
        """Keep events; one that is there already stays as it is. Returns how many are new."""
        new = 0
        with self._connected() as connection:
            for event in made:
                new += connection.execute(
                    "INSERT INTO drift_outbox (event_id, subject, event) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                    (event["id"], event["subject"], json.dumps(event)),
                ).rowcount
        return new

    def flush(self, sink: str) -> dict[str, str]:
        """Send what waits, oldest first; event id -> delivered, refused or waiting.

        A park whose event could not be sent keeps its later ones back, and so does a sink that is away altogether: the
        first of a park that fails ends the park's turn. One process sends at a time.
        """
        outcome: dict[str, str] = {}
        held_up: set[str] = set()
        with self._connected() as turn:
            if not turn.execute("SELECT pg_try_advisory_lock(%s)", (_TURN,)).fetchone()[0]:  # type: ignore[index]
                return outcome
            waiting = turn.execute(
                "SELECT number, event_id, subject, event FROM drift_outbox WHERE outcome IS NULL ORDER BY number"
            ).fetchall()
            turn.commit()
            for number, event_id, subject, event in waiting:
                if subject in held_up:
                    outcome[event_id] = "waiting"
                    continue
                outcome[event_id], said = _sent(sink, event)
                if outcome[event_id] == "waiting":
                    held_up.add(subject)
                turn.execute(
                    "UPDATE drift_outbox SET attempts = attempts + 1, said = %s, outcome = %s,"
                    " sent_at = CASE WHEN %s = 'waiting' THEN NULL ELSE now() END WHERE number = %s",
                    (said[:500], None if outcome[event_id] == "waiting" else outcome[event_id], outcome[event_id],
                     number),
                )  # fmt: skip
                turn.commit()
                if outcome[event_id] == "waiting" and len(held_up) > 2:
                    break  # the sink is away; the others wait for the next check
        return outcome

    def _connected(self) -> psycopg.Connection[Any]:
        try:
            connection = psycopg.connect(self._dsn, connect_timeout=5)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute(_DDL)
            connection.commit()
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            raise NotReady(f"Postgres did not take the drift events: {said}", hint="is it running?") from error
        return connection


def _sent(sink: str, event: dict[str, Any]) -> tuple[str, str]:
    try:
        return "delivered", f"HTTP {events.post(sink, event)}"
    except events.DeliveryError as error:
        return "refused", str(error)
    except NotReady as error:
        return "waiting", str(error)
