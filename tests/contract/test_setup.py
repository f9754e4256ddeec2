"""Set-up: repairs what was cut short, touches nothing that is whole, follows pip's settings, names what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.contract.tree import ROOT
from tools import indexes
from tools.environments import Environment, packages_in


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "main.txt").write_text("package==1 \\\n    --hash=sha256:00\n")
    return Environment(".venv", ("main.txt",), root=tmp_path)


def create(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)


def fill(python: Path, files: Sequence[Path]) -> None:
    with (python.parent.parent / "filled").open("a") as log:
        log.write(f"{files[0].read_text().split()[0]}\n")


def filled(environment: Environment) -> list[str]:
    return (environment.folder / "filled").read_text().split()


def test_a_finished_environment_is_ready(environment: Environment) -> None:
    assert not environment.is_ready()
    environment.install(create, fill)
    assert environment.is_ready()
    assert filled(environment) == ["package==1"]


def test_new_requirements_are_installed_into_it(environment: Environment) -> None:
    environment.install(create, fill)
    environment.files[0].write_text("package==2\n")
    assert not environment.is_ready()
    environment.install(create, fill)
    assert environment.is_ready()
    assert filled(environment) == ["package==1", "package==2"]


def test_an_interrupted_installation_starts_from_nothing(environment: Environment) -> None:
    def interrupted(python: Path, files: Sequence[Path]) -> None:
        fill(python, files)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment.install(create, interrupted)
    assert not environment.is_ready()
    environment.install(create, fill)
    assert environment.is_ready()
    assert filled(environment) == ["package==1"]


def test_a_half_made_environment_starts_from_nothing(environment: Environment) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "rubbish").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment.install(interrupted, fill)
    environment.install(create, fill)
    assert environment.is_ready()
    assert not (environment.folder / "rubbish").exists()


@pytest.mark.parametrize("lost", ["bin/python", ".setup.json"])
def test_a_damaged_environment_is_not_ready(environment: Environment, lost: str) -> None:
    environment.install(create, fill)
    (environment.folder / lost).unlink()
    assert not environment.is_ready()
    environment.install(create, fill)
    assert environment.is_ready()


def test_a_moved_tree_gets_a_new_environment(environment: Environment, tmp_path: Path) -> None:
    environment.install(create, fill)
    (tmp_path / "moved").mkdir()
    for name in (".venv", "requirements"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    moved = Environment(".venv", ("main.txt",), root=tmp_path / "moved")
    assert not moved.is_ready()
    assert moved.must_be_made_anew()


def test_more_than_asked_for_is_ready_too(environment: Environment) -> None:
    """`make run` leaves the packages of `make test` alone."""
    (environment.root / "requirements" / "test.txt").write_text("pytest==1\n")
    both = Environment(".venv", ("main.txt", "test.txt"), root=environment.root)
    both.install(create, fill)
    assert both.is_ready()
    assert environment.is_ready()


def test_this_tree_is_set_up_at_once_when_nothing_changed() -> None:
    command = [str(ROOT / "tools" / "python"), "-m", "tools.setup", "--test"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert time.monotonic() - started < 1.5  # 0.1 s on an idle machine


def test_the_tree_is_importable_from_anywhere(tmp_path: Path) -> None:
    for name in (".venv", ".venv-drift"):
        python = ROOT / name / "bin" / "python"
        subprocess.run([python, "-c", "import pvforecast, inference"], cwd=tmp_path, check=True, timeout=60)


def test_packages_are_counted_once(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("one==1 \\\n    --hash=sha256:00\n# comment\ntwo==2\n")
    assert packages_in([tmp_path / "a", tmp_path / "b"]) == 2


def test_a_python_that_does_not_fit_is_refused_with_what_to_install() -> None:
    done = subprocess.run(
        [ROOT / "tools" / "python", "-c", "pass"],
        env={**os.environ, "PYTHON": "/bin/false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "PYTHON=/bin/false" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr
    assert "dnf install python3.11" in done.stderr


def test_pip_settings_are_read_in_pip_s_own_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://file.example/simple\ncert = /global.pem\n[install]\ncert = /install.pem\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example/simple")
    pip = indexes.pip_settings(ROOT / ".venv-uv" / "bin" / "python")
    assert pip["index-url"] == "https://variable.example/simple"
    assert pip["cert"] == "/install.pem"


def test_uv_goes_where_pip_goes() -> None:
    pip = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://a.example\nhttps://b.example",
        "find-links": "/wheels /more",
        "cert": "/company.pem",
    }
    assert indexes.for_uv({}, pip, "/etc/bundle.crt") == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/company.pem",
    }


def test_what_is_set_for_uv_wins() -> None:
    environ = {"UV_INDEX_URL": "https://mine.example", "UV_SYSTEM_CERTS": "false"}
    pip = {"index-url": "https://mirror.example/simple", "cert": "/company.pem"}
    assert indexes.for_uv(environ, pip, "/etc/bundle.crt") == {}


def test_uv_trusts_the_machine_s_certificates() -> None:
    assert indexes.for_uv({}, {}, "/etc/bundle.crt") == {"UV_SYSTEM_CERTS": "true"}
    assert indexes.for_uv({"SSL_CERT_FILE": "/my.pem"}, {}, "/etc/bundle.crt") == {}
    assert indexes.for_uv({}, {}, None) == {}
