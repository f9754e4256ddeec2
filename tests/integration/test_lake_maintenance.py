"""Maintenance of the lake: fewer files, less log, and every version that a model names still there, bit for bit."""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvforecast import wiring
from pvforecast.errors import DataError, InvalidInput
from pvforecast.lake import Lake, layout, versions
from pvforecast.lake.maintenance import Policy, maintain
from pvforecast.lake.tables import GENERATION, MAINTENANCE, PARKS, QUARANTINE, RAW_GENERATION, Table, features
from pvforecast.settings import Settings

NAME = GENERATION.name
HARSH = Policy(log_days=0, history_hours=0)
"""Deletes whatever nobody names."""


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.stack)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "folder":
        return Lake(str(tmp_path / "lake"))
    infra: Settings = request.getfixturevalue("infra")
    return wiring.lake(infra.model_copy(update={"lake_uri": f"s3://{infra.s3_bucket}/lake-{uuid.uuid4().hex[:8]}"}))


def hours(n: int, begin: str = "2013-01-30", park: str = "a") -> pd.DataFrame:
    at = pd.date_range(begin, periods=n, freq="h", tz="UTC")
    rows = {"park_id": park, "valid_at": at, "available_at": at + pd.Timedelta(minutes=65), "period_s": np.int32(3600)}
    return pd.DataFrame({**rows, "power_kw": np.arange(n) / 7, "completeness": 1.0})


def fill(lake: Lake, commits: int, begin: str = "2013-01-30") -> None:
    for n in range(commits):
        start = pd.Timestamp(begin) + pd.Timedelta(hours=5 * n)
        lake.append_new(GENERATION, hours(5, str(start)))


def later() -> datetime:
    """All that was written by now is in the past, even for a server whose clock has whole seconds."""
    return datetime.now(UTC) + timedelta(seconds=5)


def files(lake: Lake, table: Table = GENERATION) -> int:
    delta = lake.delta(table)
    assert delta is not None
    return layout.size(delta)[0]


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_a_named_version_is_read_again_exactly_after_everything_else_is_gone(lake: Lake) -> None:
    fill(lake, 30)
    named = versions.reference(lake, NAME, 20, parks=("a",), until=datetime(2013, 2, 2, tzinfo=UTC))
    before = versions.read(lake, named)
    assert len(before) == 72
    for _ in range(2):  # with a checkpoint of its own by then, the log of a named version goes too
        maintain(lake, {NAME: {5, 20}}, later(), HARSH)
        fill(lake, 4, f"2013-0{3 + _}-01")
    assert versions.read(lake, named).equals(before)
    assert len(versions.read(lake, versions.reference(lake, NAME, 5))) == 25
    for gone in (4, 19, 21):
        with pytest.raises(DataError, match=f"no version {gone}, or it is no longer kept"):
            lake.read(GENERATION, version=gone)
    assert len(lake.read(GENERATION)) == 30 * 5 + 2 * 4 * 5


def test_what_is_younger_than_its_history_is_kept_without_being_named(lake: Lake) -> None:
    fill(lake, 8)
    before = lake.read(GENERATION, version=4)
    done = {row["table"]: row for row in maintain(lake, {}, later())}
    assert done[NAME]["files_deleted"] == done[NAME]["log_files_deleted"] == 0
    assert files(lake) == 1 < done[NAME]["files_before"]
    assert lake.read(GENERATION, version=4).equals(before)


def test_without_the_pins_files_are_merged_and_nothing_is_deleted(lake: Lake) -> None:
    fill(lake, 6)
    (done,) = maintain(lake, "Postgres did not answer", later(), HARSH)
    assert done["note"] == "nothing deleted: Postgres did not answer"
    assert files(lake) == 1
    assert [len(lake.read(GENERATION, version=n)) for n in range(7)] == [0, 5, 10, 15, 20, 25, 30]


def test_a_named_version_that_never_was_is_said_and_stops_nothing(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fill(lake, 6)
    (done,) = maintain(lake, {NAME: {3, 9999}, "no/such": {1}}, later(), HARSH)
    assert done["note"] == "no longer there, though a model names them: versions 9999"
    assert done["pinned"] == "3"
    assert len(lake.read(GENERATION, version=3)) == 15


def test_the_newest_versions_stay_readable_back_to_a_checkpoint_before_the_log_s_horizon(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fill(lake, 40)
    log = tmp_path / NAME / "_delta_log"
    delta = lake.delta(GENERATION, 20)
    assert delta is not None
    delta.create_checkpoint()
    for path in log.iterdir():
        if path.name[:20].isdecimal() and int(path.name[:20]) <= 25:
            os.utime(path, (0, time.time() - 40 * 86400))  # all up to here is older than the horizon
    (done,) = maintain(lake, {}, later(), Policy(log_days=30))
    assert done["log_files_deleted"] == 20  # the commits before the checkpoint at 20
    assert [len(lake.read(GENERATION, version=n)) for n in (20, 23, 40)] == [100, 115, 200]
    with pytest.raises(DataError, match="no version 19"):
        lake.read(GENERATION, version=19)


def test_a_file_that_a_killed_writer_left_goes_when_it_is_old_and_not_before(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fill(lake, 1)
    (file,) = (tmp_path / NAME).rglob("*.parquet")
    left = [file.with_name(f"part-0000{n}-left.parquet") for n in range(2)]
    for path in left:
        shutil.copy(file, path)
    os.utime(left[0], (0, time.time() - 8 * 86400))
    maintain(lake, {}, later())
    assert [path.exists() for path in (*left, file)] == [False, True, True]


# --- how many files --------------------------------------------------------------------------------------------------


def test_however_many_commits_a_partition_never_holds_more_than_its_bound(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    most = 0
    for n in range(layout.MOST_SMALL + 15):
        lake.append(RAW_GENERATION, telemetry(n))
        most = max(most, files(lake, RAW_GENERATION))
    assert layout.MOST_SMALL - 1 <= most <= layout.MOST_SMALL + 1
    rows = lake.read(RAW_GENERATION)
    assert rows["power_kw"].to_pylist() == list(range(layout.MOST_SMALL + 15))


def telemetry(n: int) -> pd.DataFrame:
    at = pd.Timestamp("2013-01-02", tz="UTC") + pd.Timedelta(seconds=20 * n)
    row = {"park_id": "a", "inverter_id": "1", "measured_at": at, "received_at": at, "period_s": np.int32(20)}
    return pd.DataFrame([{**row, "power_kw": float(n), "source": "mqtt"}])


def test_merging_that_fails_does_not_fail_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(layout, "MOST_SMALL", 2)
    monkeypatch.setattr(layout.tidy, "__defaults__", (2,))
    lake = Lake(str(tmp_path))
    for n in range(2):
        lake.append(RAW_GENERATION, telemetry(n))
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()  # what it would merge is not there
    assert lake.append(RAW_GENERATION, telemetry(2)) == 1
    assert "small files of" in caplog.text
    assert lake.version(RAW_GENERATION) == 3


# --- retention, record -----------------------------------------------------------------------------------------------


def test_raw_months_beyond_their_retention_go_whole_and_processed_rows_stay(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for day in ("2013-01-31", "2013-02-01", "2013-06-01"):
        at = pd.Timestamp(day, tz="UTC")
        lake.append(RAW_GENERATION, telemetry(0).assign(measured_at=at, received_at=at))
    lake.append_new(GENERATION, hours(5, "2012-01-01"))
    now = datetime(2013, 6, 1, tzinfo=UTC)
    done = {row["table"]: row for row in maintain(lake, {}, now, Policy(raw_days=100))}
    assert done["raw/generation"]["rows_expired"] == 1
    assert [str(at)[:10] for at in lake.read(RAW_GENERATION)["measured_at"].to_pylist()] == ["2013-02-01", "2013-06-01"]
    assert len(lake.read(GENERATION)) == 5
    with pytest.raises(InvalidInput, match="PVF_RAW_RETENTION_DAYS: 10 days"):
        Policy(raw_days=10)


def test_quarantine_goes_by_the_row(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fields = dict.fromkeys(("table", "park_id", "source", "origin", "reason", "payload"), "x")
    for n, day in enumerate(("2013-01-01", "2013-05-30")):
        row = {**fields, "id": str(n), "state": "held", "at": pd.Timestamp(day, tz="UTC")}
        lake.append_new(QUARANTINE, pd.DataFrame([row]))
    maintain(lake, {}, datetime(2013, 6, 1, tzinfo=UTC), Policy(quarantine_days=30))
    assert lake.read(QUARANTINE)["id"].to_pylist() == ["1"]


def test_what_was_done_is_written_down_and_a_table_that_fails_stops_no_other(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fill(lake, 3)
    row = {
        "park_id": "a",
        "facts": "{}",
        "valid_from": pd.Timestamp(0, tz="UTC"),
        "recorded_at": pd.Timestamp(0, tz="UTC"),
    }
    for n in range(2):
        lake.append(PARKS, pd.DataFrame([{**row, "recorded_at": pd.Timestamp(n, tz="UTC")}]))
    for file in (tmp_path / PARKS.name).glob("*.parquet"):
        file.unlink()
    now = later()
    done = {row["table"]: row for row in maintain(lake, {}, now)}
    assert done["raw/parks"]["note"].startswith("failed: ")
    assert done[NAME]["note"] == ""
    stored = lake.read(MAINTENANCE).to_pylist()
    assert [(row["table"], row["at"], row["files_before"]) for row in stored] == [
        (NAME, now, 3),
        ("raw/parks", now, 2),
    ]


def test_tables_of_before_are_told_to_leave_their_log_alone(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fill(lake, 1)
    delta = lake.delta(GENERATION)
    assert delta is not None
    delta.alter.set_table_properties({"delta.enableExpiredLogCleanup": "true"})
    maintain(lake, {}, later())
    delta = lake.delta(GENERATION)
    assert delta is not None
    assert delta.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"


# --- beside others ---------------------------------------------------------------------------------------------------


def test_readers_and_writers_beside_maintenance_never_see_an_error(lake: Lake) -> None:
    fill(lake, 10)
    stop, errors, stored = threading.Event(), [], 50
    seen: list[list[int]] = [[], []]  # of each reader

    def read(counts: list[int]) -> None:
        while not stop.is_set():
            try:
                counts.append(len(lake.read(GENERATION)))
            except Exception as error:  # noqa: BLE001 - any is the finding
                errors.append(error)

    readers = [threading.Thread(target=read, args=(counts,)) for counts in seen]
    for reader in readers:
        reader.start()
    for n in range(3):
        stored += lake.append_new(GENERATION, hours(5, str(pd.Timestamp("2014-01-01") + pd.Timedelta(days=n))))
        maintain(lake, {}, later(), HARSH)  # nothing is kept but what is current
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert all(counts == sorted(counts) for counts in seen)
    assert all(len(counts) > 1 for counts in seen)
    assert len(lake.read(GENERATION)) == stored == 65


def test_features_are_maintained_whatever_their_columns(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for names in (("ghi",), ("ghi", "poa")):
        for park in ("a", "b", "c"):
            at = pd.date_range("2013-01-01", periods=3, freq="h", tz="UTC")
            rows = pd.DataFrame({"park_id": park, "issued_at": at, "valid_at": at, "target": 0.5})
            lake.replace_park(features(names), park, rows.assign(**dict.fromkeys(names, np.float32(1))))
    assert maintain(lake, {"features": {3}}, later(), HARSH)[-1]["table"] == "features"
    named = versions.reference(lake, "features", 3, parks=("a", "b"))
    assert versions.read(lake, named).column_names == ["park_id", "issued_at", "valid_at", "target", "ghi"]
    assert len(versions.read(lake, named)) == 6
