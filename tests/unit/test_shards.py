"""The plan names what is wrong before anything runs; a park that fails is a status, and the others go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pvforecast import ingestion, shards
from pvforecast.errors import InvalidInput, NotEnoughData, UnknownPark
from pvforecast.lake import Lake
from pvforecast.model.recipe import Recipe
from pvforecast.objects import ObjectStore
from pvforecast.sources.pvdaq_samples import PARKS

SERF_EAST = PARKS[1]
SINCE, AS_OF = "2013-07-27T06:00:00+00:00", "2013-08-10T06:00:00+00:00"
STRANGERS = ("a-stranger", "b-stranger", "z-stranger")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """SERF East, which has samples, and three parks that have none."""
    lake = Lake(str(tmp_path / "lake"))
    for park in (SERF_EAST, *(SERF_EAST.model_copy(update={"id": name}) for name in STRANGERS)):
        ingestion.register(lake, park)
    return lake


def plan(lake: Lake, **changes: Any) -> list[shards.Shard]:
    arguments: dict[str, Any] = {
        "parks": [], "since": SINCE, "as_of": AS_OF, "source_name": "pvdaq_samples", "source_options": {},
        "parks_per_shard": 50, "recipe": {}, "publish": False,
    }  # fmt: skip
    return shards.plan(lake, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [["a-stranger"], ["b-stranger"], ["serf-east"], ["z-stranger"]]),
        (3, [["a-stranger", "b-stranger", "serf-east"], ["z-stranger"]]),
        (50, [["a-stranger", "b-stranger", "serf-east", "z-stranger"]]),
        (0, [["a-stranger"], ["b-stranger"], ["serf-east"], ["z-stranger"]]),
        (2.0, [["a-stranger", "b-stranger"], ["serf-east", "z-stranger"]]),  # KFP hands ints over as floats
    ],
)
def test_every_park_is_in_one_shard_of_at_most_so_many(lake: Lake, size: int, expected: list[list[str]]) -> None:
    assert [shard["parks"] for shard in plan(lake, parks_per_shard=size)] == expected


def test_named_parks_are_planned_once_each(lake: Lake) -> None:
    [shard] = plan(lake, parks=["serf-east", "a-stranger", "serf-east"])
    assert shard["parks"] == ["a-stranger", "serf-east"]


@pytest.mark.parametrize(
    ("changes", "field", "hint"),
    [
        ({"parks": ["atlantis"]}, "parks", "registered: a-stranger, b-stranger, serf-east, z-stranger"),
        ({"as_of": "2013-08-10T06:00:00"}, "as_of", "e.g. 2013-"),
        ({"since": "last week"}, "since", "e.g. 2013-"),
        ({"since": AS_OF}, "since", "as_of is"),
        ({"source_name": "crystal_ball"}, "source", "known: pvdaq_samples"),
        ({"source_options": {"gain": 2}}, "source_options", "known: loss"),
        ({"recipe": {"learning_rate": 0.1}}, "recipe", "known: .*eta"),
        ({"recipe": {"rounds": "many"}}, "recipe.rounds", "default 250"),
        ({"recipe": {"rounds": 1.5}}, "recipe.rounds", "default 250"),
        ({"recipe": {"eta": None}}, "recipe.eta", "default 0.04"),
        ({"recipe": {"quantiles": [0.25, 0.5, 0.75]}}, "recipe.quantiles", "0.1, 0.5 and 0.9"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    lake: Lake, changes: dict[str, Any], field: str, hint: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(lake, **changes)
    assert caught.value.field == field
    assert caught.value.hint is not None
    assert re.search(hint, caught.value.hint)


def test_an_unknown_park_and_an_empty_registry_have_errors_of_their_own(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UnknownPark, match="no park 'atlantis'"):
        plan(lake, parks=["serf-east", "atlantis"])
    with pytest.raises(InvalidInput, match=r"parks: no park is registered .*pvf park add"):
        plan(Lake(str(tmp_path / "empty")))


def test_recipe_settings_come_back_from_kfp_as_floats_and_are_the_same_recipe() -> None:
    assert shards.recipe_of({}).hash == Recipe().hash
    as_kfp_says = {"rounds": 250.0, "max_depth": 7.0, "eta": 0.04, "quantiles": list(Recipe().quantiles)}
    assert shards.recipe_of(as_kfp_says).hash == Recipe().hash
    assert shards.recipe_of({"min_child_weight": 40}).hash == Recipe().hash
    assert shards.recipe_of({"rounds": 251.0}).rounds == 251


def test_a_park_that_fails_is_a_status_and_the_others_go_on(lake: Lake, tmp_path: Path) -> None:
    [shard] = plan(lake)
    report = tmp_path / "reports" / "ingest.md"
    status = shards.ingest(lake, shard, str(report))
    assert status["serf-east"] == "ok"
    for name in STRANGERS:
        assert status[name] == (f"failed: UnknownPark: park_id: '{name}' is not in the samples (pvdaq-50 or serf-east)")
    text = report.read_text()
    assert "| serf-east | 1344 | 720 | in step with the sun" in text
    assert "- a-stranger: failed: UnknownPark" in text

    checked = shards.validate(lake, shard, status, str(tmp_path / "validate.md"))
    assert checked == status
    assert "| serf-east | 336 | 720 | 0 |" in (tmp_path / "validate.md").read_text()
    assert "stranger |" not in (tmp_path / "validate.md").read_text()  # who failed is not tried again

    assert shards.featurize(lake, shard, checked) == status
    assert set(shards.tally([status])) == set(STRANGERS)
    with pytest.raises(NotEnoughData, match="no park came through"):
        shards.tally([{name: status[name] for name in STRANGERS}])


def test_a_park_with_weather_and_nothing_else_wrong_fails_for_itself_in_any_way(lake: Lake) -> None:
    """Errors that no one planned for are a status too."""
    [shard] = plan(lake, parks=["a-stranger", "serf-east"])

    def work(park: object) -> None:
        if park.id == "a-stranger":  # type: ignore[attr-defined]
            raise ZeroDivisionError("division by zero")

    assert shards._each(lake, shard, None, work) == {
        "a-stranger": "failed: ZeroDivisionError: division by zero",
        "serf-east": "ok",
    }


def test_nothing_is_published_when_it_is_not_asked_for(lake: Lake) -> None:
    [shard] = plan(lake, parks=["serf-east"], publish=False)
    nowhere = ObjectStore("http://127.0.0.1:1", "none", "a", "b")
    assert shards.publish_snapshots(lake, nowhere, shard, {"serf-east": "ok"}) == {"serf-east": "ok"}


@pytest.mark.parametrize("text", ["2013-08-10T00:00:00-06:00", "2013-08-10T06:00:00Z", AS_OF])
def test_an_instant_is_the_same_in_any_offset(text: str) -> None:
    assert str(shards.as_datetime64(text)) == "2013-08-10T06:00:00"
