"""What the world is told about the champion: one CloudEvent for each promotion, sent once and in order.

The append-only table `promotions` is the outbox: a promotion and its event are the same row, so neither is without the
other. `model_events` beside it only says what has been delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from pvforecast.errors import NotReady
from pvforecast.registry import Promotion, Promotions

PROMOTED_TYPE = "io.pvforecast.model.promoted.v1"
ROLLED_BACK_TYPE = "io.pvforecast.model.rolled_back.v1"
SOURCE = "/pvforecast/registry"
_LOCK = 72_401_017  # advisory lock of the table's creation
_TURN = 72_401_018  # advisory lock of whoever sends
_DDL = """
CREATE TABLE IF NOT EXISTS model_events (
    promotion_id bigint PRIMARY KEY,
    outcome      text NOT NULL CHECK (outcome IN ('delivered', 'refused')),
    said         text NOT NULL DEFAULT '',
    at           timestamptz NOT NULL DEFAULT now()
)
"""


def event(promotion: Promotion) -> dict[str, Any]:
    """The CloudEvent of a promotion, structured mode; the same promotion has the same id."""
    facts = promotion.as_dict()
    at = facts.pop("promoted_at")
    number = facts.pop("id")
    return {
        "specversion": "1.0",
        "id": hashlib.sha256(f"{number}|{promotion.bundle_id}|{at}".encode()).hexdigest()[:32],
        "source": SOURCE,
        "type": ROLLED_BACK_TYPE if promotion.verdict == "rollback" else PROMOTED_TYPE,
        "subject": str(number),
        "time": at,
        "datacontenttype": "application/json",
        "data": {"promotion": number, **facts},
    }


class Outbox:
    """Which promotions the sink knows of, at one Postgres DSN."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._promotions = Promotions(dsn)

    def waiting(self) -> list[Promotion]:
        """The promotions that nobody was told of, oldest first."""
        with self._connection() as connection:
            settled = {row[0] for row in connection.execute("SELECT promotion_id FROM model_events").fetchall()}
        return [row for row in reversed(self._promotions.history(limit=10_000)) if row.id not in settled]

    def settle(self, promotion_id: int, outcome: str, said: str = "") -> None:
        """Note that the sink took the event, or that it refused it for good."""
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO model_events (promotion_id, outcome, said) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                (promotion_id, outcome, said[:500]),
            )

    def outcome(self, promotion_id: int) -> str:
        """`delivered`, `refused` or `waiting`."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT outcome FROM model_events WHERE promotion_id = %s", (promotion_id,)
            ).fetchone()
        return str(row[0]) if row else "waiting"

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """Whether this process may send now: one at a time keeps the order."""
        with self._connection() as connection:
            row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_TURN,)).fetchone()
            yield bool(row and row[0])

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(self._dsn, connect_timeout=5) as connection:
                if connection.execute("SELECT to_regclass('model_events')").fetchone() == (None,):
                    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                    connection.execute(_DDL)
                    connection.commit()
                yield connection
        except psycopg.OperationalError as error:
            raise NotReady(f"Postgres did not answer: {error}", hint="is it running? see its log") from error
