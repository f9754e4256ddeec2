"""One park with corrupt data, one with none, one that turns NaN: the run completes, names them and spares the others.

What is forecast for the good parks is, to the bit, what it is in a fleet without the bad ones, in which the park that
turns NaN simply ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvforecast import features, fleet, learning, preparing, shards
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import features as features_table
from pvforecast.model.bundle import Bundle
from pvforecast.model.training import train
from pvforecast.parks import Park
from pvforecast.settings import Settings
from pvforecast.sources import catalogue
from pvforecast.sources.base import Delivery
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

SINCE, MIDDLE, AS_OF = (f"2012-{day}T06:00:00+00:00" for day in ("06-11", "07-01", "07-21"))
NOW = np.datetime64("2012-07-21T06:00:00", "s")
QUICK = {"rounds": 20, "max_depth": 3, "trees": 3, "corrector_rounds": 20, "calibration_folds": 2}
GOOD, BAD = ("a-good", "b-good"), ("corrupt", "empty", "turns-nan")


@dataclass(frozen=True)
class Faulty:
    """System 50's record for every park, spoilt for some of them."""

    name: str = "faulty"
    attribution: str = ""

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        rows = PvdaqSamples().generation(PARKS[0], since, until).assign(park_id=park.id)
        rows["power_kw"] *= 0.8 if park.id == "b-good" else 1.0
        late = rows.measured_at >= MIDDLE
        if park.id == "corrupt":
            return rows.assign(power_kw=rows.power_kw.astype(str).where(~late, "#VALUE!"))
        if park.id == "empty":
            return rows.iloc[:0]
        if park.id == "turns-nan":
            return rows.assign(power_kw=rows.power_kw.where(~late))
        return rows[~late] if park.id == "ends" else rows

    def weather(self, parks: list[Park], since: datetime, until: datetime, stored: object = frozenset()) -> Delivery:
        rows = PvdaqSamples().weather([PARKS[0]], since, until).rows
        return Delivery(pd.concat([rows.assign(park_id=park.id) for park in parks], ignore_index=True))


@dataclass(frozen=True)
class Prepared:
    """A fleet after the looped tasks, and what was learned from it."""

    lake: Lake
    status: dict[str, str]
    report: str
    bundle: Bundle

    def forecast(self, park: str) -> bytes:
        hours = features.horizon(NOW, 48)
        built = features.build_known(self.bundle.spec, records.load(self.lake, park).known_at(NOW), NOW, hours)
        return self.bundle.predict(built).tobytes()


def prepare(folder: Path, names: tuple[str, ...]) -> Prepared:
    lake = Lake(str(folder / "lake"))
    fleet.register_all(lake, [PARKS[0].model_copy(update={"id": name}) for name in names])
    weather = shards.Weather("faulty", {})
    [shard] = shards.plan(lake, [], SINCE, AS_OF, "faulty", {}, weather, 50, QUICK, False)
    report = str(folder / "validate.md")
    status = shards.ingest_weather(lake, Settings(home=folder), shard, report)
    for step in (shards.ingest_generation, shards.validate):
        status = step(lake, shard, status, report)
    status = shards.featurize(lake, shard, status)
    assert shards.tally([status], quorum=0.5, needs_weather=False).keys() == set(names) - set(GOOD)
    parks = sorted(set(names) - set(shards.left_out([status])))
    recipe = shards.recipe_of(QUICK).with_columns(("x_clearness_00", "x_clearness_30"))
    rows = learning.stored_rows(lake, recipe, parks, NOW)
    return Prepared(lake, status, Path(report).read_text(), train(rows, recipe, NOW))


@pytest.fixture(scope="module")
def patched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "generation_source", lambda _name, _options=None: Faulty())
        patch.setattr(catalogue, "weather_source", lambda _name, _options, _settings: Faulty())
        yield


@pytest.fixture(scope="module")
def mixed(patched: None, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("mixed"), (*GOOD, *BAD))


@pytest.fixture(scope="module")
def sound(patched: None, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("sound"), (*GOOD, "ends"))


def test_the_bad_parks_are_named_with_what_is_wrong(mixed: Prepared) -> None:
    assert [mixed.status[park] for park in GOOD] == ["ok", "ok"]
    assert mixed.status["corrupt"].startswith("failed: ")
    assert "power_kw" in mixed.status["corrupt"]
    assert mixed.status["empty"] == "no generation: nothing healthy was ever metered under a weather run"
    assert mixed.status["turns-nan"] == "no generation: nothing healthy was metered since 2012-07-01T05:00:00Z"
    assert set(shards.left_out([mixed.status])) == {"corrupt"}
    assert set(shards.without_generation([mixed.status])) == {"empty", "turns-nan"}


def test_the_forecasts_of_the_others_are_the_same_to_the_bit(mixed: Prepared, sound: Prepared) -> None:
    for park in GOOD:
        assert mixed.forecast(park) == sound.forecast(park)
    assert mixed.forecast("a-good") != mixed.forecast("b-good")  # bits can differ


def test_a_park_with_nothing_of_its_own_is_forecast_all_the_same(mixed: Prepared) -> None:
    values = np.frombuffer(mixed.forecast("empty"), np.float32)
    assert np.isfinite(values).all()
    assert values.max() > 0.2


def test_features_that_are_stored_already_are_not_written_again(mixed: Prepared) -> None:
    recipe = shards.recipe_of(QUICK)
    table = features_table(mixed.bundle.spec.names)
    version = mixed.lake.version(table)
    preparing.featurize(mixed.lake, [*GOOD, "empty", "turns-nan"], NOW, recipe)
    assert mixed.lake.version(table) == version
    preparing.featurize(mixed.lake, ["a-good"], NOW - np.timedelta64(86_400, "s"), recipe)
    assert mixed.lake.version(table) > version
