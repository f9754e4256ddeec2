"""Where files lie, seen alike: a bucket below a prefix, or a folder."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from pvforecast.objects import ObjectStore

_PARTIAL = ".partial"


class Place(Protocol):
    """Files by key. A file is replaced whole or not at all."""

    def marks(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """All keys below `prefix`, ascending, each with a mark that changes when its content does."""
        ...

    def get(self, key: str) -> bytes:
        """Raises KeyError when there is no such file."""
        ...

    def put(self, key: str, data: bytes) -> None: ...

    def get_file(self, key: str, file: Path) -> None:
        """As `get`, for what may be larger than memory."""
        ...

    def put_file(self, key: str, file: Path) -> None: ...

    def remove(self, key: str) -> None: ...


class Bucket:
    """What lies in a bucket below a prefix."""

    def __init__(self, store: ObjectStore, prefix: str = "") -> None:
        self._store = store
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def marks(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        for key, etag in self._store.etags(self._prefix + prefix):
            yield key.removeprefix(self._prefix), etag

    def get(self, key: str) -> bytes:
        return self._store.get(self._prefix + key)

    def put(self, key: str, data: bytes) -> None:
        self._store.put(self._prefix + key, data)

    def get_file(self, key: str, file: Path) -> None:
        self._store.get_file(self._prefix + key, file)

    def put_file(self, key: str, file: Path) -> None:
        self._store.put_file(self._prefix + key, file)

    def remove(self, key: str) -> None:
        self._store.remove(self._prefix + key)


class Folder:
    """What lies in a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def marks(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        found = (path for path in self._path.rglob("*") if path.is_file() and not path.name.endswith(_PARTIAL))
        for path in sorted(found):
            key = path.relative_to(self._path).as_posix()
            if key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = path.stat()
                    yield key, f"{status.st_size}-{status.st_mtime_ns}"

    def get(self, key: str) -> bytes:
        try:
            return (self._path / key).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def put(self, key: str, data: bytes) -> None:
        self._write(key, io.BytesIO(data))

    def get_file(self, key: str, file: Path) -> None:
        try:
            shutil.copyfile(self._path / key, file)
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def put_file(self, key: str, file: Path) -> None:
        with file.open("rb") as source:
            self._write(key, source)

    def _write(self, key: str, source: BinaryIO) -> None:
        path = self._path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_PARTIAL}")
        with partial.open("wb") as file:
            shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def remove(self, key: str) -> None:
        (self._path / key).unlink(missing_ok=True)
