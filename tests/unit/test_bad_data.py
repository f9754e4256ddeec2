"""Bad data, a kind a park, through import and backtest: it trains, or is left out with its reason; the others go on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pvf import backtest, cli
from pvforecast import features, quarantine
from pvforecast.errors import NotEnoughData
from pvforecast.evaluation import rolling
from pvforecast.features import FeatureSpec
from pvforecast.known import HOUR, History, WeatherRun
from pvforecast.lake import Lake, records
from pvforecast.site import Site

BEGIN = np.datetime64("2024-01-25T00:00:00", "s")
DAYS, LEARNED = 39, 28  # the leap day lies in what is tested
UNTIL, END = datetime(2024, 2, 22, tzinfo=UTC), datetime(2024, 3, 3, tzinfo=UTC)
QUICK = {"rounds": 20, "max_depth": 4, "trees": 5, "corrector_rounds": 10, "calibration_folds": 2}
pytestmark = pytest.mark.slow  # half a minute: nine parks imported, two trainings
KINDS = (
    "good", "zero", "single", "one-day", "half-capacity", "nan-column", "negative", "duplicates", "polar-night",
)  # fmt: skip
LEFT_OUT = {"single", "one-day"}


def site(kind: str) -> Site:
    """Around Munich; one park lies on Svalbard, where the sun comes back in the middle of February."""
    where = (78.2, 15.6) if kind == "polar-night" else (48.1 + 0.1 * KINDS.index(kind), 11.5)
    return Site(kind, *where, 0.0, 35.0, 180.0, 100.0, "Europe/Berlin")


def write(folder: Path) -> None:
    """Simulated: physics under clouds, then spoilt."""
    hours = BEGIN + np.arange(DAYS * 24) * HOUR
    random = np.random.default_rng(9)
    weather, meter = [], []
    for kind in KINDS:
        park = site(kind)
        nothing = History(hours[:0], np.zeros(0))
        clear = features.build(FeatureSpec(("ghi_clear",)), park, None, nothing, BEGIN, hours)[:, 0].astype(float)
        sky = np.repeat(random.uniform(0.3, 1.0, len(hours) // 6), 6)
        columns = {"ghi": (clear * sky).round(1), "temp_air": np.full(len(hours), 6.0), "x_dead": np.nan}
        run = WeatherRun("w", BEGIN, BEGIN, hours, {"ghi": columns["ghi"], "temp_air": columns["temp_air"]})
        power = np.nan_to_num(features.physical_power(park, run, hours)) * 90.0 * random.normal(1, 0.05, len(hours))
        rows = pd.DataFrame({"park_id": kind, "measured_at": [f"{hour}Z" for hour in hours], "power_kw": power})
        meter.append(spoilt(kind, rows))
        if kind == "nan-column":
            columns["temp_air"] = np.nan
        whole = pd.DataFrame({"park_id": kind, "source": "nwp", "valid_at": rows.measured_at, **columns})
        weather += [
            whole.iloc[24 * day : 24 * day + 48].assign(run_at=f"{BEGIN + 24 * day * HOUR}Z") for day in range(DAYS - 1)
        ]
    facts = [
        {"park_id": s.park_id, "latitude": s.latitude, "longitude": s.longitude, "timezone": s.timezone,
         "ac_capacity_kw": 50 if s.park_id == "half-capacity" else 100, "tilt_deg": 35, "azimuth_deg": 180}
        for s in map(site, KINDS)
    ]  # fmt: skip
    pd.DataFrame(facts).to_csv(folder / "parks.csv", index=False)
    pd.concat(weather).to_csv(folder / "weather.csv", index=False)
    pd.concat(meter).to_csv(folder / "generation.csv", index=False)


def spoilt(kind: str, rows: pd.DataFrame) -> pd.DataFrame:
    match kind:
        case "zero":
            return rows.assign(power_kw=0.0)
        case "single":
            return rows.iloc[300:301]
        case "one-day":
            return rows.iloc[240:264]
        case "negative":
            return rows.assign(power_kw=rows.power_kw.where(np.arange(len(rows)) % 7 != 0, -60.0))
        case "duplicates":
            return pd.concat([rows, rows.iloc[:200], rows.iloc[::5].assign(power_kw=rows.power_kw * 1.01)])
        case _:
            return rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("bad")
    write(folder)
    for words in (("parks",), ("weather", "--delay", "0h"), ("generation",)):
        done = CliRunner().invoke(
            cli.app,
            ["import", words[0], f"{folder}/{words[0]}.csv", *words[1:]],
            env={"PVF_LAKE_URI": str(folder / "lake"), "PVF_HOME": str(folder / "home"), "COLUMNS": "300"},
        )
        assert done.exit_code == 0, done.output
    return Lake(str(folder / "lake"))


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """A small recipe: what is shown here does not hang on its size."""
    usual = rolling.recipe_for
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rolling, "recipe_for", lambda *given: replace(usual(*given), **QUICK))
        yield


def ran(lake: Lake, *parks: str) -> backtest.Backtest:
    return backtest.on_lake(
        lake, parks, backtest.Options(UNTIL, test_until=END, horizon_hours=24, with_references=False)
    )


@pytest.fixture(scope="module")
def outcome(lake: Lake) -> backtest.Backtest:
    return ran(lake)


def test_what_cannot_be_is_set_aside_with_its_reason_and_the_rest_is_kept(lake: Lake) -> None:
    reasons = Counter(
        (row["park_id"], row["reason"].split(":")[0].split("=")[0]) for row in quarantine.held(lake, table=None)
    )
    parks = {park for park, _ in reasons}
    assert "negative" in parks
    assert "half-capacity" in parks  # what lies above one and a half times its stated capacity
    assert not parks & {"good", "zero", "single", "one-day", "nan-column"}


def test_a_park_with_too_little_is_left_out_and_the_reason_says_what_there_is(outcome: backtest.Backtest) -> None:
    assert set(outcome.skipped) == LEFT_OUT
    assert all("less than 10 days with weather and generation" in why for why in outcome.skipped.values())


@pytest.mark.parametrize("kind", sorted(LEFT_OUT))
def test_asked_for_by_name_it_is_an_error(lake: Lake, kind: str) -> None:
    with pytest.raises(NotEnoughData, match="less than 10 days") as told:
        ran(lake, kind)
    assert told.value.field == kind


def test_every_other_park_is_forecast_for_every_hour_with_figures_that_are_numbers(outcome: backtest.Backtest) -> None:
    figures = outcome.outcome.figures()
    assert figures["missing"] == 0
    assert set(outcome.scores) == set(KINDS) - LEFT_OUT
    for kind, scores in outcome.scores.items():
        assert 0.0 <= scores.model["daylight_nmae"] < 0.2, kind
    leap = outcome.outcome.table.valid_at.astype("datetime64[D]") == np.datetime64("2024-02-29")  # type: ignore[union-attr]
    assert leap.sum() > 100


def test_what_is_delivered_twice_counts_once(lake: Lake) -> None:
    hours = records.load(lake, "duplicates")
    assert len(np.unique(hours.valid_at)) == DAYS * 24
    assert np.isfinite(hours.truth(hours.valid_at)).all()


def test_the_good_park_is_forecast_about_as_well_as_by_itself(lake: Lake, outcome: backtest.Backtest) -> None:
    alone = ran(lake, "good").scores["good"].model["daylight_nmae"]
    assert outcome.scores["good"].model["daylight_nmae"] < 1.25 * alone + 0.01
