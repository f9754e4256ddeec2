"""Files to a backup and back, so that what points to others is never ahead of what it points to.

A backup is taken beside running writers. Read first is what points (the logs of Delta tables, pointers to snapshots and
bundles), then all the rest: whatever the pointers name was written before them. Written back in the other order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pvf.backup.places import Place
from pvforecast.errors import DataError

_POINTS = re.compile(r"(^|/)_delta_log/|(^|/)snapshots/(latest|index)/|(^|/)deployed\.json$")
_NOT_OURS = re.compile(r"^\.stack/")  # probes of the local stack's start
_THREADS = 8
_TRIES = 5

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Stored:
    """A file of a backup: the mark it had at its source, the digest of its content, its size in bytes."""

    mark: str
    sha256: str
    size: int


def copy(source: Place, blobs: Place, folder: str, known: Mapping[str, Stored]) -> dict[str, Stored]:
    """All files of `source` as blobs below `folder`; those `known` with the same mark are there already."""

    def keep(item: tuple[str, str]) -> tuple[str, Stored] | None:
        key, mark = item
        if key in known and known[key].mark == mark:
            return key, known[key]
        try:
            data = source.get(key)
        except KeyError:
            return None
        return key, _put(blobs, folder, mark, data)

    for _ in range(_TRIES):
        pointing = [(key, mark) for key, mark in _listed(source) if _POINTS.search(key)]
        kept = _each(keep, pointing)
        if None not in kept:  # else a log was shortened meanwhile: with a gap it would be worth nothing
            break
    else:
        raise DataError(f"logs of tables vanished while they were read, {_TRIES} times", hint="is maintenance running?")
    rest = ((key, mark) for key, mark in _listed(source) if not _POINTS.search(key))
    # What vanished meanwhile was needed by no version that is kept.
    return dict(found for found in (*kept, *_each(keep, rest)) if found)


def restore(files: Mapping[str, Stored], blobs: Place, folder: str, target: Place) -> None:
    """All files to `target`. Pointers there that the backup has not are removed first, as they name what came later."""

    def bring(item: tuple[str, Stored]) -> None:
        key, stored = item
        target.put(key, read(blobs, folder, stored, key))

    for key, _mark in list(_listed(target)):
        if _POINTS.search(key):
            target.remove(key)
    _each(bring, ((key, stored) for key, stored in files.items() if not _POINTS.search(key)))
    _each(bring, ((key, stored) for key, stored in files.items() if _POINTS.search(key)))


def read(blobs: Place, folder: str, stored: Stored, key: str) -> bytes:
    """The content, held against its digest."""
    try:
        data = blobs.get(_name(folder, stored.sha256))
    except KeyError as error:
        raise DataError("it is missing in the backup", field=key, hint="restore an earlier one") from error
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise DataError("its content in the backup is damaged", field=key, hint="restore an earlier one")
    return data


def is_empty(place: Place) -> bool:
    return next(iter(_listed(place)), None) is None


def _put(blobs: Place, folder: str, mark: str, data: bytes) -> Stored:
    digest = hashlib.sha256(data).hexdigest()
    blobs.put(_name(folder, digest), data)
    return Stored(mark, digest, len(data))


def _name(folder: str, digest: str) -> str:
    return f"{folder}/{digest[:2]}/{digest}"


def _listed(place: Place) -> Iterator[tuple[str, str]]:
    return ((key, mark) for key, mark in place.marks() if not _NOT_OURS.search(key))


def _each(do: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(do, items))
