"""Whose rows they are: what the predictor reads of the transformer's parameter, and what it refuses."""

from __future__ import annotations

import json

import pytest
from kserve import InferRequest

from inference.predictor.model import read_parks
from inference.protocol import PARKS
from pvforecast.errors import InvalidInput


def asked(text: object) -> InferRequest:
    return InferRequest("pv-forecast", [], parameters={PARKS: text})


def test_each_row_has_its_park() -> None:
    assert read_parks(asked(json.dumps([["a", 2], ["b", 1]])), 3) == ["a", "a", "b"]


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_it_no_park_is_known(nothing: str | None) -> None:
    assert read_parks(asked(nothing), 3) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "a",
        "[1]",
        '["a"]',
        '[["a"]]',
        '[["a", "many"]]',
        '[["a", 2]]',
        '[["a", 4], ["b", -1]]',
        '[["a", 1e12]]',
        '[["a", 1e999]]',
        '[["a", 1.5]]',
        "[[null, 3]]",
        "{}",
        '{"a3": 0}',
        "[" * 5_000,
    ],
)
def test_what_does_not_fit_the_rows_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_parks(asked(wrong), 3)
    assert refused.value.field == PARKS
