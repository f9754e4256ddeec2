"""A file as chunks of columns with row numbers: CSV as text, Parquet as it is typed.

A row's number is that of a spreadsheet: the header is row 1. For Parquet the first row is 1.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pvforecast.errors import InvalidInput
from pvforecast.importing.files import Opened, shown, text_blocks

BLOCK_BYTES = 6 << 20
ROW_BYTES = 2 * BLOCK_BYTES  # no row may be longer
BATCH_ROWS = 65_536
MAX_COLUMNS = 1_000
MAX_BROKEN, MAX_BLANK = 100_000, 400_000  # lines of one block
MAX_GROUP_BYTES = 1 << 30  # of one column in one row group of a Parquet file
_DELIMITERS = ",;\t|"
_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes
    ----------
    columns : name -> values, shape [n]: text for CSV, any simple type for Parquet.
    numbers : row number of each, shape [n].
    broken : rows that could not be split into columns: number -> (why, the line).
    blank : how many rows were empty.
    """

    columns: dict[str, pa.Array]
    numbers: _Rows
    broken: dict[int, tuple[str, str]] = field(default_factory=dict)
    blank: int = 0

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Layout:
    """How a CSV file is written; None: found out."""

    encoding: str | None = None
    delimiter: str | None = None


def read(path: Path, layout: Layout) -> Iterator[Chunk]:
    """The file in chunks; the first one comes even when it has no rows.

    Raises
    ------
    InvalidInput
        the file can't be read as a table; names what is wrong and where.
    """
    with Opened(path) as opened:
        yield from _parquet(opened) if opened.kind == "parquet" else _csv(opened, layout)


def _csv(opened: Opened, layout: Layout) -> Iterator[Chunk]:
    where = shown(opened.path)
    names: list[str] | None = None
    delimiter = layout.delimiter or ""
    row = 1
    for text in _records(text_blocks(opened, layout.encoding, BLOCK_BYTES), where):
        if names is None:
            line, _, text = _header_line(text)
            delimiter = delimiter or _delimiter(line)
            names = _names(line, delimiter, where)
            row = 2
            yield Chunk({name: pa.array([], pa.string()) for name in names if _told(name)}, np.zeros(0, np.int64))
        if not text:
            continue
        _check_blank(text, row, where)
        chunk, read_rows = _parse(text, names, delimiter, row, where)
        row += read_rows
        yield chunk
    if names is None:
        raise InvalidInput("holds nothing but blank", field=where, hint="a header line and rows are expected")


def _records(blocks: Iterator[str], where: str) -> Iterator[str]:
    """Whole records of text: cut at line ends that are not inside quotes."""
    rest, lines, old_mac = "", 1, False
    for block in blocks:
        old_mac = old_mac or (lines == 1 and "\r" in block and "\n" not in block)
        rest += block.replace("\r", "\n") if old_mac else block
        cut = _last_end(rest)
        if cut:
            head, rest = rest[:cut], rest[cut:]
            lines += head.count("\n")
            yield head
        if len(rest) > ROW_BYTES:
            raise InvalidInput(
                f"from line {lines:,} on a row is longer than {ROW_BYTES >> 20} MiB, or a quote is never closed",
                field=where,
                hint="look at that line",
            )
    if rest.strip("\r\n"):
        yield rest


def _last_end(text: str) -> int:
    """Where the last whole record ends: an even number of quotes stands before it."""
    end = text.rfind("\n") + 1
    quotes = text.count('"', 0, end)
    while end and quotes % 2:
        last = text.rfind('"', 0, end)
        quotes -= 1
        end = text.rfind("\n", 0, last) + 1
        quotes -= text.count('"', end, last)
    return end


def _header_line(text: str) -> tuple[str, str, str]:
    """The first line that holds something, its end, and the rest."""
    text = text.lstrip("\ufeff")
    while text[:1] in ("\n", "\r"):
        text = text[1:]
    return text.partition("\n")


def _delimiter(line: str) -> str:
    return max(_DELIMITERS, key=line.count) if any(d in line for d in _DELIMITERS) else ","


def _names(line: str, delimiter: str, where: str) -> list[str]:
    try:
        cells = next(csv.reader([line.rstrip("\r")], delimiter=delimiter), [])
    except (csv.Error, TypeError) as error:
        raise InvalidInput(f"the header can't be read: {error}", field=where, hint="look at the first line") from error
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()  # a delimiter at the line's end
    _check_names(names, where)
    # Trailing delimiters are columns for the parser.
    return names + [f"\x00{i}" for i in range(len(names), len(cells))]


def _check_names(names: Sequence[str], where: str) -> None:
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(f"has {len(names):,} columns", field=where, hint=f"at most {MAX_COLUMNS:,} are read")
    if not names or not all(names):
        raise InvalidInput("a column has no name in the header", field=where, hint="the first line names all columns")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidInput(f"column {_short(doubled[0])} stands twice in the header", field=where, hint="rename one")


def _check_blank(text: str, row: int, where: str) -> None:
    """Millions of blank lines pack into kilobytes, and each costs time."""
    ends, blank = text.count("\n"), text.count("\n\n") + text.count("\n\r\n")
    if blank > MAX_BLANK and blank > 0.4 * ends:
        raise InvalidInput(f"from row {row:,} on hardly any line holds something", field=where, hint="is it whole?")


def _parse(text: str, names: list[str], delimiter: str, first: int, where: str) -> tuple[Chunk, int]:
    broken: dict[int, tuple[str, str]] = {}
    skipped: list[int] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        if len(broken) >= MAX_BROKEN:
            return "error"
        skipped.append(row.number - 1)
        if row.text.strip():
            why = f"{row.actual_columns} cells where the header has {row.expected_columns}"
            broken[first + row.number - 1] = (why, row.text[:4_000])
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=names, block_size=8 * ROW_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=keep,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise InvalidInput(
            f"can't be read as CSV from row {first:,} on: {error}", field=where, hint="look at that row"
        ) from error
    count = len(table) + len(skipped)
    numbers = np.delete(np.arange(first, first + count), skipped)
    columns = {name: table[name].combine_chunks() for name in names if _told(name)}
    filled = np.zeros(len(table), bool)
    for column in columns.values():
        filled |= pa.compute.binary_length(column).to_numpy(zero_copy_only=False) > 0
    blank = int((~filled).sum()) + len(skipped) - len(broken)
    if not filled.all():
        columns = {name: column.filter(pa.array(filled)) for name, column in columns.items()}
        numbers = numbers[filled]
    return Chunk(columns, numbers, broken, blank), count


def _parquet(opened: Opened) -> Iterator[Chunk]:
    where = shown(opened.path)
    try:
        plain = pq.ParquetFile(opened.stream)
        schema = plain.schema_arrow
        _check_names(schema.names, where)
        text = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        for group in range(plain.metadata.num_row_groups):
            described = plain.metadata.row_group(group)
            largest = max(
                (described.column(i).total_uncompressed_size for i in range(described.num_columns)), default=0
            )
            if largest > MAX_GROUP_BYTES:
                raise InvalidInput(
                    f"row group {group} holds a column of {largest >> 20:,} MiB", field=where, hint="write smaller ones"
                )
        opened.stream.seek(0)
        # Text stays a dictionary: a small file may say one long text a million times.
        file = pq.ParquetFile(opened.stream, read_dictionary=text)
        yield Chunk({f.name: pa.array([], f.type) for f in schema}, np.zeros(0, np.int64))
        row = 1
        for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            columns: Mapping[str, pa.Array] = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield Chunk(dict(columns), np.arange(row, row + len(batch)))
            row += len(batch)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        said = " ".join(str(error).split())
        raise InvalidInput(f"is no whole Parquet file: {said[:300]}", field=where, hint="write it again") from error


def _told(name: str) -> bool:
    return not name.startswith("\x00")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
