"""`pvf import` and `pvf backtest` as a stranger uses them: own files, a park in the south, runs at an odd hour."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from pvf import cli
from pvforecast import features
from pvforecast.known import HOUR
from pvforecast.site import Site

SITES = (
    Site("canberra", -35.28, 149.13, 0.0, 30.0, 0.0, 100.0, "Australia/Sydney"),
    Site("withheld", -35.4, 149.0, 0.0, 20.0, 10.0, 50.0, "Australia/Sydney"),
)
BEGIN = np.datetime64("2024-01-01T20:00:00", "s")  # 07:00 in Canberra
DAYS, LEARNED = 36, 28
UNTIL = f"{BEGIN + LEARNED * 24 * HOUR}+00:00"

Pvf = Callable[..., Result]


@pytest.fixture(scope="module")
def pvf(tmp_path_factory: pytest.TempPathFactory) -> Pvf:
    """The program, on a lake into which the files were imported. Physics with clouds and noise: simulated."""
    folder = tmp_path_factory.mktemp("stranger")
    _write(folder)
    environment = {"PVF_LAKE_URI": str(folder / "lake"), "PVF_HOME": str(folder / "home"), "COLUMNS": "300"}

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli.app, [word.format(folder=folder) for word in words], env=environment)

    for words in (("parks",), ("weather", "--delay", "0h"), ("generation",)):
        done = run("import", words[0], f"{folder}/{words[0]}.csv", *words[1:])
        assert done.exit_code == 0, done.output
    run.folder = folder  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def backtest(pvf: Pvf) -> Result:
    words = "--quantiles 0.1,0.3,0.5,0.7,0.9 --forecasts {folder}/f.parquet --html {folder}/r.html --unmetered"
    horizon = "--issue-at-runs --horizon 24"
    return pvf("backtest", "--lake", "--train-until", UNTIL, *horizon.split(), *words.split(), "--json")


@pytest.mark.slow
def test_scores_stand_beside_every_baseline(backtest: Result) -> None:
    assert backtest.exit_code == 0, backtest.output
    document = json.loads(backtest.stdout)
    assert set(document) == {"canberra", "*"}
    whole = document["*"]
    assert whole["missing"] == 0
    assert whole["observed_weather"] is False
    assert whole["weather_covered"] == 1.0
    assert set(whole["skill"]) == {
        "persistence_24h", "smart_persistence", "physical",
        "smart_persistence_quantiles", "climatology", "plain_xgboost",
    }  # fmt: skip
    assert document["canberra"]["skill"] > 0
    assert "has no metered daylight hour in the test" in whole["not_scored"]["withheld"]


@pytest.mark.slow
def test_a_forecast_is_written_for_every_park_and_hour_asked_metered_or_not(pvf: Pvf, backtest: Result) -> None:
    table = pq.read_table(pvf.folder / "f.parquet")  # type: ignore[attr-defined]
    levels = ["q10", "q30", "q50", "q70", "q90"]
    assert table.column_names == ["park_id", "issued_at", "valid_at", "lead", *levels, "power_kw"]
    frame = table.to_pandas()
    asked = pd.date_range(UNTIL, periods=(DAYS - LEARNED) * 24, freq="h")
    for site in SITES:
        own = frame[frame.park_id == site.park_id].sort_values("valid_at")
        assert list(own.valid_at) == list(asked)
        assert (own.lead == np.tile(np.arange(24.0), DAYS - LEARNED)).all()
        assert not own[levels].isna().any(axis=None)
        assert (np.diff(own[levels].to_numpy(), axis=1) >= 0).all()
        assert own.q90.max() <= site.ac_capacity_kw
    assert frame[frame.park_id == "withheld"].power_kw.isna().all()
    assert frame[frame.park_id == "canberra"].power_kw.notna().all()


@pytest.mark.slow
def test_the_report_is_one_file_that_fetches_nothing(pvf: Pvf, backtest: Result) -> None:
    page = (pvf.folder / "r.html").read_text()  # type: ignore[attr-defined]
    assert page.count("data:image/png;base64,") == 5
    assert re.findall(r"<script|<link|(?:src|href)=\"(?!data:)", page) == []
    for section in ("Skill against each baseline", "Reliability", "Skill by month", "Worst days", "withheld"):
        assert section in page
    assert "OBSERVED WEATHER" not in page


@pytest.mark.slow
def test_issues_that_miss_the_runs_are_told(pvf: Pvf) -> None:
    done = pvf("backtest", "canberra", "--lake", "--train-until", UNTIL)
    assert done.exit_code == 0, done.output
    assert "note: the weather run known at issue reaches" in done.stderr
    assert "--issue-at-runs" in done.stderr
    assert "By month" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--weather-source gfs", "--weather-source: no weather of 'gfs' (there is: ecmwf)"),
        ("--train-until 2024-01-03T00:00:00+00:00", "canberra: has less than 10 days with weather and generation"),
        ("--test-from 2023-01-01T00:00:00+00:00", "--test-from: train until"),
        ("--quantiles 0.9,0.1", "--quantiles: '0.9,0.1' are no levels"),
        ("--quantiles 0.1,0.9", "--quantiles: '0.1,0.9' are no levels"),
        ("--issue-hours 0,25", "--issue-hours: '0,25' are no hours"),
        ("--horizon 0", "--horizon: 0 is not 1 to 168 hours"),
        ("--retrain-every 0", "--retrain-every: 0 is no number of days"),
        ("--prices {folder}/none.csv", "--prices: "),
        ("--html {folder}/no/r.html", "--html: no folder "),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_option(pvf: Pvf, words: str, says: str) -> None:
    until = [] if "--train-until" in words else ["--train-until", UNTIL]
    done = pvf("backtest", "canberra", "--lake", *until, *words.split())
    assert done.exit_code == 1
    assert str(done.exception).startswith(says)


def _write(folder: Path) -> None:
    random = np.random.default_rng(4)
    hours = features.horizon(BEGIN, DAYS * 24)
    stamps = np.array([f"{hour}Z" for hour in hours])
    runs, meter = [], []
    for site in SITES:
        clear = features.clear_sky_power(site, hours)
        cloud = np.repeat(random.uniform(0.3, 1.0, len(hours) // 4), 4)
        power = np.clip(clear * cloud * random.normal(1, 0.05, len(hours)), 0, 1) * site.ac_capacity_kw
        kept = hours < BEGIN + LEARNED * 24 * HOUR if site.park_id == "withheld" else np.ones(len(hours), bool)
        meter.append(pd.DataFrame({"park_id": site.park_id, "measured_at": stamps[kept], "power_kw": power[kept]}))
        for day in range(DAYS):
            rows = slice(24 * day, 24 * day + 24)
            ghi = 900 * clear[rows] * np.clip(cloud[rows] * random.normal(1, 0.1), 0, 1.1)
            runs.append(
                pd.DataFrame(
                    {
                        "park_id": site.park_id,
                        "source": "ecmwf",
                        "run_at": stamps[24 * day],
                        "valid_at": stamps[rows],
                        "ghi": ghi.round(2),
                        "x_tclw": (1 - cloud[rows]).round(3),
                    }
                )
            )
    facts = [
        {"park_id": s.park_id, "latitude": s.latitude, "longitude": s.longitude, "ac_capacity_kw": s.ac_capacity_kw,
         "tilt_deg": s.surface_tilt, "azimuth_deg": s.surface_azimuth}
        for s in SITES
    ]  # fmt: skip
    pd.DataFrame(facts).to_csv(folder / "parks.csv", index=False)
    pd.concat(runs).to_csv(folder / "weather.csv", index=False)
    pd.concat(meter).to_csv(folder / "generation.csv", index=False)
