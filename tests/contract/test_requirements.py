"""What is installed is pinned to its hash, from whatever index the user has chosen."""

from __future__ import annotations

import re

import pytest

from tests.contract.tree import ROOT

FOLDER = ROOT / "requirements"
LOCKED = sorted(path.stem for path in FOLDER.glob("*.txt") if not path.stem.endswith("overrides"))
PIN = re.compile(r"^[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^\s;]+( ; .+)?$")
HASH = re.compile(r"^--hash=sha256:[0-9a-f]{64}$")


def test_every_environment_is_locked() -> None:
    assert {"uv", "build", "main", "test", "drift", "app", "serve", "postgres", "sbom", "policy"} <= set(LOCKED)


@pytest.mark.parametrize("name", LOCKED)
def test_every_line_is_a_pin_with_hashes(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    for line in lines:
        pin, *hashes = re.split(r"\s+(?=--hash)", line.strip())
        assert PIN.match(pin), f"{name}.txt: {pin}"
        assert hashes, f"{name}.txt: {pin} has no hash"
        assert all(HASH.match(word.strip()) for word in hashes), f"{name}.txt: {pin}"


@pytest.mark.parametrize("name", LOCKED)
def test_lock_holds_what_was_asked_for(name: str) -> None:
    asked = {_name(line) for line in _lines(name, "in") if not line.startswith("-")}
    locked = {_name(line) for line in _lines(name, "txt") if "==" in line}
    assert asked <= locked, "run `make lock`"


def test_test_packages_agree_with_the_platform_s() -> None:
    main, test = _pins("main"), _pins("test")
    assert {name: test[name] for name in test.keys() & main.keys() if test[name] != main[name]} == {}


@pytest.mark.parametrize("name", ["app", "serve", "postgres"])
def test_an_image_holds_the_versions_the_platform_was_tested_with(name: str) -> None:
    main, image = _pins("main"), _pins(name)
    assert {package: pin for package, pin in image.items() if main.get(package, pin) != pin} == {}
    assert image.get("xgboost-cpu", main["xgboost"]) == main["xgboost"]


def test_no_gpu_library_is_installed() -> None:
    for name in LOCKED:
        assert not [package for package in _pins(name) if package.startswith("nvidia")]


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.iterdir()))
def test_no_file_names_an_index_or_a_url(file: str) -> None:
    text = (FOLDER / file).read_text()
    assert not re.search(r"index-url|find-links|trusted-host|https?://| @ |file:", text)


def _lines(name: str, suffix: str) -> list[str]:
    lines = (FOLDER / f"{name}.{suffix}").read_text().splitlines()
    return [line for line in lines if line[:1].isalnum()]


def _pins(name: str) -> dict[str, str]:
    return {_name(line): line.split("==")[1].split()[0] for line in _lines(name, "txt")}


def _name(line: str) -> str:
    return re.split(r"[\[=<>!~; ]", line, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("name", ["uv", "build", "main", "test", "drift", "app", "serve", "postgres", "sbom"])
def test_every_direct_dependency_is_explained(name: str) -> None:
    lines = (ROOT / "docs" / "dependencies.md").read_text().splitlines()
    explained = {
        _name(word) for line in lines if line.startswith("|") for word in line.split("|")[1].strip().split(", ")
    }
    assert {_name(line) for line in _lines(name, "in")} <= explained
