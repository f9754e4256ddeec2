"""`pvf explain` and `pvf portfolio` against real servers; a park that is held back gets what it may deliver."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from pvf import cli
from pvforecast import directory, fleet, snapshot
from pvforecast.lake import Lake
from pvforecast.parks import Park
from pvforecast.portfolio import Dependence
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site, tiny_bundle
from tests.serving import PARKS, Serving, eventually, serving

pytestmark = pytest.mark.stack

NOON = "2013-06-09T18:00:00Z"
LIMIT_KW = 1.5


@pytest.fixture(scope="module")
def stack(infra: Settings) -> Iterator[Serving]:
    with serving(infra, "predictor", "transformer", PVF_PREDICTION_LOG_URL="") as made:
        held = replace(site("sim-held"), export_limit_kw=LIMIT_KW)
        snapshot.write(made.store, record(held).known_at(NOW))
        made.deploy(tiny_bundle(record(site())), "1")
        eventually(lambda: made.ask({"park_id": "sim-a"}).status_code == 200)
        yield made


@pytest.fixture(scope="module")
def lake(stack: Serving) -> Path:
    folder = stack.folder / "lake"
    for name in (*PARKS, "sim-held"):
        facts = {name: value for name, value in site(name).as_dict().items() if name not in ("park_id", "resolution")}
        limit = LIMIT_KW if name == "sim-held" else None
        fleet.register(
            Lake(str(folder)),
            Park(id=name, name=name, source="test", groups=("all", name), export_limit_kw=limit, **facts),
        )
    directory.publish(stack.store, fleet.active(Lake(str(folder))))
    return folder


@pytest.fixture
def pvf(stack: Serving, lake: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in (stack.env | {"PVF_LAKE_URI": str(lake), "PVF_GATEWAY_URL": stack.url}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PVF_API_KEY", "any")

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, words, catch_exceptions=False)

    return run


def test_an_explanation_adds_up_to_what_is_served(stack: Serving, pvf, tmp_path: Path) -> None:
    png = tmp_path / "why.png"
    told = json.loads(pvf("explain", "sim-a", "--valid-at", NOON, "--png", str(png), "--json").stdout)
    [served] = stack.ask({"park_id": "sim-a"}).json()["predictions"]
    median = served["power_kw"]["0.5"][served["valid_at"].index(NOON)]
    assert told["forecast_kw"] == pytest.approx(median, abs=1e-3)
    moved = sum(group["kw"] for group in told["groups"].values())
    assert told["base_kw"] + moved + told["after_kw"] == pytest.approx(median, abs=1e-3)
    assert png.stat().st_size > 10_000
    shown = pvf("explain", "sim-a", "--valid-at", NOON, "--issued-at", "2013-06-09T06:00Z")
    assert shown.exit_code == 0
    assert "weather" in shown.stdout


def test_a_park_that_is_held_back_gets_what_it_may_deliver(stack: Serving) -> None:
    free, held = stack.ask({"park_id": "sim-a"}, {"park_id": "sim-held"}).json()["predictions"]
    assert held["possible_kw"] == free["power_kw"]
    assert free["possible_kw"] is None
    expected = np.minimum(free["power_kw"]["0.9"], LIMIT_KW)
    np.testing.assert_array_equal(held["power_kw"]["0.9"], expected)
    assert max(held["power_kw"]["0.9"]) == LIMIT_KW


def test_a_portfolio_lies_between_its_parks_added_up_and_none_of_them(stack: Serving, pvf) -> None:
    parks = stack.ask(*({"park_id": park} for park in PARKS)).json()["predictions"]
    made = pvf("portfolio", *PARKS, "--json")
    told = json.loads(made.stdout)
    assert "carries no dependence" in made.stderr
    assert told["dependence_fitted"] is False
    for level, sign in (("0.1", 1), ("0.9", -1)):
        added = np.sum([park["power_kw"][level] for park in parks], axis=0)
        assert (sign * (np.array(told["power_kw"][level]) - added) >= -1e-3).all()
    assert told["power_kw"] == json.loads(pvf("portfolio", *PARKS, "--json").stdout)["power_kw"]
    assert "energy, kWh" in pvf("portfolio", "--group", "all", "--hours", "24").stdout


def test_the_dependence_of_the_served_model_is_the_one_used(stack: Serving, pvf) -> None:
    together = json.loads(pvf("portfolio", *PARKS, "--json").stdout)
    independent = Dependence.prior().independent()
    stack.deploy(replace(tiny_bundle(record(site())), dependence=independent), "2")
    eventually(lambda: stack.ask({"park_id": "sim-a"}).json()["predictions"][0]["model_version"] == "2")
    alone = json.loads(pvf("portfolio", *PARKS, "--json").stdout)
    assert alone["dependence_fitted"] is True
    at = together["valid_at"].index(NOON)
    assert alone["power_kw"]["0.9"][at] < together["power_kw"]["0.9"][at]


def test_what_cannot_be_explained_or_summed_is_said_by_name(pvf) -> None:
    from pvforecast.errors import InvalidInput, UnknownPark

    with pytest.raises(UnknownPark, match="nobody"):
        pvf("explain", "nobody", "--valid-at", NOON)
    with pytest.raises(InvalidInput, match=r"no level 0\.3"):
        pvf("explain", "sim-a", "--valid-at", NOON, "--level", "0.3")
    with pytest.raises(UnknownPark, match="nobody"):
        pvf("portfolio", "nobody")
