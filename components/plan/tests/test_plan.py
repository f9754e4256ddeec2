"""Shards as the loop gets them, on a registry of two parks."""

from __future__ import annotations

import pytest

from pvforecast.errors import InvalidInput, UnknownPark
from tests.component_fixtures import AS_OF, QUICK, SINCE, Workshop, planned


def test_a_shard_carries_all_that_its_tasks_need(workshop: Workshop) -> None:
    assert planned(workshop, parks_per_shard=1, publish=False) == [
        {
            "parks": [park], "since": SINCE, "until": AS_OF, "as_of": AS_OF,
            "source": "pvdaq_samples", "source_options": {},
            "weather_source": "pvdaq_samples", "weather_options": {},
            "recipe": QUICK, "publish": False, "status_length": 500,
        }
        for park in ("pvdaq-50", "serf-east")
    ]  # fmt: skip


def test_a_shard_holds_no_more_parks_than_asked(workshop: Workshop) -> None:
    assert [shard["parks"] for shard in planned(workshop)] == [["pvdaq-50", "serf-east"]]
    assert [shard["parks"] for shard in planned(workshop, parks=["serf-east"])] == [["serf-east"]]


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ({"as_of": "2013-08-10T06:00:00"}, InvalidInput, "as_of"),
        ({"since": "yesterday"}, InvalidInput, "since"),
        ({"since": AS_OF}, InvalidInput, "since"),
        ({"until": "2013-08-11T06:00:00+00:00"}, InvalidInput, "until"),
        ({"until": SINCE}, InvalidInput, "since"),
        ({"parks_per_shard": 0}, InvalidInput, "parks_per_shard"),
        ({"recipe": {"rounds": "many"}}, InvalidInput, "recipe.rounds"),
        ({"source": "nowhere"}, InvalidInput, "source"),
        ({"source_options": {"gain": 2}}, InvalidInput, "source_options"),
        ({"weather_source": "nowhere"}, InvalidInput, "weather_source"),
        (
            {"weather_source": "open_meteo", "weather_options": {"models": ["moon"]}},
            InvalidInput,
            "weather_options.models",
        ),
        ({"parks": ["pvdaq-50", "atlantis"]}, UnknownPark, "parks"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_loaded(
    workshop: Workshop, changes: dict[str, object], kind: type[InvalidInput], field: str
) -> None:
    with pytest.raises(kind) as caught:
        planned(workshop, **changes)
    assert caught.value.field == field
    assert caught.value.hint
