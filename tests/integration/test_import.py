"""`pvf import` from end to end on a lake in a folder, without any server."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.lake import bad_inputs, corpus
from pvf import cli
from pvforecast import fleet, quarantine, wiring
from pvforecast.errors import InvalidInput
from pvforecast.importing import fleets, load, sunlight
from pvforecast.importing.mapping import Mapping
from pvforecast.importing.sunlight import Sunlight
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import GENERATION, PARKS, RAW_GENERATION, RAW_WEATHER, WEATHER
from pvforecast.settings import Settings
from pvforecast.sources.pvdaq_samples import PARKS as SAMPLES
from pvforecast.sources.pvdaq_samples import PvdaqSamples

ROOT = Path(__file__).resolve().parents[2]
HOURS = pd.date_range("2024-06-01", periods=72, freq="h", tz="UTC")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """With the park ``roof``, 100 kW in Utrecht."""
    made = Lake(str(tmp_path / "lake"))
    facts = {**corpus.GOOD["parks"][0], "park_id": "roof", "export_limit_kw": ""}
    fleets.run(made, written(tmp_path / "parks.csv", pd.DataFrame([facts])), Mapping())
    return made


def written(path: Path, rows: pd.DataFrame) -> Path:
    rows.to_csv(path, index=False)
    return path


def sunny(hours: pd.DatetimeIndex) -> np.ndarray:
    return np.maximum(0.0, np.sin((hours.hour - 4) / 16 * np.pi)) * (hours.hour >= 4) * (hours.hour < 20)


def generation(hours: pd.DatetimeIndex = HOURS) -> pd.DataFrame:
    at = hours.strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame({"park_id": "roof", "measured_at": at, "power_kw": (80 * sunny(hours)).round(3)})


def weather(runs: int = 4) -> pd.DataFrame:
    blocks = []
    for run in pd.date_range("2024-06-01", periods=runs, freq="6h", tz="UTC"):
        at = pd.date_range(run, periods=48, freq="h")
        values = {"ghi": (700 * sunny(at)).round(1), "temp_air": 15.0, "x_aod": 0.1}
        blocks.append(pd.DataFrame({"park_id": "roof", "run_at": run.isoformat(), "valid_at": at.map(str), **values}))
    return pd.concat(blocks)


def bring(lake: Lake, kind: str, path: Path, mapping: Mapping | None = None, **options: object) -> load.Report:
    mapping = mapping or (Mapping(delay="6h") if kind == "weather" else Mapping())
    return load.run(lake, kind, path, mapping, load.Options(**options))[0]  # type: ignore[arg-type]


def test_a_file_is_loaded_once_however_often_it_is_imported(lake: Lake, tmp_path: Path) -> None:
    files = {"weather": weather(), "generation": generation()}
    for kind, rows in files.items():
        path = written(tmp_path / f"{kind}.csv", rows)
        first, second = bring(lake, kind, path), bring(lake, kind, path)
        assert (first.loaded, first.already, first.bad) == (len(rows), 0, 0)
        assert (second.loaded, second.already, second.differing) == (0, len(rows), 0)
    assert len(lake.read(RAW_WEATHER)) == len(lake.read(WEATHER)) == 4 * 48
    assert len(lake.read(RAW_GENERATION)) == len(HOURS)


def test_what_was_imported_is_what_a_forecast_knows(lake: Lake, tmp_path: Path) -> None:
    bring(lake, "weather", written(tmp_path / "w.csv", weather()))
    bring(lake, "generation", written(tmp_path / "g.csv", generation()))
    known = records.load(lake, "roof").known_at(np.datetime64("2024-06-01T14:00:00", "s"))
    assert known.weather is not None
    # The run of 06:00 could be had at 12:00; that of 12:00 only at 18:00.
    assert known.weather.run_at == np.datetime64("2024-06-01T06:00:00")
    assert known.weather.variables["x_aod"].tolist() == [0.1] * 48
    # The hour from 13:00 was received at 14:05.
    assert known.history.valid_at[-1] == np.datetime64("2024-06-01T12:00:00")
    assert known.history.power_kw[-1] == pytest.approx(80.0)


def test_an_interrupted_import_is_finished_by_the_next(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "w.csv", weather(8))
    monkeypatch.setattr(load, "COMMIT_ROWS", 50)
    monkeypatch.setattr(load.tables, "BLOCK_BYTES", 5_000)
    append, done = Lake.append_new, []

    def dies_at_third(self: Lake, table: object, rows: pd.DataFrame) -> int:
        done.append(len(rows))
        if len(done) == 3:
            raise KeyboardInterrupt
        return append(self, table, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "append_new", dies_at_third)
    with pytest.raises(KeyboardInterrupt):
        bring(lake, "weather", path)
    monkeypatch.setattr(Lake, "append_new", append)
    again = bring(lake, "weather", path)
    assert again.already == sum(done[:2]) > 0
    assert again.loaded + again.already == len(lake.read(RAW_WEATHER)) == len(lake.read(WEATHER)) == 8 * 48


def test_a_corrected_value_is_kept_beside_the_first_as_received_now(lake: Lake, tmp_path: Path) -> None:
    bring(lake, "generation", written(tmp_path / "g.csv", generation()))
    rows = generation()
    rows.loc[12, "power_kw"] = 33.0
    report = bring(lake, "generation", written(tmp_path / "g.csv", rows))
    assert (report.loaded, report.differing, report.already) == (1, 1, len(HOURS) - 1)
    record = records.load(lake, "roof")
    hour = np.array([np.datetime64("2024-06-01T12:00:00", "s")])
    assert record.truth(hour).tolist() == [33.0]
    assert record.truth(hour, np.datetime64("2024-07-01", "s")).tolist() == [pytest.approx(80.0)]
    assert bring(lake, "generation", written(tmp_path / "g.csv", rows)).loaded == 0


def test_a_dry_run_and_a_refused_file_store_nothing(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path / "g.csv", generation())
    report = bring(lake, "generation", path, dry_run=True)
    assert (report.good, report.loaded) == (72, 0)
    rows = generation().astype({"power_kw": str})
    rows.loc[3, "power_kw"] = "five"
    with pytest.raises(InvalidInput, match=r"row 5, power_kw: 'five' is no number"):
        bring(lake, "generation", written(path, rows), strict=True)
    # In watts: the nights would pass and the days would not.
    watts = pd.concat([generation(), generation(HOURS + pd.Timedelta(days=9))])
    with pytest.raises(InvalidInput, match=r"of its rows are bad.*another unit"):
        bring(lake, "generation", written(path, watts.assign(power_kw=watts.power_kw * 1000)))
    assert len(lake.read(RAW_GENERATION)) == len(lake.read(GENERATION)) == 0
    assert quarantine.held(lake) == []


def test_units_and_labels_are_made_canonical(lake: Lake, tmp_path: Path) -> None:
    rows = generation(HOURS[:24])
    ends = (pd.to_datetime(rows.measured_at) + pd.Timedelta(hours=1)).dt.tz_convert("Europe/Amsterdam")
    foreign = pd.DataFrame({"Zeit": ends.dt.strftime("%d.%m.%Y %H:%M"), "kWh": rows.power_kw})
    mapping = Mapping(
        rename={"Zeit": "measured_at", "kWh": "power_kw"}, constant={"park_id": "roof"}, units={"power_kw": "kWh"},
        label="end", timezone="Europe/Amsterdam", time_format="%d.%m.%Y %H:%M",
    )  # fmt: skip
    bring(lake, "generation", written(tmp_path / "g.csv", foreign), mapping)
    stored = lake.read(RAW_GENERATION).to_pandas()
    assert stored.measured_at.tolist() == list(HOURS[:24])
    assert stored.power_kw.tolist() == rows.power_kw.tolist()


def test_shorter_intervals_of_weather_become_hours_also_across_chunks(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = pd.date_range("2024-06-01", periods=96, freq="15min", tz="UTC")
    values = {"ghi": np.arange(96.0), "precipitation": 0.5}
    rows = pd.DataFrame({"park_id": "roof", "run_at": at[0].isoformat(), "valid_at": at.map(str), **values})
    monkeypatch.setattr(load.tables, "BLOCK_BYTES", 700)
    bring(lake, "weather", written(tmp_path / "w.csv", rows))
    stored = lake.read(RAW_WEATHER).to_pandas()
    assert stored.valid_at.tolist() == list(pd.date_range("2024-06-01", periods=24, freq="h", tz="UTC"))
    assert stored.ghi.tolist() == [4 * i + 1.5 for i in range(24)]
    assert stored.precipitation.tolist() == [2.0] * 24


def test_observed_weather_becomes_a_run_each_local_midnight(lake: Lake, tmp_path: Path) -> None:
    rows = pd.DataFrame({"park_id": "roof", "valid_at": HOURS.map(str), "ghi": 500 * sunny(HOURS)})
    report = bring(lake, "weather", written(tmp_path / "w.csv", rows), Mapping(), observed=True)
    assert any("optimistic" in said for said in report.stated.values())
    runs = records.load(lake, "roof").runs
    assert {run.source for run in runs} == {"import_observed"}
    # 00:00 in Utrecht is 22:00 UTC of the day before.
    assert {str(run.run_at)[11:] for run in runs} == {"22:00:00"}
    full = next(run for run in runs if run.run_at == np.datetime64("2024-05-31T22:00:00") + np.timedelta64(1, "D"))
    assert full.available_at == full.run_at
    assert len(full.valid_at) == 48


@pytest.fixture(scope="module")
def month() -> pd.DataFrame:
    """Weather of System 50 in a clear autumn, a run a day: storms of a summer move a month by a quarter hour."""
    begin, end = datetime(2012, 9, 10, tzinfo=UTC), datetime(2012, 10, 20, tzinfo=UTC)
    rows = PvdaqSamples().weather(SAMPLES[:1], begin, end).rows
    return rows.loc[rows.period_s == 3600, ["park_id", "run_at", "available_at", "valid_at", "ghi", "temp_air"]]


@pytest.mark.parametrize("minutes", [60, 30, -30, -60])
def test_weather_whose_labels_the_sun_contradicts_is_refused_before_anything_is_stored(
    tmp_path: Path, month: pd.DataFrame, minutes: int
) -> None:
    lake = Lake(str(tmp_path / "lake"))
    fleet.register(lake, SAMPLES[0])
    late = month.assign(valid_at=month.valid_at + pd.Timedelta(minutes=minutes))
    path = written(tmp_path / "w.csv", late)
    with pytest.raises(
        InvalidInput, match=rf"pvdaq-50: ghi: \{minutes:+d} min against the sun.*--label end"
    ) as refused:
        bring(lake, "weather", path)
    assert ("labels by the end of their interval" in str(refused.value)) == (minutes == 60)
    assert lake.version(RAW_WEATHER) == -1
    assert any("it would be refused" in note for note in bring(lake, "weather", path, dry_run=True).notes)


@pytest.mark.slow
@pytest.mark.parametrize(("days", "missed"), [(22, 1), (90, 0)])
def test_how_often_a_shift_is_found_and_a_right_file_refused(days: int, missed: int) -> None:
    """31 stretches of System 50's weather, each as it is and an hour late."""
    rows = (
        PvdaqSamples().weather(SAMPLES[:1], datetime(2011, 4, 16, tzinfo=UTC), datetime(2013, 12, 31, tzinfo=UTC)).rows
    )
    rows = rows[rows.period_s == 3600].drop_duplicates("valid_at")[["park_id", "valid_at", "ghi"]]
    periods = {(SAMPLES[0].id, "nsrdb"): 3600}
    refused = {0: 0, 60: 0}
    for begin in pd.date_range("2011-04-20", "2013-12-01", freq="31D", tz="UTC"):
        some = rows[(rows.valid_at >= begin) & (rows.valid_at < begin + pd.Timedelta(days=days))]
        for minutes in refused:
            light = Sunlight()
            light.add(some.assign(valid_at=some.valid_at.dt.tz_localize(None) + pd.Timedelta(minutes=minutes)))
            found = light.findings(SAMPLES, periods, "start")
            refused[minutes] += sunlight.judge(found, "file", []) is not None
    assert refused == {0: 0, 60: 31 - missed}


def test_weather_in_step_with_the_sun_is_loaded_and_so_is_what_somebody_insists_on(
    tmp_path: Path, month: pd.DataFrame
) -> None:
    late = written(tmp_path / "late.csv", month.assign(valid_at=month.valid_at + pd.Timedelta(hours=1)))
    for name, path, mapping, options in (
        ("right", written(tmp_path / "right.csv", month), Mapping(), {}),
        ("said", late, Mapping(label="end"), {}),
        ("insists", late, Mapping(), {"max_bad": 1.0}),
    ):
        lake = Lake(str(tmp_path / name))
        fleet.register(lake, SAMPLES[0])
        assert bring(lake, "weather", path, mapping, **options).loaded == len(month)
        moved = lake.read(RAW_WEATHER).to_pandas(use_threads=False)
        assert (moved.valid_at.min() == month.valid_at.min()) == (name != "insists")


def test_the_hour_that_autumn_has_twice_is_told_by_the_order_of_the_file(lake: Lake, tmp_path: Path) -> None:
    local = ["2024-10-27T01:00:00", "2024-10-27T02:00:00", "2024-10-27T02:00:00", "2024-10-27T03:00:00"]
    rows = pd.DataFrame({"park_id": "roof", "measured_at": local, "power_kw": 0.0})
    zone = Mapping(timezone="Europe/Amsterdam")
    report = bring(lake, "generation", written(tmp_path / "g.csv", rows), zone)
    assert (report.loaded, report.bad) == (4, 0)
    stored = lake.read(RAW_GENERATION).to_pandas()
    assert stored.measured_at.tolist() == list(pd.date_range("2024-10-26T23:00:00Z", periods=4, freq="h"))
    alone = rows.drop(index=2).assign(park_id="roof")
    report = bring(lake, "generation", written(tmp_path / "g.csv", alone), zone)
    assert (report.bad, report.quarantined) == (1, 1)
    assert "which one can't be told" in quarantine.held(lake)[0]["reason"]


def test_what_was_known_when_must_be_said(lake: Lake, tmp_path: Path) -> None:
    path = written(tmp_path / "w.csv", weather())
    with pytest.raises(InvalidInput, match=r"available_at is missing.*--delay 6h"):
        bring(lake, "weather", path, Mapping())
    with pytest.raises(InvalidInput, match=r"run_at is missing.*--observed"):
        bring(lake, "weather", written(path, weather().drop(columns="run_at")))


def test_parks_have_a_history_and_their_slips_are_noted(lake: Lake, tmp_path: Path) -> None:
    later = pd.DataFrame([{**corpus.GOOD["parks"][0], "park_id": "roof", "ac_capacity_kw": "110",
                           "valid_from": "2023-01-01"}])  # fmt: skip
    zone = Mapping(timezone="Europe/Amsterdam")
    assert fleets.run(lake, written(tmp_path / "p.csv", later), zone)[0].loaded == 1
    changed = later.assign(ac_capacity_kw="115")
    with pytest.raises(InvalidInput, match="row 2, valid_from: park 'roof' has other facts"):
        fleets.run(lake, written(tmp_path / "p.csv", changed), zone)
    report, _ = fleets.run(lake, written(tmp_path / "p.csv", changed), zone, correct=True)
    assert report.loaded == 1
    held = fleet.history(lake, "roof")
    assert [entry.park.ac_capacity_kw for entry in held] == [100, 110, 115]
    assert held[-1].park.valid_from == datetime(2022, 12, 31, 23, tzinfo=UTC)
    assert fleet.registered(lake)[0].ac_capacity_kw == 115
    north = later.assign(park_id="north", azimuth_deg="0")
    assert any(
        "counted from south" in note for note in fleets.run(lake, written(tmp_path / "p.csv", north), zone)[0].notes
    )
    south, parks = fleets.run(
        lake, written(tmp_path / "p.csv", north.assign(park_id="s")), Mapping(azimuth="south", timezone="UTC")
    )
    assert parks[0].surface_azimuth == 180
    assert not [note for note in south.notes if "south" in note]


def test_bad_files_and_odd_ones_are_named_and_harm_nothing(tmp_path: Path) -> None:
    chosen = [case for case in corpus.cases(big=False) if " cells" not in case.name and case.kind == "generation"]
    chosen += [
        case for case in corpus.cases(big=False) if case.name in ("weather cells: valid_at", "parks cells: park_id")
    ]
    result = bad_inputs.run(chosen, tmp_path)
    assert result["harmful"] == {}
    assert int(str(result["bad_inputs"])) > 90


@pytest.mark.stack
def test_the_same_import_works_on_s3(infra: Settings, tmp_path: Path) -> None:
    made = wiring.lake(infra.model_copy(update={"lake_uri": f"s3://{infra.s3_bucket}/imported"}))
    facts = {**corpus.GOOD["parks"][0], "park_id": "roof", "export_limit_kw": ""}
    fleets.run(made, written(tmp_path / "parks.csv", pd.DataFrame([facts])), Mapping())
    path = written(tmp_path / "w.csv", weather())
    assert (bring(made, "weather", path).loaded, bring(made, "weather", path).loaded) == (4 * 48, 0)
    assert len(records.load(made, "roof").runs) == 4


@pytest.mark.slow
def test_the_whole_corpus_of_bad_inputs_harms_nothing_in_bounded_memory() -> None:
    result = bad_inputs.measure()
    assert result["harmful"] == {}
    assert int(str(result["bad_inputs"])) >= 500
    assert int(str(result["bad_inputs_peak_rss_mb"])) < 1_000


def test_the_examples_of_the_documentation_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "import.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PVF_LAKE_URI", "./mylake")
    monkeypatch.setenv("PVF_HOME", str(tmp_path / "home"))
    for name, content in re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(content)
    shown = re.findall(r"^\$ pvf (.*)\n((?:(?!\$|```).*\n)*)", text, re.MULTILINE)
    assert len(shown) >= 6
    for words, expected in shown:
        ended = CliRunner().invoke(cli.app, words.split())
        assert ended.exit_code == 0, (words, ended.output, ended.exception)
        for line in expected.splitlines():
            assert line.rstrip() in ended.output, (words, ended.output)
    drawn = CliRunner().invoke(
        cli.app, ["import", "generation", "generation.csv", "--json", "--dry-run", "--plot", "g.png"]
    )
    assert json.loads(drawn.output)["first_bad"] == [{"row": 5, "reason": "power_kw: 'five' is no number"}]
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    assert len(Lake("./mylake").read(PARKS)) == 2
