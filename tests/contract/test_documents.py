"""Tables and examples in docs/ are as the code has them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipelines.compile import PIPELINES, built_in
from pvforecast.features import DEFAULT_SPEC
from pvforecast.lake import tables
from pvforecast.model.recipe import Recipe
from pvforecast.parks import Park
from tests.commands import accepted, unknown
from tests.contract.tree import ROOT


def test_every_feature_stands_in_the_table_in_its_order() -> None:
    named = [name for first in _first_column("features.md", "feature") for name in re.findall(r"`([^`]+)`", first)]
    assert named == list(DEFAULT_SPEC.names)


def test_the_example_of_a_park_is_one() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", _read("parks.md"), re.S)
    park = Park.model_validate_json(example)
    assert f"registered {park.id}" in _read("parks.md")


def test_every_field_of_a_park_is_explained() -> None:
    assert sorted(cell.strip("`") for cell in _first_column("parks.md", "field")) == sorted(Park.model_fields)


def test_every_parameter_of_a_pipeline_is_explained() -> None:
    explained = {name for cell in _first_column("pipelines.md", "parameter") for name in re.findall(r"`(\w+)`", cell)}
    parameters = {name for made in PIPELINES for name in built_in(made).component_spec.inputs}
    assert explained == parameters


def test_every_component_is_linked() -> None:
    linked = set(re.findall(r"\(\.\./components/(\w+)/README\.md\)", _read("pipelines.md")))
    assert linked == {path.parent.name for path in (ROOT / "components").glob("*/component.py")}


def test_every_table_of_the_lake_is_explained() -> None:
    explained = {name for cell in _first_column("data.md", "table") for name in re.findall(r"`([\w/]+)`", cell)}
    stored = {table.name for table in vars(tables).values() if isinstance(table, tables.Table)} | {"features"}
    assert explained == stored


@pytest.mark.parametrize(
    "value",
    [
        f"| rounds, depth, eta | {Recipe.rounds}, {Recipe.max_depth}, {Recipe.eta} |",
        f"{Recipe.min_child_weight:g}, {Recipe.subsample}, {Recipe.colsample_bytree}, {Recipe.max_bin} |",
        ", ".join(map(str, Recipe.quantiles)),
    ],
)
def test_the_recipe_is_the_one_in_use(value: str) -> None:
    assert value in _read("model.md")


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(number) for number in re.findall(r"^\*\*(\d+)\. ", _read("decisions.md"), re.M)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    "name", ["data", "decisions", "features", "kubernetes", "model", "parks", "pipelines", "threat-model"]
)
def test_every_anchor_leads_to_a_heading(name: str) -> None:
    links = re.findall(r"\]\((\w*\.?\w*)#([\w-]+)\)", _read(f"{name}.md"))
    missing = [f"{file}#{anchor}" for file, anchor in links if anchor not in _anchors(file or f"{name}.md")]
    assert missing == []


def _files() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _commands() -> list[str]:
    """Lines of code blocks that begin with `pvf`, without their explanations and optional parts."""
    blocks = [block for file in _files() for block in re.findall(r"^```\w*\n(.*?)^```", file.read_text(), re.S | re.M)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = {match[1] for line in lines if (match := re.match(r"(?:\$ )?(?:\.venv/bin/)?pvf (.*)", line))}
    ends = re.compile(r"\s{3,}(?!-)| # | \| | &(?=\s|$)")
    return sorted({re.sub(r" \[[^]]*\](\.\.\.)?", "", ends.split(words)[0]) for words in found})


@pytest.mark.parametrize("words", _commands())
def test_every_command_is_one_of_the_program(words: str) -> None:
    assert accepted(shlex.split(words))


def test_every_command_in_a_sentence_is_there_with_its_options() -> None:
    found = {(file.name, words) for file in _files() for words in re.findall(r"`pvf ([a-z][^`|]*)`", file.read_text())}
    assert len(found) > 50
    missing = {(file, words): unknown(words.split()) for file, words in found}
    assert {where: words for where, words in missing.items() if words} == {}


def _read(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def _first_column(name: str, title: str) -> list[str]:
    """Cells of the first column of the table whose first heading is `title`."""
    (body,) = re.findall(rf"^\| {title} \|.*\n\|[-|]+\n((?:\|.*\n)+)", _read(name), re.M)
    return [row.split("|")[1].strip() for row in body.splitlines()]


def _anchors(name: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _read(name), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
