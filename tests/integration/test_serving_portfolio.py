"""Several parks together, asked through the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pvforecast import directory
from pvforecast.parks import Park
from pvforecast.portfolio import Dependence, served
from pvforecast.settings import Settings
from tests.bundles import record, site, tiny_bundle
from tests.gateway import Place
from tests.gateway import place as gateway_place
from tests.serving import PARKS, eventually

pytestmark = pytest.mark.stack

FIRST, SECOND = PARKS
PATH = "/v1/portfolio"
ASKED: dict[str, Any] = {"horizon_hours": 24, "scenarios": 500}


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with gateway_place(infra, tmp_path_factory.mktemp("home")) as made:
        facts: dict[str, Any] = {
            "name": "simulated", "latitude": 39.7, "longitude": -105.2, "timezone": "America/Denver", "source": "test",
            "ac_capacity_kw": 3.05, "surface_tilt": 45.0, "surface_azimuth": 158.0,
        }  # fmt: skip
        parks = [Park(id=FIRST, groups=("one", "both"), **facts), Park(id=SECOND, groups=("both",), **facts)]
        directory.publish(made.services.store, [*parks, Park(id="to-come", groups=("both",), **facts)])
        yield made


def test_the_sum_is_that_of_joint_scenarios_and_not_of_quantiles(place: Place) -> None:
    told = place.post(PATH, ASKED | {"parks": list(PARKS)}, place.desk).json()
    each = [place.ask(park, place.desk, horizon_hours=24).json()["predictions"][0] for park in PARKS]
    assert told["predictions"] == each
    expected = served.total(each, {park: site(park) for park in PARKS}, Dependence.prior(), (), 500, 0)
    power = np.array(list(told["portfolio"]["power_kw"].values())).T
    np.testing.assert_allclose(power, expected.power_kw, atol=1e-4)
    low, high = (sum(np.array(one["power_kw"][level]) for one in each) for level in ("0.1", "0.9"))
    noon = int(np.argmax(high))
    assert low[noon] < power[noon, 0] < power[noon, 2] < high[noon]
    assert list(told["portfolio"]["energy_kwh"]) == ["0.1", "0.5", "0.9"]
    assert told["portfolio"]["dependence_fitted"] is False


def test_a_group_and_the_fleet_name_who_is_in_them_and_who_is_left_out(place: Place) -> None:
    both = place.post(PATH, ASKED | {"group": "both"}, place.desk).json()["portfolio"]
    assert (both["parks"], both["left_out"]) == (list(PARKS), {"to-come": "no snapshot yet"})
    assert place.post(PATH, ASKED, place.desk).json()["portfolio"] == both
    one = place.post(PATH, ASKED | {"group": "one", "each": False, "quantiles": [0.9]}, place.desk).json()
    assert (one["portfolio"]["parks"], one["predictions"]) == ([FIRST], None)
    assert list(one["portfolio"]["power_kw"]) == ["0.9"]


def test_a_limited_key_adds_up_what_it_sees_and_learns_of_nothing_else(place: Place) -> None:
    for asked in ({}, {"group": "both"}):
        told = place.post(PATH, ASKED | asked, place.limited).json()["portfolio"]
        assert (told["parks"], told["left_out"]) == ([FIRST], {})
    hidden = place.post(PATH, ASKED | {"parks": list(PARKS)}, place.limited)
    nobodys = place.post(PATH, ASKED | {"parks": [FIRST, "nowhere"]}, place.limited)
    assert (hidden.status_code, hidden.json()["field"]) == (404, "parks[1]")
    assert hidden.text.replace(SECOND, "nowhere").split("request_id")[0] == nobodys.text.split("request_id")[0]


def test_the_dependence_of_the_bundle_is_used(place: Place) -> None:
    before = place.post(PATH, ASKED, place.desk).json()["portfolio"]
    bundle = replace(tiny_bundle(record(site(FIRST))), dependence=Dependence.prior().comonotone())
    place.services.deploy(bundle, "2")
    eventually(lambda: place.post(PATH, ASKED, place.desk).json()["portfolio"]["model_version"] == ["2"])
    told = place.post(PATH, ASKED, place.desk).json()
    assert told["portfolio"]["dependence_fitted"] is True
    added = sum(np.array(one["power_kw"]["0.9"]) for one in told["predictions"])
    np.testing.assert_allclose(told["portfolio"]["power_kw"]["0.9"], added, rtol=0.02, atol=0.02)
    assert max(told["portfolio"]["power_kw"]["0.9"]) > max(before["power_kw"]["0.9"])


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({"parks": []}, 400, "parks"),
        ({"parks": [FIRST, FIRST]}, 400, "parks"),
        ({"parks": [FIRST], "group": "one"}, 400, "group"),
        ({"group": "nobody"}, 400, "group"),
        ({"parks": ["../x"]}, 404, "parks[0]"),
        ({"parks": ["p"] * 1_001}, 413, "parks"),
        ({"horizon_hours": 0}, 400, "horizon_hours"),
        ({"issued_at": "2031-01-01T00:00:00Z"}, 400, "issued_at"),
        ({"issued_at": "2001-01-01T00:00:00Z"}, 400, "issued_at"),
        ({"quantiles": [0.42]}, 400, "quantiles"),
        ({"scenarios": 3}, 400, "scenarios"),
        ({"fleet": True}, 400, "fleet"),
        ([], 400, "body"),
    ],
)
def test_a_wrong_question_names_the_field(place: Place, asked: Any, status: int, field: str) -> None:
    answer = place.post(PATH, asked, place.desk)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert set(answer.json()) == {"error", "code", "field", "hint", "request_id"}


def test_without_the_predictor_the_last_good_forecasts_are_added_up_where_that_is_allowed(place: Place) -> None:
    asked = ASKED | {"parks": list(PARKS)}
    good = place.post(PATH, asked, place.desk).json()["portfolio"]
    predictor = place.services.services["predictor"]
    predictor.stop()
    try:
        assert place.post(PATH, asked, place.desk).status_code == 503
        stale = place.post(PATH, asked | {"allow_stale": True}, place.desk).json()["portfolio"]
        assert stale == good | {"degraded": {**good["degraded"], "stale_forecast": 2}}
    finally:
        predictor.start()
        predictor.wait()
    eventually(lambda: place.post(PATH, asked, place.desk).status_code == 200)
