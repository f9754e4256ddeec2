"""Facts of parks: what is refused, what follows from the rest, and the history that the registry keeps."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from pvf import cli
from pvforecast import fleet
from pvforecast.errors import InvalidInput
from pvforecast.lake import Lake
from pvforecast.parks import Park, doubts, parse

ROOT = Path(__file__).resolve().parents[2]
FACTS: dict[str, Any] = {
    "id": "roof", "name": "Roof", "latitude": 52.1, "longitude": 5.1, "timezone": "Europe/Amsterdam",
    "ac_capacity_kw": 100.0, "surface_tilt": 20.0, "surface_azimuth": 180.0, "source": "import",
}  # fmt: skip
EAST = {"surface_tilt": 13, "surface_azimuth": 90, "dc_capacity_kw": 70}
WEST = {"surface_tilt": 12, "surface_azimuth": 270, "dc_capacity_kw": 50}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in FACTS.items() if name not in names}


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "../x"}, {"id": ""}, {"id": "-x"}, {"id": "a" * 64}, {"id": "x\n"}, {"id": "x."}, {"name": "a\nb"},
        {"name": ""}, {"latitude": 90.1}, {"latitude": float("nan")}, {"longitude": float("inf")},
        {"ac_capacity_kw": float("inf")}, {"ac_capacity_kw": 1e308}, {"ac_capacity_kw": -1}, {"surface_azimuth": 360},
        {"surface_tilt": 91}, {"timezone": "Mars/Olympus"}, {"dc_capacity_kw": 100_000}, {"elevation_m": 9_000},
        {"valid_from": "2024-01-01T00:00:00"}, {"valid_from": "0001-01-01T00:00:00Z"}, {"groups": ["a/b"]},
        {"arrays": [EAST, WEST], "dc_capacity_kw": 200}, {"arrays": [{**EAST, "surface_tilt": float("nan")}]},
        {"availability": [{"begin": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z"}]},
        {"availability": [{"begin": "2024-01-01T00:00:00Z"}, {"begin": "2024-02-01T00:00:00Z"}]},
        {"export_limit_kw": -1}, {"resolution": "PT5M"}, {"colour": "blue"}, {"source": "../x"},
    ],
    ids=lambda wrong: json.dumps(wrong)[:60],
)  # fmt: skip
def test_facts_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    Park.model_validate(FACTS)
    with pytest.raises(ValidationError):
        Park.model_validate({**FACTS, **wrong})


def test_what_follows_from_the_rest_need_not_be_given() -> None:
    park = parse({**without("timezone", "surface_tilt", "surface_azimuth"), "arrays": [WEST, EAST]})
    assert park.timezone == "Europe/Amsterdam"
    assert (park.surface_tilt, park.surface_azimuth, park.dc_capacity_kw) == (13, 90, 120)
    assert [plane.share for plane in park.site().planes] == pytest.approx([50 / 120, 70 / 120])
    assert Park.model_validate_json(park.model_dump_json()) == park


def test_slips_that_are_allowed_are_noted() -> None:
    assert doubts(parse(FACTS)) == []
    assert "counted from south" in doubts(parse({**FACTS, "surface_azimuth": 0}))[0]
    assert doubts(parse({**FACTS, "surface_azimuth": 0, "latitude": -33.9, "timezone": "Europe/Amsterdam",
                         "longitude": 18.4})) == []  # fmt: skip
    assert "swapped" in doubts(parse({**FACTS, "timezone": "America/Denver"}))[0]


def test_an_id_that_looks_like_another_is_refused(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    assert fleet.register(lake, parse(FACTS)) is True
    assert fleet.register(lake, parse(FACTS)) is False
    with pytest.raises(InvalidInput, match="differs from park 'roof'"):
        fleet.register(lake, parse({**FACTS, "id": "Roof"}))


def test_the_commands_of_the_documentation_run_and_keep_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "parks.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PVF_LAKE_URI", "./mylake")
    monkeypatch.setenv("PVF_HOME", str(tmp_path / "home"))
    found = re.search(r"`park.json`:\n\n```json\n(.*?)```", text, re.DOTALL)
    assert found
    Path("park.json").write_text(found[1])
    for words, said in re.findall(r"^\$ pvf (park (?:add|update|retire).*)\n(.*)\n", text, re.MULTILINE):
        ended = CliRunner().invoke(cli.app, words.split())
        assert (ended.exit_code, ended.output.strip()) == (0, said), ended.exception
    shown = json.loads(CliRunner().invoke(cli.app, ["park", "show", "rooftop-utrecht", "--json"]).output)
    assert [row["ac_capacity_kw"] for row in shown["history"]] == [1000, 1200, 1200, 1200, 1200]
    assert (shown["retired"], shown["groups"], shown["surface_tilt"]) == (True, ["south"], 15)
    assert json.loads(CliRunner().invoke(cli.app, ["park", "list", "--json"]).output) == []
    assert len(json.loads(CliRunner().invoke(cli.app, ["park", "list", "--all", "--json"]).output)) == 1
    table = CliRunner().invoke(cli.app, ["park", "show", "rooftop-utrecht"], env={"COLUMNS": "200"})
    assert "retired=True" in table.output


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ("update nobody --set name=x --correct", "park_id"),
        ("update roof --set name=x", "--valid-from"),
        ("update roof --set colour=x --correct", "--set"),
        ("update roof --set groups=[ --correct", "--set"),
        ("update roof --set name=x --valid-from 1999-01-01T00:00:00Z", "--valid-from"),
        ("update roof --set name=x --correct --valid-from 2020-01-01T00:00:00Z", "--valid-from"),
        ("update roof --set latitude=95 --correct", "latitude"),
        ("retire roof --valid-from soon", "--valid-from"),
        ("add latin.json", "latin.json"),
    ],
)
def test_what_a_park_command_can_not_do_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, field: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PVF_LAKE_URI", "./mylake")
    monkeypatch.setenv("PVF_HOME", str(tmp_path / "home"))
    fleet.register(Lake("./mylake"), parse(FACTS))
    Path("latin.json").write_bytes(json.dumps({**FACTS, "name": "Z\xfcrich"}, ensure_ascii=False).encode("latin-1"))
    ended = CliRunner().invoke(cli.app, ["park", *words.split()])
    assert isinstance(ended.exception, InvalidInput)
    assert str(ended.exception).startswith(f"{field}: ")
    assert "\n" not in str(ended.exception)
