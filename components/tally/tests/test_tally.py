"""Nobody came through is a failure; somebody did is not."""

from __future__ import annotations

import pytest

from components.tally.component import tally
from pvforecast.errors import InvalidInput, NotEnoughData


def gather(statuses: list[dict[str, str]], quorum: float = 0.5, needs_weather: bool = True) -> dict[str, str]:
    named: dict[str, str] = tally.python_func(statuses=statuses, quorum=quorum, needs_weather=needs_weather)
    return named


def test_parks_that_failed_are_named() -> None:
    left_out = gather([{"a": "ok", "b": "failed: no such source"}, {"c": "ok"}])
    assert left_out == {"b": "failed: no such source"}


def test_a_fleet_that_came_through_leaves_nobody_out() -> None:
    assert gather([{"a": "ok"}]) == {}


@pytest.mark.parametrize("statuses", [[{"a": "failed: x"}, {"b": "failed: y"}], []])
def test_nobody_came_through_is_a_failure(statuses: list[dict[str, str]]) -> None:
    with pytest.raises(NotEnoughData, match="statuses: no park came through"):
        gather(statuses)


def test_the_quorum_decides_whether_the_run_goes_on() -> None:
    two_of_three = [{"a": "ok", "b": "failed: x", "c": "weather failed: y"}]
    assert set(gather(two_of_three, quorum=0.6)) == {"b", "c"}  # who has older weather goes on
    with pytest.raises(NotEnoughData, match="quorum: 1 of 3 parks failed, and 70% must come through"):
        gather(two_of_three, quorum=0.7)
    with pytest.raises(InvalidInput, match=r"quorum: 1\.5 is no share"):
        gather(two_of_three, quorum=1.5)


def test_a_run_without_any_new_weather_is_red_where_weather_is_its_purpose() -> None:
    nobody = [{"a": "weather failed: down"}, {"b": "weather failed: down"}]
    with pytest.raises(NotEnoughData, match="no park came through"):
        gather(nobody)
    assert set(gather(nobody, needs_weather=False)) == {"a", "b"}
