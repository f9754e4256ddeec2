"""An error says where, what, and what to do."""

from __future__ import annotations

import pytest

from pvforecast import errors
from pvforecast.errors import InvalidInput, PvForecastError


def tree(base: type[PvForecastError]) -> list[type[PvForecastError]]:
    """The errors that `pvforecast.errors` defines; services derive their own, for themselves."""
    children = (child for child in base.__subclasses__() if child.__module__ == errors.__name__)
    return [base, *(below for child in children for below in tree(child))]


def test_it_reads_field_message_hint() -> None:
    whole = InvalidInput("is -1", field="horizon_hours", hint="1 to 168")
    assert str(whole) == "horizon_hours: is -1 (1 to 168)"
    assert (whole.message, whole.field, whole.hint) == ("is -1", "horizon_hours", "1 to 168")
    assert str(InvalidInput("is -1")) == "is -1"


@pytest.mark.parametrize("kind", tree(PvForecastError), ids=lambda kind: kind.__name__)
def test_each_has_a_code_of_its_own_and_a_place_in_the_drawn_tree(kind: type[PvForecastError]) -> None:
    assert [other for other in tree(PvForecastError) if other.code == kind.code] == [kind]
    assert errors.__doc__
    assert kind.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.UnknownPark, errors.InvalidInput),
        (errors.NoChampion, errors.NotReady),
        (errors.NotEnoughData, errors.DataError),
        (errors.SpecMismatch, errors.BundleError),
    ],
)
def test_who_catches_the_general_catches_the_particular(
    kind: type[PvForecastError], also: type[PvForecastError]
) -> None:
    with pytest.raises(also, match="x"):
        raise kind("x")
