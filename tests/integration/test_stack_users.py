"""Root and ordinary users, homes of others, long paths: each holds for whoever runs this."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from pvf.stack import postgres
from pvf.stack.local import Stack
from pvforecast.errors import StackError
from tests.stack_fixtures import object_store

pytestmark = pytest.mark.stack

_ROOT = os.geteuid() == 0


@pytest.mark.parametrize("programs_too", [False, True])
def test_postgres_runs_when_its_user_cannot_enter_home(
    stack_home: Path, monkeypatch: pytest.MonkeyPatch, programs_too: bool
) -> None:
    shared, home = stack_home / "shared", stack_home / "private" / ".pvf"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    monkeypatch.setattr(postgres, "_SHARED", shared)
    # This tree itself may stand below /root.
    copied = programs_too or not postgres._reachable(Path(postgres.__file__).parent)
    if programs_too:  # an installation below /root
        monkeypatch.setattr(postgres, "_reachable", lambda path: False)
    for _ in range(2):
        with Stack(home, ["postgres"]) as stack, psycopg.connect(stack.settings.postgres_dsn.get_secret_value()) as db:
            assert db.execute("SELECT 1").fetchone() == (1,)
    assert len(list(shared.glob("*/data/PG_VERSION"))) == (1 if _ROOT else 0)
    assert len(list(shared.glob("*/programs"))) == (1 if _ROOT and copied else 0)
    assert (home / "postgres" / "data").exists() is not _ROOT


def test_postgres_never_runs_as_root(stack_home: Path) -> None:
    with Stack(stack_home, ["postgres"]) as stack:
        pid = stack.pids["postgres"]
        assert Path(f"/proc/{pid}").stat().st_uid != 0


def test_the_home_of_another_user_is_refused_untouched(stack_home: Path) -> None:
    home = stack_home / ".pvf"
    (home / "run").mkdir(parents=True)
    if _ROOT:
        os.chown(home / "run", 54321, 54321)
    else:
        home.chmod(0o500)
    with pytest.raises(StackError, match=r"PVF_HOME: .* another user's"):
        Stack(home, ["seaweedfs"]).__enter__()
    assert [path.name for path in home.iterdir()] == ["run"]
    home.chmod(0o700)


def test_a_home_with_a_very_long_path_works(stack_home: Path) -> None:
    home = stack_home / ("a-long-name-" * 8) / ("and-another-" * 8) / ".pvf"
    with Stack(home, ["seaweedfs", "postgres"]) as stack:
        object_store(stack.settings).put("x", b"1")
        sockets = stack.socket_dir
        assert len(str(sockets)) <= 60
        assert sockets.stat().st_mode & 0o077 == 0
    assert not sockets.exists()


def test_the_file_for_other_terminals_is_private_and_gone_after_the_stop(stack_home: Path) -> None:
    file = stack_home / "run" / "stack.json"
    with Stack(stack_home, ["seaweedfs"]):
        assert file.stat().st_mode & 0o777 == 0o600
    assert not file.exists()
