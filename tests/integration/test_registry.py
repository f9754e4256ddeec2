"""The promotions table on a real Postgres: one champion, append-only, whoever promotes at once."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pvforecast.errors import NoChampion, NotReady, PromotionConflict
from pvforecast.registry import Promotion, Promotions
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack


@pytest.fixture
def dsn(infra: Settings) -> str:
    """A schema of its own for one test."""
    schema = f"test_{uuid.uuid4().hex[:8]}"
    whole = infra.postgres_dsn.get_secret_value()
    with psycopg.connect(whole) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return make_conninfo(whole, options=f"-c search_path={schema}")


@pytest.fixture
def promotions(dsn: str) -> Promotions:
    return Promotions(dsn)


def promote(
    promotions: Promotions, predecessor: int, model: str, version: int = 1, verdict: str = "promote"
) -> Promotion:
    return promotions.promote(
        predecessor, model_version=version, bundle_uri=f"s3://pvf/models/bundles/{model}", bundle_id=model,
        verdict=verdict, reason="test", actor="test", mlflow_run_id=f"run-{model}", event_id="event",
    )  # fmt: skip


def serve(promotions: Promotions, *models: str) -> Promotion:
    """Promote one model after another; the version is the place in the row, from 1."""
    for version, model in enumerate(models, 1):
        current = promotions.current()
        last = promote(promotions, current.id if current else 0, model, version)
    return last


def test_before_the_first_promotion_there_is_no_champion(promotions: Promotions) -> None:
    assert promotions.current() is None
    assert promotions.history() == []
    with pytest.raises(NoChampion, match=r"no model has been promoted yet .*pvf pipeline"):
        promotions.champion()
    with pytest.raises(NoChampion, match="no earlier model"):
        promotions.rollback(actor="test", reason="test")


def test_the_last_promotion_is_the_champion(promotions: Promotions) -> None:
    first = promote(promotions, 0, "a")
    assert (first.predecessor, first.bundle_id, first.event_id) == (0, "a", "event")
    assert first.promoted_at.tzinfo is not None
    second = promote(promotions, first.id, "b", 2, "refresh")
    assert promotions.champion() == promotions.current() == second
    assert [row.bundle_id for row in promotions.history()] == ["b", "a"]
    assert [row.bundle_id for row in promotions.history(limit=1)] == ["b"]
    assert second.as_dict()["promoted_at"] == second.promoted_at.isoformat()


def test_a_predecessor_that_was_followed_already_is_a_conflict(promotions: Promotions) -> None:
    first = serve(promotions, "a")
    second = promote(promotions, first.id, "b")
    for stale in (0, first.id):
        with pytest.raises(PromotionConflict, match="another run promoted first") as caught:
            promote(promotions, stale, "c")
        assert caught.value.field == "predecessor"
        assert "pvf model list" in str(caught.value.hint)
    assert promotions.current() == second
    assert promote(promotions, second.id, "c").bundle_id == "c"  # a conflict leaves nothing in the way


def test_a_predecessor_that_never_was_is_a_conflict(promotions: Promotions) -> None:
    first = serve(promotions, "a")
    with pytest.raises(PromotionConflict):
        promote(promotions, first.id + 1000, "b")
    assert promotions.current() == first


@pytest.mark.parametrize("table_exists", [True, False])
def test_of_promotions_at_once_exactly_one_wins(promotions: Promotions, dsn: str, table_exists: bool) -> None:
    predecessor = serve(promotions, "a").id if table_exists else 0
    won: list[str] = []
    lost: list[PromotionConflict] = []
    together = threading.Barrier(6)

    def run(model: str) -> None:
        own = Promotions(dsn)
        together.wait()
        try:
            won.append(promote(own, predecessor, model).bundle_id)
        except PromotionConflict as error:
            lost.append(error)

    threads = [threading.Thread(target=run, args=(f"model-{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 5)
    assert promotions.champion().bundle_id == won[0]
    assert len(promotions.history()) == 1 + table_exists


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE promotions SET bundle_id = 'other'",
        "DELETE FROM promotions",
        "TRUNCATE promotions",
        "UPDATE promotions SET reason = 'nicer' WHERE id = 1",
    ],
)
def test_history_cannot_be_changed(promotions: Promotions, dsn: str, sql: str) -> None:
    before = serve(promotions, "a", "b")
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        connection.execute(sql)
    assert promotions.current() == before
    assert len(promotions.history()) == 2


def test_a_verdict_that_promotes_nothing_is_refused(promotions: Promotions) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        promote(promotions, 0, "a", verdict="reject")
    assert promotions.current() is None


def test_a_promotion_knows_what_time_it_was_for_its_run(promotions: Promotions) -> None:
    """In a replay years before `promoted_at`. A rollback has the time of the rollback, not that of the model."""
    values = {"model_version": 1, "bundle_uri": "s3://pvf/a", "bundle_id": "a", "verdict": "promote"}
    first = promotions.promote(0, **values, reason="test", actor="test", as_of=datetime(2013, 6, 1, tzinfo=UTC))
    assert first.as_of == datetime(2013, 6, 1, tzinfo=UTC)
    assert first.as_dict()["as_of"] == "2013-06-01T00:00:00+00:00"
    assert promote(promotions, first.id, "b").as_of is None
    assert promotions.rollback(actor="", reason="", as_of=datetime(2013, 7, 1, tzinfo=UTC)).as_of.month == 7


def test_a_table_of_an_earlier_version_is_widened_with_its_rows(promotions: Promotions, dsn: str) -> None:
    before = serve(promotions, "a")
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE promotions DROP COLUMN as_of")
        connection.execute(
            "INSERT INTO promotions (predecessor, model_version, bundle_uri, bundle_id, verdict, reason, actor)"
            " VALUES (%s, 2, 's3://b', 'b', 'promote', 'as it was', 'test')",
            (before.id,),
        )
    assert [(row.bundle_id, row.as_of) for row in promotions.history()] == [("b", None), ("a", None)]
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        connection.execute("UPDATE promotions SET as_of = now()")


# --- rollback --------------------------------------------------------------------------------------------------------


def test_a_rollback_serves_the_model_before_and_says_so(promotions: Promotions) -> None:
    last = serve(promotions, "a", "b")
    back = promotions.rollback(actor="operator", reason="b is bad")
    assert (back.bundle_id, back.model_version, back.verdict, back.predecessor) == ("a", 1, "rollback", last.id)
    assert (back.actor, back.reason, back.mlflow_run_id) == ("operator", "b is bad", "run-a")
    assert promotions.champion() == back
    assert [row.bundle_id for row in promotions.history()] == ["a", "b", "a"]


def test_each_rollback_goes_one_model_further_back(promotions: Promotions) -> None:
    serve(promotions, "a", "b", "c")
    assert [promotions.rollback(actor="", reason="").bundle_id for _ in range(2)] == ["b", "a"]
    with pytest.raises(NoChampion, match="no earlier model"):
        promotions.rollback(actor="", reason="")
    assert promotions.champion().bundle_id == "a"


def test_a_model_that_was_rolled_back_is_not_returned_to(promotions: Promotions) -> None:
    serve(promotions, "a", "b", "bad")
    assert promotions.rollback(actor="", reason="").bundle_id == "b"
    serve(promotions, "worse")
    assert promotions.rollback(actor="", reason="").bundle_id == "b"
    assert promotions.rollback(actor="", reason="").bundle_id == "a"


def test_a_model_promoted_twice_in_a_row_is_one_step(promotions: Promotions) -> None:
    serve(promotions, "a", "b", "b")
    assert promotions.rollback(actor="", reason="").bundle_id == "a"


def test_of_rollbacks_at_once_one_wins_and_it_goes_back_one_step(promotions: Promotions) -> None:
    serve(promotions, "a", "b", "c")
    outcomes: list[str] = []

    def run() -> None:
        try:
            outcomes.append(promotions.rollback(actor="", reason="").bundle_id)
        except PromotionConflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Those that met conflict; one that came after the other went a step further: nobody was misled.
    assert sorted(outcomes) in (["b", "conflict"], ["a", "b"])
    assert promotions.champion().bundle_id == min(o for o in outcomes if o != "conflict")


def test_a_postgres_that_is_not_there_is_said_within_seconds() -> None:
    begin = time.monotonic()
    with pytest.raises(NotReady, match="Postgres did not answer"):
        Promotions("postgresql://pvf:secret-word@127.0.0.1:9/pvf").current()
    assert time.monotonic() - begin < 6


def test_the_password_is_in_no_message(infra: Settings) -> None:
    right = infra.postgres_dsn.get_secret_value()
    with pytest.raises(NotReady) as caught:
        Promotions(make_conninfo(right, password="wrong-secret-word")).current()
    assert "wrong-secret-word" not in str(caught.value)
