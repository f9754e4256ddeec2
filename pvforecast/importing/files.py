"""Opening a file that a stranger sent: what kind it is, its bytes unpacked, never more than a bounded part in memory.

Nothing here knows what the columns mean.
"""

from __future__ import annotations

import codecs
import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, Any, Literal

from pvforecast.errors import InvalidInput

MAX_UNPACKED = 64 << 30  # bytes of a compressed file, unpacked
BOMB_RATIO, BOMB_FROM = 200, 256 << 20  # tables of text pack 5 to 50 times smaller; a bomb 1,000 times
_READ = 1 << 20

Kind = Literal["text", "parquet"]


class Opened(AbstractContextManager["Opened"]):
    """A file's bytes, unpacked, and whether they are text or Parquet.

    Raises
    ------
    InvalidInput
        no such file, not a file, empty, an archive of several files, an encrypted or broken one, a workbook.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        try:
            self.stream: IO[bytes] | _Unpacked = self._open(path)
            head = self._peek()
        except BaseException:
            self._stack.close()
            raise
        self.kind: Kind = "parquet" if head == b"PAR1" else "text"
        if self.kind == "parquet" and not self.stream.seekable():
            self.stream = self._spooled()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, path: Path) -> IO[bytes] | _Unpacked:
        try:
            if not path.is_file():
                raise self._wrong("is no file" if path.exists() else "no such file", "name a CSV or Parquet file")
            size = path.stat().st_size
            raw = self._stack.enter_context(path.open("rb"))
            head = raw.read(6)
        except (OSError, ValueError) as error:
            raise self._wrong(f"can't be read: {error}", "is it there, and may it be read?") from error
        raw.seek(0)
        if size == 0:
            raise self._wrong("is empty", "a header line and rows are expected")
        if head.startswith(b"\x1f\x8b"):
            unpacked = self._stack.enter_context(gzip.GzipFile(fileobj=raw))
            return _Unpacked(path, unpacked, size)
        if head.startswith(b"PK\x03\x04") or head.startswith(b"PK\x05\x06"):
            return self._member(raw)
        if head.startswith((b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"Rar!")):
            raise self._wrong("is packed in a way that is not read", "unpack it, or use .gz or .zip")
        if head.startswith(b"\xd0\xcf\x11\xe0"):
            raise self._wrong("is an Excel workbook", "save it as CSV (UTF-8)")
        return raw

    def _member(self, raw: IO[bytes]) -> _Unpacked:
        try:
            archive = self._stack.enter_context(zipfile.ZipFile(raw))
            members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX")]
            if any(m.filename == "[Content_Types].xml" for m in members):
                raise self._wrong("is an Excel workbook", "save it as CSV (UTF-8)")
            if len(members) != 1:
                raise self._wrong(f"holds {len(members)} files", "pack one CSV or Parquet file, or unpack it first")
            if members[0].flag_bits & 0x1:
                raise self._wrong("is encrypted", "unpack it first")
            if members[0].file_size == 0:
                raise self._wrong("holds an empty file", "a header line and rows are expected")
            unpacked = self._stack.enter_context(archive.open(members[0]))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
            raise self._wrong(f"is no whole zip archive: {error}", "send it again") from error
        return _Unpacked(self.path, unpacked, max(members[0].compress_size, 1))

    def _peek(self) -> bytes:
        if self.stream.seekable():
            head = self.stream.read(4)
            self.stream.seek(0)
            return head
        head = self.stream.read(4)
        if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
            raise self._wrong("is an archive in an archive", "unpack it once")
        if isinstance(self.stream, _Unpacked):
            self.stream.push_back(head)
        if not head:
            raise self._wrong("holds nothing", "a header line and rows are expected")
        return head

    def _spooled(self) -> IO[bytes]:
        """Parquet is read from its end: a packed one is unpacked to disk first."""
        spool: IO[bytes] = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
        while block := self.stream.read(_READ):
            spool.write(block)
        spool.seek(0)
        return spool

    def _wrong(self, message: str, hint: str) -> InvalidInput:
        return InvalidInput(message, field=shown(self.path), hint=hint)


class _Unpacked(io.RawIOBase):
    """What comes out of a compressed stream, watched for bombs and broken ends. Not seekable."""

    def __init__(self, path: Path, inner: Any, packed: int) -> None:
        super().__init__()
        self._path, self._inner, self._packed = path, inner, packed
        self._seen, self._back = 0, b""

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    def push_back(self, head: bytes) -> None:
        self._back = head + self._back

    def read(self, size: int | None = -1) -> bytes:
        wanted = _READ if size is None or size < 0 else size
        if self._back:
            head, self._back = self._back[:wanted], self._back[wanted:]
            return head
        try:
            block: bytes = self._inner.read(wanted)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, ValueError, RuntimeError) as error:
            raise InvalidInput(
                f"is broken after {self._seen:,} bytes: {error}", field=shown(self._path), hint="send it again"
            ) from error
        self._seen += len(block)
        bomb = self._seen > BOMB_FROM and self._seen > BOMB_RATIO * self._packed
        if bomb or self._seen > MAX_UNPACKED:
            raise InvalidInput(
                f"unpacks to more than {self._seen >> 20:,} MiB from {self._packed:,} bytes: refused as a bomb",
                field=shown(self._path),
                hint="unpack it yourself if you trust it",
            )
        return block


def text_blocks(opened: Opened, encoding: str | None, block_bytes: int) -> Iterator[str]:
    """The file's text in pieces of about `block_bytes`, decoded; line ends as they are.

    Parameters
    ----------
    encoding : None: by its byte order mark, else UTF-8.

    Raises
    ------
    InvalidInput
        binary data, bytes that are no text in that encoding.
    """
    where = shown(opened.path)
    head = opened.stream.read(4096)
    marked = encoding or _by_mark(head)
    try:
        decoder = codecs.getincrementaldecoder(marked or "utf-8-sig")()
    except LookupError as error:
        raise InvalidInput(f"no encoding {encoding!r}", field="--encoding", hint="e.g. utf-8, cp1252") from error
    if marked is None and b"\x00" in head:
        raise InvalidInput(
            "is no text: it holds zero bytes", field=where, hint="CSV or Parquet is read; UTF-16: --encoding utf-16-le"
        )
    done, block = 0, head
    while True:
        try:
            text = decoder.decode(block, final=not block)
        except (UnicodeDecodeError, UnicodeError) as error:
            raise InvalidInput(
                f"is no {marked or 'UTF-8'} text from byte {done:,} on: {error}",
                field=where,
                hint="name its encoding: --encoding cp1252",
            ) from error
        if "\x00" in text:
            raise InvalidInput(f"holds zero bytes near byte {done:,}", field=where, hint="it is binary, or damaged")
        if text:
            yield text
        if not block:
            return
        done += len(block)
        block = opened.stream.read(block_bytes)


def _by_mark(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else None


def shown(path: Path) -> str:
    """A path for a message: one line, not endless."""
    text = "".join(c if c.isprintable() else "?" for c in str(path))
    return text if len(text) <= 200 else f"…{text[-199:]}"
