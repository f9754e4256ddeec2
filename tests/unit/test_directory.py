"""Who is in the fleet, as serving reads it."""

from __future__ import annotations

from typing import Any

import pytest

from pvforecast import directory
from pvforecast.errors import DataError
from pvforecast.parks import Park

FACTS: dict[str, Any] = {
    "name": "A roof", "latitude": 47.0, "longitude": 8.0, "timezone": "UTC", "ac_capacity_kw": 100.0,
    "surface_tilt": 30.0, "surface_azimuth": 180.0, "source": "test",
}  # fmt: skip


class Store:
    """What of an ObjectStore is used here."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def put_json(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def get_json(self, key: str) -> Any:
        return self.kept[key]


def test_parks_in_service_come_back_with_their_groups_and_place() -> None:
    store: Any = Store()
    assert directory.read(store) == {}
    parks = [Park(id="a", groups=("north", "east"), **FACTS), Park(id="b", retired=True, **FACTS)]
    directory.publish(store, parks)
    found = directory.read(store)
    assert list(found) == ["a"]
    assert found["a"]["groups"] == ["north", "east"]
    assert (found["a"]["latitude"], found["a"]["longitude"], found["a"]["name"]) == (47.0, 8.0, "A roof")


@pytest.mark.parametrize("damaged", [[], {"parks": []}, {"parks": {"a": 1}}, {}])
def test_a_damaged_directory_is_said_to_be_one(damaged: Any) -> None:
    store: Any = Store()
    store.kept[directory.KEY] = damaged
    with pytest.raises(DataError, match="run ingestion"):
        directory.read(store)
