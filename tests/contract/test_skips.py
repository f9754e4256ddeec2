"""A test that did not run is said aloud, and in CI it is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.tree import ROOT

TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_fails_as_expected():
    raise ValueError

@pytest.mark.skipif({skip}, reason="needs Debian's mosquitto")
def test_with_a_broker():
    pass
"""


MODULE = """
import pytest

pytest.importorskip("no_such_module", reason="needs no_such_module")
"""


def run(folder: Path, ci: str, skip: bool, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(TESTS.format(skip=skip))
    pytest_here = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), str(folder)]
    return subprocess.run(
        [*pytest_here, "-q", "-p", "tests.skips", "-p", "xdist", "-p", "no:cacheprovider", *words],
        cwd=ROOT,
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # others take seconds to import
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_at_home_a_skip_is_listed_with_its_reason(tmp_path: Path) -> None:
    done = run(tmp_path, ci="", skip=True)
    assert done.returncode == 0, done.stdout
    assert "1 NOT TESTED" in done.stdout
    assert "needs Debian's mosquitto (1)" in done.stdout
    assert "test_it.py::test_with_a_broker" in done.stdout


def test_in_ci_a_skip_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, ci="true", skip=True)
    assert done.returncode == 1, done.stdout
    assert "CI=true: a skipped test is a failure" in done.stdout


@pytest.mark.parametrize("ci", ["", "true"])
def test_without_a_skip_nothing_is_said(tmp_path: Path, ci: str) -> None:
    done = run(tmp_path, ci=ci, skip=False)
    assert done.returncode == 0, done.stdout
    assert "NOT TESTED" not in done.stdout


@pytest.mark.parametrize("words", [(), ("--numprocesses", "2")])
def test_a_module_that_was_skipped_whole_is_said_once_by_however_many_processes(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "test_module.py").write_text(MODULE)
    done = run(tmp_path, "true", True, *words)
    assert done.returncode == 1, done.stdout
    assert "2 NOT TESTED" in done.stdout
    assert "needs no_such_module (1)" in done.stdout
