"""Nobody came through is a failure; somebody did is not."""

from __future__ import annotations

import pytest

from components.tally.component import tally
from pvforecast.errors import NotEnoughData


def test_parks_that_failed_are_named() -> None:
    left_out = tally.python_func(statuses=[{"a": "ok", "b": "failed: no such source"}, {"c": "ok"}])
    assert left_out == {"b": "failed: no such source"}


def test_a_fleet_that_came_through_leaves_nobody_out() -> None:
    assert tally.python_func(statuses=[{"a": "ok"}]) == {}


@pytest.mark.parametrize("statuses", [[{"a": "failed: x"}, {"b": "failed: y"}], []])
def test_nobody_came_through_is_a_failure(statuses: list[dict[str, str]]) -> None:
    with pytest.raises(NotEnoughData, match="statuses: no park came through"):
        tally.python_func(statuses=statuses)
