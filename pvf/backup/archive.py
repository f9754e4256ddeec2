"""Backups at one place: made, listed, verified, restored, pruned.

    backups/<id>/manifest.json       what is in it; written last, so that a backup that was cut off is none
    backups/<id>/<database>.dump
    files/<week>/ab/ab12...          content by digest, shared by the backups of one week

Every week begins with a full copy. So a store may delete all that is older than its retention and a week, or refuse to
delete all that is younger: no backup leans on anything more than a week older.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pvf.backup import files, postgres
from pvf.backup.files import Stored
from pvf.backup.places import Place
from pvforecast.errors import DataError, InvalidInput

FORMAT = 1
_STAMP = "%Y%m%dT%H%M%SZ"

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Sources:
    """What is backed up: places and databases (libpq URLs) by name."""

    places: Mapping[str, Place]
    databases: Mapping[str, str]


@dataclass(frozen=True)
class Manifest:
    """What one backup holds."""

    id: str
    week: str
    seconds: float
    places: Mapping[str, Mapping[str, Stored]]
    databases: Mapping[str, Stored]

    @property
    def count(self) -> int:
        return sum(map(len, self.places.values()))

    @property
    def size(self) -> int:
        stored = [one for place in self.places.values() for one in place.values()]
        return sum(one.size for one in (*stored, *self.databases.values()))


class Archive:
    """All backups at one place."""

    def __init__(self, place: Place, say: Say = lambda _line: None) -> None:
        self._place = place
        self._say = say

    def create(self, sources: Sources, now: datetime) -> Manifest:
        """Databases first: the files they name were written before, and nothing that is named is removed at once."""
        started = time.monotonic()
        year, week, _ = now.isocalendar()
        name, folder = now.astimezone(UTC).strftime(_STAMP), f"{year}-{week:02d}"
        last = next((one for one in self.manifests() if one.week == folder), None)
        dumps = {}
        for database, dsn in sources.databases.items():
            with tempfile.TemporaryDirectory() as scratch:
                file = Path(scratch, f"{database}.dump")
                postgres.dump(dsn, file)
                self._place.put_file(f"backups/{name}/{file.name}", file)
                dumps[database] = Stored("", _digest(file), file.stat().st_size)
            self._say(f"database {database}: {dumps[database].size / 1e6:.1f} MB")
        places = {}
        for source, place in sources.places.items():
            known = last.places.get(source, {}) if last else {}
            places[source] = files.copy(place, self._place, f"files/{folder}", known)
            fresh = sum(1 for key, stored in places[source].items() if known.get(key) != stored)
            self._say(f"{source}: {len(places[source])} files, {fresh} of them new")
        manifest = Manifest(name, folder, round(time.monotonic() - started, 1), places, dumps)
        self._place.put(f"backups/{name}/manifest.json", _encode(manifest))
        return manifest

    def manifests(self) -> Iterator[Manifest]:
        """Every whole backup, newest first."""
        keys = [key for key, _mark in self._place.marks("backups/") if key.endswith("/manifest.json")]
        for key in sorted(keys, reverse=True):
            yield _decode(self._place.get(key), key)

    def find(self, name: str) -> Manifest:
        """A backup by its id, or the newest by `latest`."""
        if name == "latest":
            newest = next(self.manifests(), None)
            if newest is None:
                raise InvalidInput("there is no backup yet", field="backup", hint="pvf backup create")
            return newest
        key = f"backups/{name}/manifest.json"
        try:
            return _decode(self._place.get(key), key)
        except KeyError as error:
            raise InvalidInput(f"there is no backup {name!r}", field="backup", hint="see pvf backup list") from error

    def verify(self, manifest: Manifest) -> None:
        """Read all of it and hold it against its digests; raises DataError naming the first that is wrong."""
        with tempfile.TemporaryDirectory() as scratch:
            for database in manifest.databases:
                self._dump(manifest, database, Path(scratch)).unlink()
        for place in manifest.places.values():
            for key, stored in place.items():
                files.read(self._place, f"files/{manifest.week}", stored, key)

    def restore(self, manifest: Manifest, sources: Sources, *, replace: bool = False) -> None:
        """Files first, then databases. What is there already is only replaced when told to."""
        places = {name: _known(name, sources.places) for name in manifest.places}
        databases = {name: _known(name, sources.databases) for name in manifest.databases}
        if not replace:
            full = [name for name, place in places.items() if not files.is_empty(place)]
            full += [name for name, dsn in databases.items() if not postgres.is_empty(dsn)]
            if full:
                raise InvalidInput(
                    "it is not empty", field=", ".join(full), hint="--replace puts the backup in its place"
                )
        with tempfile.TemporaryDirectory() as scratch:
            dumps = {name: self._dump(manifest, name, Path(scratch)) for name in databases}
            for name, place in places.items():
                files.restore(manifest.places[name], self._place, f"files/{manifest.week}", place)
                self._say(f"{name}: {len(manifest.places[name])} files")
            for name, dsn in databases.items():
                postgres.restore(dsn, dumps[name])
                self._say(f"database {name}")

    def prune(self, now: datetime, keep: timedelta) -> list[str]:
        """Remove backups older than `keep`, and files that none needs any more; the newest always stays."""
        everything = list(self.manifests())
        gone = [one for one in everything[1:] if now - _instant(one.id) > keep]
        weeks = {one.week for one in everything if one not in gone}
        for manifest in gone:
            # The manifest first: what is half removed is then no backup any more.
            self._place.remove(f"backups/{manifest.id}/manifest.json")
            for database in manifest.databases:
                self._place.remove(f"backups/{manifest.id}/{database}.dump")
        for week in {one.week for one in gone} - weeks:
            for key, _mark in list(self._place.marks(f"files/{week}/")):
                self._place.remove(key)
        return [one.id for one in gone]

    def _dump(self, manifest: Manifest, database: str, folder: Path) -> Path:
        """The dump as a file of `folder`, held against its digest."""
        key, file = f"backups/{manifest.id}/{database}.dump", folder / f"{database}.dump"
        try:
            self._place.get_file(key, file)
        except KeyError as error:
            raise DataError("it is missing in the backup", field=key, hint="restore an earlier one") from error
        if _digest(file) != manifest.databases[database].sha256:
            raise DataError("its content in the backup is damaged", field=key, hint="restore an earlier one")
        return file


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _known(name: str, sources: Mapping[str, T]) -> T:
    if name not in sources:
        hint = "set what it belongs to: PVF_S3_ENDPOINT, PVF_LAKE_URI, PVF_POSTGRES_DSN, PVF_MLFLOW_DSN"
        raise InvalidInput("the backup has it, and these settings have no place for it", field=name, hint=hint)
    return sources[name]


def _encode(manifest: Manifest) -> bytes:
    return json.dumps({"format": FORMAT, **asdict(manifest)}, sort_keys=True).encode()


def _decode(data: bytes, key: str) -> Manifest:
    content = json.loads(data)
    if content.pop("format", None) != FORMAT:
        raise DataError(
            "it was written by another version of the platform", field=key, hint="restore with that version"
        )
    places = {
        name: {file: Stored(**stored) for file, stored in place.items()} for name, place in content["places"].items()
    }
    dumps = {name: Stored(**stored) for name, stored in content["databases"].items()}
    return Manifest(content["id"], content["week"], content["seconds"], places, dumps)


def _instant(name: str) -> datetime:
    return datetime.strptime(name, _STAMP).replace(tzinfo=UTC)
