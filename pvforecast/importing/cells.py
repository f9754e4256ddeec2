"""Cells to values: numbers, instants, yes or no. What can't be understood is a fault of its row, never an exception."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pvforecast.errors import InvalidInput

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
Mask = npt.NDArray[np.bool_]

MISSING = ("", "-", "--", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "Null", "None", "NaT")
MAX_FAULTS = 100_000  # of one chunk; a file with more is refused
MICROSECONDS = "datetime64[us]"
_ZONED = r"(?:[Zz]|\s?[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)$"
_ISO = (
    r"^\d{4}-?\d{2}-?\d{2}[Tt ]\d{2}(?::?\d{2}(?::?\d{2}(?:[.,]\d{1,9})?)?)?"
    r"(?:[Zz]|\s?[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)?$"
)
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_COMMA = r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$"
_THOUSANDS = r"^[+-]?\d{1,3}(?:\.\d{3})*(?:,\d+)?$"
FIRST, LAST = np.datetime64("1980-01-01", "us"), np.datetime64("2100-01-01", "us")


@dataclass
class Faults:
    """What is wrong with the rows of one chunk: row index -> reason. The first fault of a row is kept."""

    size: int
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, mask: Mask, column: str, reason: str | Callable[[int], str]) -> None:
        """Name a fault of the rows at which `mask` is true."""
        for i in np.flatnonzero(mask):
            at = int(i)
            if len(self.reasons) >= MAX_FAULTS:
                some = self.reasons[min(self.reasons)]
                raise InvalidInput(
                    f"more than {MAX_FAULTS:,} rows are bad: {some}", field=column, hint="look: --dry-run"
                )
            if at not in self.reasons:
                self.reasons[at] = f"{column}: {reason if isinstance(reason, str) else reason(at)}"

    @property
    def bad(self) -> Mask:
        mask = np.zeros(self.size, bool)
        mask[list(self.reasons)] = True
        return mask


def strings(array: pa.Array, missing: tuple[str, ...] = MISSING) -> pa.Array:
    """Trimmed text, null where missing; numbers of a typed file become their text."""
    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, _trimmed(array.dictionary, missing))
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = array.cast(pa.string())
    return _trimmed(array, missing)


def codes(array: pa.Array, missing: tuple[str, ...] = MISSING) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Each row's text as a number into the list of distinct texts; -1 where missing. Shape [n]."""
    encoded = strings(array, missing)
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    numbers = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    texts = encoded.dictionary.to_pylist()
    # Trimming may have made two the same, and nulls of a dictionary.
    names: dict[str, int] = {}
    table = np.array([-1 if text is None else names.setdefault(text, len(names)) for text in texts] + [-1], np.int64)
    return table[numbers], list(names)


def numbers(
    array: pa.Array, column: str, faults: Faults, decimal: str | None = None, missing: tuple[str, ...] = MISSING
) -> Floats:
    """Finite numbers, NaN where missing. Shape [n].

    Parameters
    ----------
    decimal : "," reads 1.234,5 as 1234.5; None takes a single comma for a decimal one, "." none.
    """
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        values = _float64(array)
        faults.add(np.isinf(values), column, "is infinite")
        return values
    if not _is_text(array):
        raise InvalidInput(f"holds {array.type}, not numbers", field=column, hint="write numbers")
    if pa.types.is_dictionary(array.type):
        dictionary, at = array.dictionary, array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False)
        inner = Faults(len(dictionary))
        distinct = np.append(numbers(dictionary, column, inner, decimal, missing), np.nan)
        wrong = np.append(inner.bad, False)[at]
        faults.add(wrong, column, lambda i: inner.reasons[int(at[i])].partition(": ")[2])
        result: Floats = distinct[at]
        return result
    text = _trimmed(array, missing)
    if decimal == ",":
        plain = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
        text = pc.if_else(pc.match_substring_regex(text, _THOUSANDS), plain, text)
    try:
        values = _float64(text.cast(pa.float64()))
    except pa.ArrowInvalid:
        values = _doubtful(text, column, faults, decimal)
    faults.add(np.isinf(values), column, lambda i: f"{quoted(text[i].as_py())} is infinite")
    return np.where(np.isinf(values), np.nan, values)


def _doubtful(text: pa.Array, column: str, faults: Faults, decimal: str | None) -> Floats:
    """Numbers of a column in which some are none, or written with a decimal comma."""
    comma = pc.match_substring_regex(text, _COMMA).fill_null(False)
    if decimal is None and pc.any(comma).as_py():
        text = pc.if_else(comma, pc.replace_substring(text, ",", "."), text)
        points = _mask(pc.match_substring_regex(text, r"^[+-]?\d{1,3}\.\d{3}$")) & ~_mask(comma)
        faults.add(points, column, lambda i: f"{quoted(text[i].as_py())} in a column with decimal commas: --decimal ,")
    fine = pc.or_kleene(
        pc.match_substring_regex(text, _NUMBER), pc.match_substring_regex(text, r"^(?i:[+-]?inf(inity)?)$")
    )
    faults.add(~_mask(fine.fill_null(True)), column, lambda i: f"{quoted(text[i].as_py())} is no number")
    return _float64(pc.if_else(fine, text, None).cast(pa.float64()))


def flags(array: pa.Array, column: str, faults: Faults, missing: tuple[str, ...] = MISSING) -> list[bool | None]:
    """Yes or no: true, false, 1, 0, yes, no; None where missing."""
    if pa.types.is_boolean(array.type):
        result: list[bool | None] = array.to_pylist()
        return result
    at, texts = codes(array, missing)
    known = {"true": True, "t": True, "1": True, "yes": True, "y": True, "1.0": True,
             "false": False, "f": False, "0": False, "no": False, "n": False, "0.0": False}  # fmt: skip
    meant = [known.get(text.lower()) for text in texts]
    wrong = np.array([value is None for value in meant] + [False])[at]
    faults.add(wrong, column, lambda i: f"{quoted(texts[at[i]])} is neither true nor false")
    return [None if i < 0 else meant[i] for i in at]


@dataclass(frozen=True)
class Instants:
    """Instants of a column, UTC.

    Attributes
    ----------
    utc : shape [n], microseconds; NaT where missing or not understood; of a local time that occurs twice the earlier.
    twice : at which rows the local time occurs twice, because clocks were set back.
    later : the later of the two there, else `utc`.
    """

    utc: Times
    twice: Mask
    later: Times


def instants(
    array: pa.Array,
    column: str,
    faults: Faults,
    zone: tzinfo | None = None,
    pattern: str | None = None,
    missing: tuple[str, ...] = MISSING,
) -> Instants:
    """Instants from ISO 8601 text, from `pattern` (as strptime, or ``unix``, ``unix_ms``), or from a typed column.

    Parameters
    ----------
    zone : of times without an offset; None makes them faults.
    """
    if pa.types.is_null(array.type):
        return _known(np.full(len(array), np.datetime64("NaT"), MICROSECONDS))
    if pa.types.is_timestamp(array.type):
        stamps = array.cast(pa.timestamp("us", array.type.tz), safe=False)
        values = np.asarray(stamps.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False))
        times = values.view(MICROSECONDS).copy()
        result = _known(times) if array.type.tz else _local(times, column, faults, zone, lambda i: str(times[i]))
        _in_range(result.utc, column, faults)
        return result
    if pattern in ("unix", "unix_ms"):
        seconds = numbers(array, column, faults, missing=missing) * (1e6 if pattern == "unix" else 1e3)
        fine = np.abs(np.nan_to_num(seconds, nan=np.inf)) < 9e18
        faults.add(~fine & ~np.isnan(seconds), column, "lies outside 1980 to 2099")
        times = np.where(fine, seconds, np.nan)
        whole = np.where(fine, np.nan_to_num(times), np.iinfo(np.int64).min).astype(np.int64)
        result = _known(whole.view(MICROSECONDS))
        _in_range(result.utc, column, faults)
        return result
    if not _is_text(array):
        raise InvalidInput(
            f"holds {array.type}, not instants", field=column, hint="ISO 8601 text, or timestamps; numbers: time_format"
        )
    at, texts = codes(array, missing)
    distinct = _parsed(texts, column, zone, pattern)
    wrong = np.array([*(reason is not None for reason in distinct.reasons), False])[at]
    faults.add(wrong, column, lambda i: distinct.reasons[at[i]] or "")
    nat = np.datetime64("NaT", "us")
    result = Instants(
        np.append(distinct.utc, nat)[at], np.append(distinct.twice, False)[at], np.append(distinct.later, nat)[at]
    )
    _in_range(result.utc, column, faults)
    return result


@dataclass(frozen=True)
class _Distinct:
    utc: Times
    twice: Mask
    later: Times
    reasons: list[str | None]


def _parsed(texts: list[str], column: str, zone: tzinfo | None, pattern: str | None) -> _Distinct:
    series = pd.Series(texts, dtype=object)
    reasons = Faults(len(texts))
    if pattern is None:
        written = pa.array(texts, pa.string())
        fine = _mask(pc.match_substring_regex(written, _ISO))
        reasons.add(~fine, column, lambda i: f"{quoted(texts[i])} is no ISO 8601 instant, e.g. 2024-06-01T12:00:00Z")
        aware = _mask(pc.match_substring_regex(written, _ZONED)) & fine
        series = series.str.replace(",", ".", regex=False)
        zoned = _as_utc(series.where(aware), "ISO8601")
        naive = _as_utc(series.where(fine & ~aware), "ISO8601")
    else:
        fine = np.ones(len(texts), bool)
        aware = np.full(len(texts), "%z" in pattern)
        try:
            read = _as_utc(series, pattern)
        except (ValueError, re.error) as error:
            raise InvalidInput(
                f"{pattern!r}: {error}", field="time_format", hint="as strptime, e.g. %d.%m.%Y %H:%M"
            ) from error
        zoned, naive = (read, np.full(len(texts), np.datetime64("NaT"), MICROSECONDS))[:: 1 if "%z" in pattern else -1]
    unread = fine & np.isnat(zoned) & np.isnat(naive)
    shape = f"of the form {pattern}" if pattern else "an instant that exists"
    reasons.add(unread, column, lambda i: f"{quoted(texts[i])} is not {shape}")
    local = _local(naive, column, reasons, zone, lambda i: texts[i])
    return _Distinct(
        np.where(aware, zoned, local.utc),
        local.twice & ~aware,
        np.where(aware, zoned, local.later),
        [reasons.reasons[i].partition(": ")[2] if i in reasons.reasons else None for i in range(len(texts))],
    )


def _as_utc(texts: pd.Series, pattern: str) -> Times:
    read = pd.to_datetime(texts, format=pattern, utc=True, errors="coerce")
    times: Times = read.dt.tz_localize(None).to_numpy().astype(MICROSECONDS)
    return times


def _local(naive: Times, column: str, faults: Faults, zone: tzinfo | None, said: Callable[[int], str]) -> Instants:
    """Local times as instants; the hour that is skipped in spring is a fault, the one that occurs twice is told."""
    given = ~np.isnat(naive)
    if zone is None:
        faults.add(given, column, lambda i: f"{quoted(said(i))} has no UTC offset (write it, or name --timezone)")
        return _known(np.where(given, np.datetime64("NaT", "us"), naive))
    local = pd.DatetimeIndex(naive)
    first, second = (
        local.tz_localize(zone, ambiguous=np.full(len(local), dst), nonexistent="NaT")
        .tz_convert("UTC").tz_localize(None).to_numpy().astype(MICROSECONDS)
        for dst in (True, False)
    )  # fmt: skip
    skipped = given & np.isnat(first)
    faults.add(skipped, column, lambda i: f"{quoted(said(i))} does not exist in {zone}: clocks skip it")
    return Instants(np.minimum(first, second), given & (first != second) & ~skipped, np.maximum(first, second))


def _known(times: Times) -> Instants:
    return Instants(times, np.zeros(len(times), bool), times)


def _in_range(times: Times, column: str, faults: Faults) -> None:
    wrong = ~np.isnat(times) & ((times < FIRST) | (times >= LAST))
    faults.add(wrong, column, lambda i: f"{times[i]} lies outside 1980 to 2099")


def zone_of(name: str, where: str) -> tzinfo:
    """A time zone by its IANA name, or a fixed offset like ``+01:00``.

    Raises
    ------
    InvalidInput
        there is none of that name.
    """
    fixed = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2}):?(\d{2})?", name.strip())
    if fixed and int(fixed[2]) <= 14:
        away = timedelta(hours=int(fixed[2]), minutes=int(fixed[3] or 0))
        return timezone(away if fixed[1] == "+" else -away)
    if name.strip() in available_timezones():
        return ZoneInfo(name.strip())
    raise InvalidInput(
        f"{quoted(name)} is no time zone", field=where, hint="an IANA name or an offset: Europe/Amsterdam, +01:00"
    )


def quoted(value: object, length: int = 60) -> str:
    """A value for a message: one line, not endless."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]}…"


def _is_text(array: pa.Array) -> bool:
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _trimmed(text: pa.Array, missing: tuple[str, ...]) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(text, pa.array(missing, text.type)), pa.scalar(None, text.type), text)


def _float64(array: pa.Array) -> Floats:
    values: Floats = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _mask(array: pa.Array) -> Mask:
    mask: Mask = array.fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    return mask
