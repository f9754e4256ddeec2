"""The tree works on any machine, and its documents tell the truth about its commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.contract.tree import ROOT, texts

# Written apart, so that this file does not find itself.
HOSTS = ["pypi" + ".org", "python" + "hosted.org", "deb.debian" + ".org", "registry." + "npmjs.org"]
PLACES = ["/wo" + "rk/", "/tmp" + "/w/", "../" + "shared", "/root" + "/", "/home" + "/user"]

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def test_no_file_names_a_registry_or_a_place_of_one_machine() -> None:
    found = [f"{path}: {word}" for path, text in texts() for word in (*HOSTS, *PLACES) if word in text]
    assert found == []


def test_the_tree_was_searched() -> None:
    paths = {path for path, _ in texts()}
    assert {"Makefile", "pyproject.toml", "tests/contract/test_tree.py", ".ci/run"} <= paths
    assert not any(path.startswith((".venv", ".git/")) for path in paths)


def test_make_help_lists_every_target_and_no_more_than_a_dozen() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in listed.splitlines()} == TARGETS
    assert {"help", "run", "test", "bench"} <= TARGETS
    assert len(TARGETS) <= 12


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_make_target_in_a_document_exists(document: Path) -> None:
    code = "\n".join(CODE.findall(document.read_text()))
    named = set(re.findall(r"(?:^|[`$;&|]|\btime)\s*make ([a-z][a-z-]*)", code, re.MULTILINE))
    assert named <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_in_a_document_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
