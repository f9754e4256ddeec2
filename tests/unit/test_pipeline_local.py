"""The local runner keeps its folder small, and refuses what cannot be before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import local
from pipelines.arguments import checked
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings

AS_OF = "2013-08-10T06:00:00+00:00"


def folders(root: Path, names: list[str]) -> None:
    for age, name in enumerate(reversed(names)):
        (root / name).mkdir(parents=True)
        (root / name / "training.yaml").write_text("x")
        os.utime(root / name, (1_000_000 - age, 1_000_000 - age))


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    names = [f"ingestion-2013080{day}T000000-9999999{day}" for day in range(1, 6)]
    folders(tmp_path, names)
    assert [path.name for path in local.tidy(tmp_path, 2)] == names[:3]
    assert sorted(path.name for path in tmp_path.iterdir()) == names[3:]
    assert local.tidy(tmp_path, 2) == []
    assert local.tidy(tmp_path / "none", 2) == []


def test_a_run_that_goes_on_is_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        folders(tmp_path, [f"training-20130801T000000-{child.pid}", "training-20130802T000000-99999991"])
        assert [path.name for path in local.tidy(tmp_path, 0)] == ["training-20130802T000000-99999991"]
        child.communicate(b"\n")


def test_the_recipe_of_the_settings_holds_where_none_is_given(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, recipe={"rounds": 40, "trees": 9})
    assert checked("training", {"as_of": AS_OF}, settings)["recipe"] == {"rounds": 40, "trees": 9}
    given = checked("training", {"as_of": AS_OF, "recipe": {"rounds": 80}}, settings)
    assert given["recipe"] == {"rounds": 80, "trees": 9}


def test_the_quorum_of_the_settings_holds_where_none_is_given(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, quorum=0.8)
    assert checked("training", {"as_of": AS_OF}, settings) == {"as_of": AS_OF, "quorum": 0.8}
    assert checked("training", {"as_of": AS_OF, "quorum": 0.2}, settings)["quorum"] == 0.2
    assert checked("maintenance", {"as_of": AS_OF, "since": ""}, settings) == {"as_of": AS_OF}


@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("nothing", {}, "NAME"),
        ("ingestion", {"as_of": "2013-08-10T06:00:00"}, "as_of"),
        ("ingestion", {}, "as_of"),
        ("ingestion", {"as_of": AS_OF, "since": AS_OF}, "since"),
        ("ingestion", {"as_of": AS_OF, "publish": "yes"}, "publish"),
        ("ingestion", {"as_of": AS_OF, "parks_per_shard": True}, "parks_per_shard"),
        ("ingestion", {"as_of": AS_OF, "parks_per_shard": -1}, "parks_per_shard"),
        ("backfill", {"as_of": AS_OF, "until": AS_OF}, "since"),
        ("backfill", {"as_of": AS_OF, "since": AS_OF, "until": "2013-08-01T00:00:00Z"}, "since"),
        ("backfill", {"as_of": AS_OF, "since": "2013-08-01T00:00:00Z", "until": "2013-08-11T00:00:00Z"}, "until"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_run(
    tmp_path: Path, name: str, given: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        local.run(name, given, Settings(home=tmp_path))
    assert caught.value.field == field
    assert caught.value.hint
    assert not (tmp_path / "runs").exists()
