"""Settings: the environment first, then the running stack; secrets are for children's environments only."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from pvforecast import settings, wiring
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings, load, to_env


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No PVF_* variable but PVF_HOME, an empty folder."""
    for name in [name for name in os.environ if name.startswith("PVF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PVF_HOME", str(tmp_path))
    return tmp_path


def running(home: Path, **values: object) -> None:
    """A stack that wrote down these settings."""
    (home / "run").mkdir(exist_ok=True)
    (home / "run" / "stack.json").write_text(json.dumps({"pid": 1, "settings": values}))


def test_nothing_set_means_defaults_and_no_server(bare: Path) -> None:
    found = load()
    assert found.home == bare
    assert (found.s3_endpoint, found.mlflow_uri, found.gateway_url) == ("", "", "")
    assert found.horizon_hours == 48


def test_a_running_stack_is_found_without_exports(bare: Path) -> None:
    running(bare, s3_endpoint="http://127.0.0.1:8333", s3_secret_key="hidden", clock="snapshot")
    found = load()
    assert (found.s3_endpoint, found.clock) == ("http://127.0.0.1:8333", "snapshot")
    assert found.s3_secret_key.get_secret_value() == "hidden"


def test_the_environment_goes_before_the_stack_and_an_argument_before_both(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(bare, s3_endpoint="http://stack", s3_bucket="of-the-stack", mlflow_uri="http://stack")
    monkeypatch.setenv("PVF_S3_ENDPOINT", "http://environment")
    monkeypatch.setenv("PVF_MLFLOW_URI", "http://environment")
    found = load(mlflow_uri="http://argument")
    assert (found.s3_endpoint, found.s3_bucket, found.mlflow_uri) == (
        "http://environment",
        "of-the-stack",
        "http://argument",
    )


def test_the_stack_of_another_home_is_that_homes(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bare / "other"
    other.mkdir()
    running(bare, s3_bucket="here")
    running(other, s3_bucket="there")
    assert load().s3_bucket == "here"
    assert load(home=other).s3_bucket == "there"
    monkeypatch.setenv("PVF_HOME", str(other))
    assert load().s3_bucket == "there"


def test_secrets_are_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("PVF_POSTGRES_DSN", "postgresql://pvf:hunter2@localhost/pvf")
    found = load()
    for text in (repr(found), str(found), found.model_dump_json(), str(found.model_dump())):
        assert "hunter2" not in text


def test_a_childs_environment_gives_it_the_same_settings(monkeypatch: pytest.MonkeyPatch, bare: Path) -> None:
    changed = Settings(
        home=bare / "elsewhere", s3_endpoint="http://127.0.0.1:1", s3_secret_key=SecretStr("a b=c"),
        postgres_dsn=SecretStr("postgresql://x"), horizon_hours=24, clock="snapshot", park_access_file=bare / "access",
    )  # fmt: skip
    assert "PVF_PARK_ACCESS_FILE" not in to_env(load())  # what is not set is not exported
    for name, value in to_env(changed).items():
        monkeypatch.setenv(name, value)
    assert load() == changed
    assert all(name.startswith("PVF_") for name in to_env(changed))


@pytest.mark.parametrize(("name", "value"), [("PVF_HORIZON_HOURS", "many"), ("PVF_CLOCK", "sundial")])
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput) as caught:
        load()
    assert caught.value.field == name
    assert caught.value.hint


def test_a_broken_stack_file_is_named(bare: Path) -> None:
    (bare / "run").mkdir()
    (bare / "run" / "stack.json").write_text('{"pid": 1')
    with pytest.raises(InvalidInput, match=r"stack\.json"):
        load()


def test_what_is_needed_and_missing_is_named_with_the_remedy(bare: Path) -> None:
    for use in (wiring.lake, wiring.objects):
        with pytest.raises(InvalidInput, match=r"^PVF_S3_ENDPOINT: is not set .*pvf up"):
            use(load())
    assert wiring.lake(load(lake_uri=str(bare / "lake"))).uri == str(bare / "lake")  # a folder needs no server


def test_importing_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_CLOCK", "sundial")
    assert importlib.reload(settings) is settings
    with pytest.raises(InvalidInput, match="PVF_CLOCK"):
        settings.load()
