"""SeaweedFS and Postgres as the stack starts them."""

from __future__ import annotations

import psycopg
import pytest

from pvforecast.errors import NotReady
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack


def test_an_object_comes_back_as_it_was_put(infra_store: ObjectStore) -> None:
    infra_store.put("stack-test/object", b"\x00\x01" * 1000)
    assert infra_store.get("stack-test/object") == b"\x00\x01" * 1000
    assert list(infra_store.keys("stack-test/")) == ["stack-test/object"]


def test_s3_refuses_a_wrong_key(infra: Settings) -> None:
    stranger = ObjectStore(infra.s3_endpoint, infra.s3_bucket, "stranger", "wrong-secret")
    with pytest.raises(NotReady, match="InvalidAccessKeyId"):
        stranger.put("stack-test/forbidden", b"x")


def test_postgres_answers_with_utc_and_utf8(infra: Settings) -> None:
    with psycopg.connect(infra.postgres_dsn.get_secret_value()) as connection:
        row = connection.execute(
            "SELECT current_database(), current_user, current_setting('timezone'), current_setting('server_encoding')"
        ).fetchone()
    assert row == ("pvf", "pvf", "UTC", "UTF8")


def test_postgres_refuses_a_wrong_password(infra: Settings) -> None:
    dsn = infra.postgres_dsn.get_secret_value()
    user, rest = dsn.split("//")[1].split(":", 1)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://{user}:wrong@{rest.split('@')[1]}")
