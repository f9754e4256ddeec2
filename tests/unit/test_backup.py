"""Backups of files between folders: what they hold, what they refuse, what is left after being cut off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from pvf.backup import wiring
from pvf.backup.archive import Archive, Sources
from pvf.backup.places import Folder
from pvforecast.errors import DataError, InvalidInput
from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS
from pvforecast.settings import Settings

MONDAY = datetime(2024, 6, 3, 12, tzinfo=UTC)
SUNDAY = MONDAY + timedelta(days=6)


class Counting(Folder):
    """Says what was read from it; can lose files while it is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[str] = []
        self.vanishing: set[str] = set()

    def get(self, key: str) -> bytes:
        self.read.append(key)
        if key in self.vanishing:
            raise KeyError(key)
        return super().get(key)


@pytest.fixture
def source(tmp_path: Path) -> Counting:
    place = Counting(tmp_path / "lake")
    for key in ("parks/_delta_log/0.json", "parks/a.parquet", "parks/b.parquet"):
        place.put(key, key.encode())
    return place


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(Folder(tmp_path / "backups"))


def of(place: Folder) -> Sources:
    return Sources({"lake": place}, {})


def content(place: Folder) -> dict[str, bytes]:
    return {key: place.get(key) for key, _mark in place.marks()}


def test_what_was_there_comes_back(archive: Archive, source: Counting, tmp_path: Path) -> None:
    made = archive.create(of(source), MONDAY)
    there = Folder(tmp_path / "again")
    archive.restore(archive.find("latest"), of(there))
    assert content(there) == content(source)
    assert made.id == "20240603T120000Z"


def test_a_table_of_the_lake_comes_back_as_a_table(archive: Archive, tmp_path: Path) -> None:
    began = pd.Timestamp("2024-01-01", tz="UTC")
    row = {"park_id": "north", "valid_from": began, "recorded_at": began, "facts": "{}"}
    Lake(str(tmp_path / "real")).append_new(PARKS, pd.DataFrame([row]))
    archive.create(of(Folder(tmp_path / "real")), MONDAY)
    archive.restore(archive.find("latest"), of(Folder(tmp_path / "again")))
    assert Lake(str(tmp_path / "again")).read(PARKS).equals(Lake(str(tmp_path / "real")).read(PARKS))


def test_what_points_is_read_first(archive: Archive, source: Counting) -> None:
    archive.create(of(source), MONDAY)
    assert source.read[0] == "parks/_delta_log/0.json"


def test_within_a_week_only_what_is_new_is_read(archive: Archive, source: Counting, tmp_path: Path) -> None:
    archive.create(of(source), MONDAY)
    source.put("parks/c.parquet", b"new")
    source.read.clear()
    archive.create(of(source), SUNDAY)
    assert source.read == ["parks/c.parquet"]
    archive.restore(archive.find("latest"), of(Folder(tmp_path / "again")))
    assert (tmp_path / "again" / "parks" / "a.parquet").read_bytes() == b"parks/a.parquet"


def test_a_new_week_begins_with_a_full_copy(archive: Archive, source: Counting) -> None:
    archive.create(of(source), SUNDAY)
    source.read.clear()
    archive.create(of(source), SUNDAY + timedelta(days=1))
    assert len(source.read) == 3


def test_a_data_file_that_vanishes_meanwhile_is_left_out(archive: Archive, source: Counting) -> None:
    source.vanishing = {"parks/b.parquet"}
    assert sorted(archive.create(of(source), MONDAY).places["lake"]) == ["parks/_delta_log/0.json", "parks/a.parquet"]


def test_a_log_with_a_gap_is_no_backup(archive: Archive, source: Counting) -> None:
    source.vanishing = {"parks/_delta_log/0.json"}
    with pytest.raises(DataError, match="vanished"):
        archive.create(of(source), MONDAY)
    assert list(archive.manifests()) == []


def test_a_full_place_is_only_replaced_when_told(archive: Archive, source: Counting, tmp_path: Path) -> None:
    archive.create(of(source), MONDAY)
    source.put("parks/_delta_log/1.json", b"later, naming what the backup has not")
    with pytest.raises(InvalidInput, match="not empty"):
        archive.restore(archive.find("latest"), of(source))
    assert (tmp_path / "lake" / "parks" / "_delta_log" / "1.json").exists()
    archive.restore(archive.find("latest"), of(source), replace=True)
    assert not (tmp_path / "lake" / "parks" / "_delta_log" / "1.json").exists()


def test_damage_is_found_before_a_byte_is_restored_to_the_file(
    archive: Archive, source: Counting, tmp_path: Path
) -> None:
    made = archive.create(of(source), MONDAY)
    digest = made.places["lake"]["parks/a.parquet"].sha256
    blob = tmp_path / "backups" / "files" / made.week / digest[:2] / digest
    blob.write_bytes(b"rotten")
    with pytest.raises(DataError, match=r"parks/a.parquet: .*damaged"):
        archive.verify(made)
    with pytest.raises(DataError, match="damaged"):
        archive.restore(made, of(Folder(tmp_path / "again")))
    blob.unlink()
    with pytest.raises(DataError, match="missing"):
        archive.verify(made)


def test_cut_off_before_its_manifest_it_is_none(archive: Archive, source: Counting, tmp_path: Path) -> None:
    made = archive.create(of(source), MONDAY)
    (tmp_path / "backups" / "backups" / made.id / "manifest.json").unlink()
    with pytest.raises(InvalidInput, match="no backup yet"):
        archive.find("latest")
    with pytest.raises(InvalidInput, match="no backup '20240603T120000Z'"):
        archive.find(made.id)


def test_pruning_spares_the_newest_and_what_it_needs(archive: Archive, source: Counting, tmp_path: Path) -> None:
    for days in (0, 1, 7, 8):
        archive.create(of(source), MONDAY + timedelta(days=days))
    now = MONDAY + timedelta(days=100)
    assert len(archive.prune(now, timedelta(days=93))) == 2
    assert len(archive.prune(now, timedelta(days=1))) == 1
    assert [one.id for one in archive.manifests()] == ["20240611T120000Z"]
    archive.verify(archive.find("latest"))
    assert [path.name for path in (tmp_path / "backups" / "files").iterdir() if any(path.rglob("*.*"))] == []
    assert sum(1 for path in (tmp_path / "backups" / "files" / "2024-23").rglob("*") if path.is_file()) == 0


def test_a_backup_inside_its_own_bucket_is_refused() -> None:
    settings = Settings(s3_endpoint="http://127.0.0.1:1", s3_bucket="pvf")
    with pytest.raises(InvalidInput, match="PVF_BACKUP_URI"):
        wiring.target(settings, "s3://pvf/backups")
    with pytest.raises(InvalidInput, match="no place for backups"):
        wiring.target(settings, "")
