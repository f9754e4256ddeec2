"""The plan names what is wrong before anything runs; a park that fails is a status, and the others go on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pvforecast import fleet, shards
from pvforecast.errors import InvalidInput, NotEnoughData, NotReady, UnknownPark
from pvforecast.lake import Lake
from pvforecast.model.recipe import Recipe
from pvforecast.objects import ObjectStore
from pvforecast.parks import Park
from pvforecast.settings import Settings
from pvforecast.sources.pvdaq_samples import PARKS

SERF_EAST = PARKS[1]
SINCE, AS_OF = "2013-07-27T06:00:00+00:00", "2013-08-10T06:00:00+00:00"
JSON = {"name": "own", "time": "t", "label": "end", "values": {"ghi": {"path": "g"}}}
STRANGERS = ("a-stranger", "b-stranger", "z-stranger")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """SERF East, which has samples, and three parks that have none."""
    lake = Lake(str(tmp_path / "lake"))
    for park in (SERF_EAST, *(SERF_EAST.model_copy(update={"id": name}) for name in STRANGERS)):
        fleet.register(lake, park)
    return lake


def plan(lake: Lake, **changes: Any) -> list[shards.Shard]:
    arguments: dict[str, Any] = {
        "parks": [], "since": SINCE, "as_of": AS_OF, "source_name": "pvdaq_samples", "source_options": {},
        "weather": shards.Weather("pvdaq_samples", {}),
        "parks_per_shard": 50, "recipe": {}, "publish": False,
    }  # fmt: skip
    return shards.plan(lake, **{**arguments, **changes})


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [["a-stranger"], ["b-stranger"], ["serf-east"], ["z-stranger"]]),
        (3, [["a-stranger", "b-stranger", "serf-east"], ["z-stranger"]]),
        (50, [["a-stranger", "b-stranger", "serf-east", "z-stranger"]]),
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
        ({"until": "2013-08-11T06:00:00+00:00"}, "until", "as_of is"),
        ({"until": SINCE}, "since", "until is"),
        ({"parks_per_shard": 0}, "parks_per_shard", "e.g. 50"),
        ({"parks_per_shard": -3.0}, "parks_per_shard", "e.g. 50"),
        ({"source_name": "crystal_ball"}, "source", "known: pvdaq_samples"),
        ({"source_options": {"gain": 2}}, "source_options", "known: loss"),
        ({"recipe": {"learning_rate": 0.1}}, "recipe", "known: .*eta"),
        ({"recipe": {"rounds": "many"}}, "recipe.rounds", f"default {Recipe().rounds}"),
        ({"recipe": {"rounds": 1.5}}, "recipe.rounds", f"default {Recipe().rounds}"),
        ({"recipe": {"eta": None}}, "recipe.eta", f"default {Recipe().eta}"),
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


def test_a_retired_park_is_planned_only_when_it_is_named(lake: Lake) -> None:
    gone = SERF_EAST.model_copy(update={"retired": True, "valid_from": datetime(2013, 1, 1, tzinfo=UTC)})
    fleet.register(lake, gone)
    assert [shard["parks"] for shard in plan(lake)] == [list(STRANGERS)]
    assert [shard["parks"] for shard in plan(lake, parks=["serf-east"])] == [["serf-east"]]


def test_a_source_of_weather_that_is_down_leaves_the_rest_of_the_run_as_it_was(lake: Lake, tmp_path: Path) -> None:
    away = Settings(home=tmp_path, open_meteo_url="http://127.0.0.1:1/{service}")
    weather = shards.Weather("json", {**JSON, "url": "http://127.0.0.1:1/"})
    [shard] = plan(lake, parks=["serf-east"], weather=weather)
    status = shards.ingest_weather(lake, away, shard, str(tmp_path / "weather.md"))
    assert status["serf-east"].startswith("weather failed: own: own did not answer")
    assert shards.goes_on(status["serf-east"])
    loaded = shards.ingest_generation(lake, shard, status, str(tmp_path / "generation.md"))
    assert loaded == status
    assert "| serf-east | 1344 |" in (tmp_path / "generation.md").read_text()
    assert shards.left_out([loaded]) == {}
    with pytest.raises(NotEnoughData):
        shards.tally([loaded])  # but a run in which no park got weather is not green


def test_the_settings_say_which_weather_where_a_run_does_not(tmp_path: Path) -> None:
    own = Settings(home=tmp_path, weather_source="open_meteo", weather_options={"models": ["icon_eu"]})
    assert shards.Weather.of("", {}, own) == ("open_meteo", {"models": ["icon_eu"]})
    assert shards.Weather.of("pvdaq_samples", {}, own) == ("pvdaq_samples", {})
    with pytest.raises(InvalidInput, match=r"weather_source: no source 'x' \(known: pvdaq_samples, open_meteo, json\)"):
        shards.Weather.of("x", {}, own)


def test_an_unknown_park_and_an_empty_registry_have_errors_of_their_own(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UnknownPark, match="no park 'atlantis'"):
        plan(lake, parks=["serf-east", "atlantis"])
    with pytest.raises(InvalidInput, match=r"parks: no park is registered .*pvf park add"):
        plan(Lake(str(tmp_path / "empty")))


def test_recipe_settings_come_back_from_kfp_as_floats_and_are_the_same_recipe() -> None:
    assert shards.recipe_of({}).hash == Recipe().hash
    made = Recipe()
    as_kfp_says = {"rounds": float(made.rounds), "max_depth": float(made.max_depth), "eta": made.eta}
    assert shards.recipe_of(as_kfp_says).hash == Recipe().hash
    assert shards.recipe_of({"min_child_weight": int(made.min_child_weight)}).hash == Recipe().hash
    assert shards.recipe_of({"rounds": 251.0}).rounds == 251
    assert shards.recipe_of({"quantiles": list(made.quantiles)}).hash == made.hash


def test_a_park_that_fails_is_a_status_and_the_others_go_on(lake: Lake, tmp_path: Path) -> None:
    [shard] = plan(lake)
    weather, report = tmp_path / "reports" / "weather.md", tmp_path / "reports" / "generation.md"
    first = shards.ingest_weather(lake, Settings(home=tmp_path), shard, str(weather))
    assert first["serf-east"] == "ok"
    assert {first[name].partition(":")[0] for name in STRANGERS} == {"weather failed"}
    assert "| serf-east | 720 |" in weather.read_text()
    assert "NSRDB" in weather.read_text()  # the credit
    status = shards.ingest_generation(lake, shard, first, str(report))
    assert status["serf-east"] == "ok"
    for name in STRANGERS:
        assert status[name] == (f"failed: UnknownPark: park_id: '{name}' is not in the samples (pvdaq-50 or serf-east)")
    text = report.read_text()
    assert "| serf-east | 1344 |" in text
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


def test_a_shard_tries_again_what_may_pass_because_kfp_does_not_inside_a_loop(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(shards.time, "sleep", pauses.append)
    [shard] = plan(lake, parks=["a-stranger", "serf-east"])
    answers = {"a-stranger": 3, "serf-east": 2}  # how often the lake does not answer

    def work(park: Park) -> None:
        answers[park.id] -= 1
        if answers[park.id] >= 0:
            raise NotReady("the lake does not answer")

    status = shards._each(lake, shard, None, work)
    assert status == {"a-stranger": "failed: NotReady: the lake does not answer", "serf-east": "ok"}
    assert pauses == [1.0, 4.0, 1.0, 4.0]  # three tries of each


def test_a_status_is_as_long_as_its_shard_says(lake: Lake) -> None:
    [shard] = plan(lake, parks=["serf-east"])

    def work(_: Park) -> None:
        raise ValueError("x" * 1000)

    assert len(shards._each(lake, {**shard, "status_length": 60.0}, None, work)["serf-east"]) == 60
    assert len(shards._each(lake, shard, None, work)["serf-east"]) == 500


def test_nothing_is_published_when_it_is_not_asked_for(lake: Lake) -> None:
    [shard] = plan(lake, parks=["serf-east"], publish=False)
    nowhere = ObjectStore("http://127.0.0.1:1", "none", "a", "b")
    assert shards.publish_snapshots(lake, nowhere, shard, {"serf-east": "ok"}) == {"serf-east": "ok"}


@pytest.mark.parametrize("text", ["2013-08-10T00:00:00-06:00", "2013-08-10T06:00:00Z", AS_OF])
def test_an_instant_is_the_same_in_any_offset(text: str) -> None:
    assert str(shards.as_datetime64(text)) == "2013-08-10T06:00:00"
