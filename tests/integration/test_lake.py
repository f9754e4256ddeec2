"""The lake in a local folder and on SeaweedFS: what is written once stays, whoever else writes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from pvforecast import features as fx
from pvforecast import fleet, wiring
from pvforecast.errors import DataError, NotReady, UnknownPark
from pvforecast.lake import Lake, records
from pvforecast.lake.store import s3_options
from pvforecast.lake.tables import (
    BUCKETS,
    CLOCKS,
    GENERATION,
    PARKS,
    QUARANTINE,
    RAW_GENERATION,
    RAW_WEATHER,
    WEATHER,
    Table,
    bucket_of,
    features,
)
from pvforecast.settings import Settings, to_env
from pvforecast.sources.pvdaq_samples import PARKS as SAMPLES

ROOT = Path(__file__).resolve().parents[2]
EVERY_TABLE = (PARKS, RAW_WEATHER, RAW_GENERATION, WEATHER, GENERATION, QUARANTINE, CLOCKS, features(("ghi", "poa")))


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.stack)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return wiring.lake(lake_settings(request, tmp_path))


def lake_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A lake of its own for one test."""
    if request.param == "folder":
        return Settings(lake_uri=str(tmp_path / "lake"))
    infra: Settings = request.getfixturevalue("infra")
    return infra.model_copy(update={"lake_uri": f"s3://{infra.s3_bucket}/lake-{uuid.uuid4().hex[:8]}"})


def hours(park: str, n: int, power: float = 1.0, begin: str = "2013-01-30") -> pd.DataFrame:
    """`n` hours of a park, over the end of a month."""
    valid_at = pd.date_range(begin, periods=n, freq="h", tz="UTC")
    rows = {
        "park_id": park, "valid_at": valid_at, "period_s": np.int32(3600),
        "available_at": valid_at + pd.Timedelta(minutes=65),
    }  # fmt: skip
    return pd.DataFrame({**rows, "power_kw": power + np.arange(n) / 1000, "completeness": 1.0})


# --- appending -------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(lake: Lake) -> None:
    assert lake.append_new(GENERATION, hours("a", 72)) == 72
    back = lake.read(GENERATION, park_id="a").to_pandas(use_threads=False).sort_values("valid_at", ignore_index=True)
    pd.testing.assert_frame_equal(back[[*hours("a", 1)]], hours("a", 72), check_dtype=False)
    assert back[[*GENERATION.optional]].isna().all(axis=None)
    assert back.valid_at.dt.month.nunique() == 2


def test_what_is_delivered_twice_is_stored_once(lake: Lake) -> None:
    assert lake.append_new(GENERATION, hours("a", 48)) == 48
    version = lake.version(GENERATION)
    assert lake.append_new(GENERATION, hours("a", 72)) == 24
    assert lake.append_new(GENERATION, hours("a", 72, power=9.0)) == 0  # the key decides, not the value
    assert lake.append_new(GENERATION, pd.concat([hours("a", 73), hours("a", 73)])) == 1
    stored = lake.read(GENERATION, park_id="a")
    assert len(stored) == 73
    assert pc.max(stored["power_kw"]).as_py() < 2
    assert lake.version(GENERATION) > version
    assert lake.append_new(GENERATION, hours("a", 0)) == 0


def test_parks_of_one_bucket_keep_apart(lake: Lake) -> None:
    names = [f"park-{i}" for i in range(30)]
    same = [name for name in names if bucket_of(name) == bucket_of(names[0])][:2]
    assert len(same) == 2
    for name, n in zip(same, (3, 5), strict=True):
        lake.append_new(GENERATION, hours(name, n))
    assert [len(lake.read(GENERATION, park_id=name)) for name in (*same, "nobody")] == [3, 5, 0]
    assert len(lake.read(GENERATION)) == 8
    assert {bucket_of(name) for name in names} <= set(range(BUCKETS))


def test_a_read_may_ask_for_columns_and_for_a_period(lake: Lake) -> None:
    lake.append_new(GENERATION, hours("a", 48))
    begin, end = datetime(2013, 1, 30, 23, tzinfo=UTC), datetime(2013, 1, 31, 2, tzinfo=UTC)
    found = lake.read(GENERATION, park_id="a", columns=["power_kw"], during=("valid_at", begin, end))
    assert found.column_names == ["power_kw"]
    assert found["power_kw"].to_pylist() == [1.023, 1.024, 1.025]  # from `begin`, before `end`
    west = timezone(timedelta(hours=-7))
    same = lake.read(GENERATION, during=("valid_at", begin.astimezone(west), end.astimezone(west)))
    assert same["power_kw"] == found["power_kw"]
    assert len(lake.read(GENERATION, during=("valid_at", end, end))) == 0


def test_rows_are_in_the_order_of_their_key_however_they_lie_in_files(lake: Lake) -> None:
    shuffled = hours("a", 60).sample(frac=1, random_state=1)
    for part in (shuffled[40:], shuffled[:20], hours("0", 3), shuffled[20:40]):
        lake.append_new(GENERATION, part)
    rows = lake.read(GENERATION).to_pandas(use_threads=False)
    pd.testing.assert_frame_equal(rows, rows.sort_values(["park_id", "valid_at", "available_at"], ignore_index=True))
    assert len(rows) == 63


def test_a_name_is_a_name_and_not_a_query(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for park in ("o'hara", "x' OR 'a' = 'a", '"'):
        lake.append_new(GENERATION, hours(park, 2))
    assert [len(lake.read(GENERATION, park_id=park)) for park in ("o'hara", "x' OR 'a' = 'a", '"')] == [2, 2, 2]
    lake.replace_park(features(("ghi_+1h",)), "o'hara", feature_rows("o'hara", 2, 1.0).assign(**{"ghi_+1h": 1.0}))
    assert lake.read(features(("ghi_+1h",)), park_id="o'hara")["ghi_+1h"].to_pylist() == [1.0, 1.0]


def test_a_lost_file_is_an_error_that_names_the_table(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.append_new(GENERATION, hours("a", 2))
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(NotReady, match="processed/generation"):
        lake.read(GENERATION)


def test_a_table_that_does_not_exist_yet_is_empty_and_has_its_columns(lake: Lake) -> None:
    for table in EVERY_TABLE:
        nothing = lake.read(table)
        assert len(nothing) == 0
        assert nothing.column_names == [name for name in table.schema.names if name not in table.partitions]
        assert lake.version(table) == -1
    with pytest.raises(UnknownPark, match="no park 'a' in the lake"):
        records.load(lake, "a")


# --- replacing and time travel ---------------------------------------------------------------------------------------


def feature_rows(park: str, n: int, value: float) -> pd.DataFrame:
    rows = hours(park, n)[["park_id", "valid_at"]].assign(target=value, ghi=np.float32(value), poa=np.float32(1))
    return rows.assign(issued_at=rows.valid_at)


def test_a_park_is_replaced_alone_and_the_old_version_stays_readable(lake: Lake) -> None:
    table = features(("ghi", "poa"))
    same_bucket = next(n for n in (f"b{i}" for i in range(99)) if bucket_of(n) == bucket_of("a"))
    for park in ("a", same_bucket):
        lake.replace_park(table, park, feature_rows(park, 40, 1.0))
    before = lake.version(table)
    lake.replace_park(table, "a", feature_rows("a", 10, 2.0), metadata={"spec": "0123"})
    assert lake.version(table) == before + 1
    assert set(lake.read(table, park_id="a")["target"].to_pylist()) == {2.0}
    assert len(lake.read(table, park_id="a")) == 10
    assert len(lake.read(table, park_id=same_bucket)) == 40
    old = lake.read(table, park_id="a", version=before)
    assert (len(old), set(old["target"].to_pylist())) == (40, {1.0})


def test_a_feature_more_is_a_new_column_and_old_versions_lack_it(lake: Lake) -> None:
    lake.replace_park(features(("ghi",)), "a", feature_rows("a", 3, 1.0))
    lake.replace_park(features(("ghi", "poa")), "a", feature_rows("a", 3, 1.0))
    assert lake.read(features(("ghi", "poa")), park_id="a")["poa"].to_pylist() == [1.0] * 3
    assert lake.read(features(("ghi",)), park_id="a", version=1).column_names[-1] == "ghi"
    with pytest.raises(DataError, match="features: version 1 has no poa"):
        lake.read(features(("ghi", "poa")), park_id="a", version=1)


def test_features_keep_their_bits(lake: Lake) -> None:
    bits = np.array([0, 1, 0x7FC00000, 0x80000000, 0x3DCCCCCD], np.uint32).view(np.float32)
    lake.replace_park(features(("ghi", "poa")), "a", feature_rows("a", 5, 0.0).assign(ghi=bits))
    back = lake.read(features(("ghi", "poa")), park_id="a").to_pandas(use_threads=False).sort_values("valid_at")
    np.testing.assert_array_equal(back.ghi.to_numpy().view(np.uint32), bits.view(np.uint32))


# --- contracts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["valid_at", "available_at"])
@pytest.mark.parametrize("zone", [None, "America/Denver"])
def test_times_that_are_not_utc_are_refused_by_name(tmp_path: Path, column: str, zone: str | None) -> None:
    lake = Lake(str(tmp_path))
    rows = hours("a", 3)
    rows[column] = rows[column].dt.tz_convert(zone)
    with pytest.raises(DataError, match=rf"processed/generation\.{column}: times must be UTC"):
        lake.append_new(GENERATION, rows)
    assert lake.version(GENERATION) == -1  # nothing half written


def test_times_of_tables_without_a_partition_must_be_utc_too(tmp_path: Path) -> None:
    row = {
        "park_id": "a",
        "valid_from": pd.Timestamp("2013-01-01"),
        "recorded_at": pd.Timestamp("2013-01-01", tz="UTC"),
        "facts": "{}",
    }
    with pytest.raises(DataError, match=r"raw/parks\.valid_from: times must be UTC"):
        Lake(str(tmp_path)).append_new(PARKS, pd.DataFrame([row]))


@pytest.mark.parametrize("column", ["power_kw", "valid_at", "park_id", "completeness"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"processed/generation: columns missing: {column}"):
        Lake(str(tmp_path)).append_new(GENERATION, hours("a", 3).drop(columns=column))


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="processed/generation: rows do not fit the table"):
        Lake(str(tmp_path)).append_new(GENERATION, hours("a", 3).assign(power_kw="a lot"))


def test_an_unknown_column_is_left_out(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    lake.append_new(GENERATION, hours("a", 3).assign(colour="blue"))
    assert "colour" not in lake.read(GENERATION).column_names


def test_a_dead_server_is_said_in_one_line_within_seconds() -> None:
    gone = Lake("s3://pvf/lake", s3_options("http://127.0.0.1:9", "key", "secret"))
    begin = time.monotonic()
    for attempt in (lambda: gone.read(GENERATION), lambda: gone.append_new(GENERATION, hours("a", 1))):
        with pytest.raises(NotReady, match=r"processed/generation.*127\.0\.0\.1:9.*object store running") as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "\x1b" not in str(caught.value)
    assert time.monotonic() - begin < 10


# --- many at once ----------------------------------------------------------------------------------------------------

WRITERS, COMMITS, ROWS = 6, 2, 20
WRITER = textwrap.dedent("""
    import os, sys
    import numpy as np, pandas as pd
    from pvforecast import wiring
    from pvforecast.lake.tables import GENERATION
    from pvforecast.settings import load

    children = []
    for writer in range(6):
        child = os.fork()
        if child:
            children.append(child)
            continue
        lake, stored = wiring.lake(load()), 0
        for commit in range(2):
            start = pd.Timestamp("2013-01-30", tz="UTC") + pd.Timedelta(hours=20 * commit)
            at = pd.date_range(start, periods=20, freq="h")
            rows = {"park_id": f"park-{writer}", "valid_at": at, "available_at": at}
            rows |= {"period_s": 3600, "completeness": 1.0}
            stored += lake.append_new(GENERATION, pd.DataFrame({**rows, "power_kw": 1.0}))
            stored += lake.append_new(GENERATION, pd.DataFrame({**rows, "park_id": "shared", "power_kw": 1.0}))
        print(stored, flush=True)
        os._exit(0)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(any(codes))
""")


@pytest.mark.parametrize("place", ["folder", pytest.param("s3", marks=pytest.mark.stack)])
def test_six_processes_that_write_at_once_lose_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writes rows of its own, and all of them the same rows: those are stored once."""
    request.param = place
    settings = lake_settings(request, tmp_path)
    for name, value in to_env(settings).items():
        monkeypatch.setenv(name, value)
    ended = subprocess.run([sys.executable, "-c", WRITER], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-2000:]
    lake = wiring.lake(settings)
    rows = lake.read(GENERATION).to_pandas(use_threads=False)
    counts = rows.groupby("park_id").size()
    assert counts.to_dict() == {**{f"park-{i}": COMMITS * ROWS for i in range(WRITERS)}, "shared": COMMITS * ROWS}
    assert not rows.duplicated(["park_id", "valid_at"]).any()
    assert sum(map(int, ended.stdout.split())) == len(rows)  # what each was told it stored is true


def test_threads_that_create_a_table_at_once_lose_nothing(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    threads = [threading.Thread(target=lake.append_new, args=(GENERATION, hours(f"p{i}", 5))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lake.read(GENERATION)) == 20


def test_short_processes_that_read_always_end_well(tmp_path: Path) -> None:
    """Other ways of reading a Delta table die at exit now and then, see `pvforecast.lake.store`: too rarely for thirty
    processes to show each time, so what makes them die is looked for as well."""
    Lake(str(tmp_path)).append_new(GENERATION, hours("a", 24 * 400))
    ended = subprocess.run(
        [sys.executable, "-c", READERS, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    *read, codes = ended.stdout.splitlines()
    assert codes == str([0] * 30), ended.stderr[-2000:]
    assert set(read) == {"9600 rows False"}


# Thirty processes, two at a time; each ends as a program does, through the interpreter's own end.
READERS = textwrap.dedent("""
    import os, sys
    from pvforecast.lake import Lake
    from pvforecast.lake.tables import GENERATION

    codes, running = [], 0
    for _ in range(30):
        if running == 2:
            codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
            running -= 1
        if os.fork() == 0:
            rows = Lake(sys.argv[1]).read(GENERATION, park_id="a").to_pandas(use_threads=False)
            # deltalake.fs is what calls back into Python from threads that outlive the read
            os.write(1, f"{len(rows)} rows {'deltalake.fs' in sys.modules}\\n".encode())
            sys.exit(0)
        running += 1
    codes += [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(running)]
    print(codes)
""")


# --- records ---------------------------------------------------------------------------------------------------------


def weather(run: str, available: str, ghi: float, n: int = 4, source: str = "nwp") -> pd.DataFrame:
    run_at = pd.Timestamp(run, tz="UTC")
    rows = pd.DataFrame({"valid_at": pd.date_range(run_at, periods=n, freq="h")[::-1]})  # in any order
    rows = rows.assign(park_id="a", source=source, run_at=run_at, available_at=pd.Timestamp(available, tz="UTC"))
    return rows.assign(ghi=ghi + np.arange(n)[::-1], period_s=np.int32(3600))


def test_a_record_is_sorted_runs_and_hours_with_when_each_was_known(lake: Lake) -> None:
    park = SAMPLES[0].model_copy(update={"id": "a"})
    fleet.register(lake, park)
    lake.append_new(GENERATION, hours("a", 5))
    version = lake.version(GENERATION)
    correction = hours("a", 5, power=7.0).iloc[2:3]
    correction["available_at"] += pd.Timedelta(days=2)
    lake.append_new(GENERATION, correction)
    lake.append_new(WEATHER, weather("2013-01-30T06:00", "2013-01-30T09:00", 60))
    lake.append_new(WEATHER, weather("2013-01-30T00:00", "2013-01-30T03:00", 10))
    lake.append_new(WEATHER, weather("2013-01-30T00:00", "2013-01-30T03:00", 20, source="other"))

    record = records.load(lake, "a")
    assert record.site == park.site()
    assert list(record.power_kw) == [1.0, 1.001, 1.002, 7.002, 1.003, 1.004]
    assert (np.diff(record.valid_at).astype(int) >= 0).all()
    assert [(run.source, str(run.run_at)[11:13], list(run.variables["ghi"])) for run in record.runs] == [
        ("nwp", "00", [10, 11, 12, 13]),
        ("other", "00", [20, 21, 22, 23]),
        ("nwp", "06", [60, 61, 62, 63]),
    ]
    assert all((np.diff(run.valid_at) == fx.HOUR).all() for run in record.runs)

    early = np.datetime64("2013-01-30T05:00", "s")
    known = record.known_at(early)
    assert str(known.weather.run_at)[11:13] == "00"  # type: ignore[union-attr]
    assert list(known.history.power_kw) == [
        1.0,
        1.001,
        1.002,
        1.003,
    ]  # the hour that just ended comes five minutes later
    as_it_was = records.load(lake, "a", versions={"processed/generation": version})
    assert list(as_it_was.power_kw) == [1.0, 1.001, 1.002, 1.003, 1.004]


def test_every_table_has_a_key_of_its_columns() -> None:
    for table in EVERY_TABLE:
        assert isinstance(table, Table)
        assert set(table.key) <= set(table.schema.names)
        assert len({table.name for table in EVERY_TABLE}) == len(EVERY_TABLE)
