"""Files that a stranger could send and should not have: each is bad by construction, made from one good file a kind."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 24
PARK = "witness"
_DAY = pd.date_range("2024-06-01", periods=ROWS, freq="h", tz="UTC")
_TEXT = [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in _DAY]

GOOD: dict[str, list[dict[str, str]]] = {
    "generation": [
        {
            "park_id": PARK,
            "measured_at": at,
            "power_kw": f"{max(0, 12 - abs(12 - i)) * 5}",
            "inverter_id": "park",
            "available_fraction": "1",
            "export_limit_kw": "90",
            "curtailed": "false",
            "energy_total_kwh": "",
            "received_at": "",
        }
        for i, at in enumerate(_TEXT)
    ],
    "weather": [
        {
            "park_id": PARK,
            "source": "nwp",
            "run_at": _TEXT[0],
            "available_at": _TEXT[4],
            "valid_at": at,
            "ghi": f"{max(0, 12 - abs(12 - i)) * 60}",
            "dni": "",
            "dhi": "",
            "temp_air": "14.5",
            "wind_speed": "3",
            "cloud_cover": "0.5",
            "relative_humidity": "0.6",
            "precipitation": "0",
            "x_aod": "0.1",
        }
        for i, at in enumerate(_TEXT)
    ],
    "parks": [
        {
            "park_id": f"park-{i}",
            "name": f"Park {i}",
            "latitude": "52.1",
            "longitude": "5.1",
            "timezone": "Europe/Amsterdam",
            "dc_capacity_kw": "120",
            "ac_capacity_kw": "100",
            "tilt_deg": "20",
            "azimuth_deg": "180",
            "elevation_m": "3",
            "export_limit_kw": "80",
            "arrays": "",
            "groups": "north",
            "resolution": "PT1H",
            "valid_from": "2020-01-01T00:00:00Z",
            "source": "crm",
            "note": "",
            "retired": "false",
        }
        for i in range(ROWS)
    ],
}

_NUMBERS = (
    "abc",
    "inf",
    "-Infinity",
    "1e308",
    "-1e308",
    "1e400",
    "0x1F",
    "12 kW",
    "--1",
    "1.2.3",
    "1e",
    "=1+1",
    "' OR 1=1 --",
    "\u202e12",
    "9" * 400,
    "a" * 5000,
    "\N{SUN WITH FACE}",
    "1 2",
    "True!",
    "1;2",
)
_TIMES = (
    "2024-06-01T12:00:00",
    "2024-13-01T00:00:00Z",
    "2024-02-30T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:00:00Z",
    "1717243200",
    "yesterday",
    "12:00",
    "01.06.2024 12:00",
    "2024-06-01T25:00:00Z",
    "2024-06-01T12:00:00+99:00",
    "2024-W22-6",
    "2024-06-01T12:00:00 Europe/Berlin",
    "1e9",
    "x" * 5000,
)
_IDS = (
    "",
    "../../etc/passwd",
    "..",
    "/abs",
    "a/b",
    "p 1",
    "p1; DROP TABLE t",
    "%2e%2e%2f",
    "p" * 300,
    "\uff50\uff11",
    "p1'--",
    "<script>alert(1)</script>",
    "\u202ep1",
    "-p",
    "p1.",
    "*",
    "$(id)",
    "`id`",
    "{{7*7}}",
    "a\\b",
    "C:\\x",
    "p1?x=1",
    "p1#",
    "\u0000".replace("\u0000", "\x1b[31m"),
)
_NUMERIC = {
    "generation": ("power_kw", "available_fraction", "export_limit_kw", "energy_total_kwh"),
    "weather": (
        "ghi",
        "dni",
        "dhi",
        "temp_air",
        "wind_speed",
        "cloud_cover",
        "relative_humidity",
        "precipitation",
        "x_aod",
    ),
    "parks": (
        "latitude",
        "longitude",
        "dc_capacity_kw",
        "ac_capacity_kw",
        "tilt_deg",
        "azimuth_deg",
        "elevation_m",
        "export_limit_kw",
    ),
}
_MOMENTS = {
    "generation": ("measured_at", "received_at"),
    "weather": ("run_at", "available_at", "valid_at"),
    "parks": ("valid_from",),
}
_WORDS = {
    ("generation", "curtailed"): ("maybe", "2", "ja", "0.5"),
    ("weather", "source"): ("a b", "../x", "\u202ex", "x" * 300, "A;B"),
    ("parks", "timezone"): ("Mars/Olympus", "CEST+2", "../../etc/localtime", "Europe/Utrecht", "1", "x" * 400),
    ("parks", "resolution"): ("PT5M", "1h", "hourly", "-----"),
    ("parks", "groups"): ("a/b", "<b>", "-x", "g" * 200),
    ("parks", "arrays"): (
        "east",
        "13@100",
        "13@100:-5",
        "91@100:120",
        "13@400:120",
        "13@100:5e9",
        "13@90:10|13@270:10",
    ),
    ("parks", "retired"): ("maybe", "2"),
    ("parks", "name"): ("n" * 500, "line\nend"),
    ("parks", "source"): ("../x", "a b", "s" * 100),
}


@dataclass(frozen=True)
class Case:
    """One bad file.

    Attributes
    ----------
    make : writes it to a path.
    rows, field : the bad rows, each of which quarantine must name with that field; none: the file is bad as such.
    fine : odd but readable: it must load, all of it.
    big : takes seconds or hundreds of megabytes of disk.
    """

    name: str
    kind: str
    make: Callable[[Path], None]
    rows: tuple[int, ...] = ()
    field: str = ""
    fine: bool = False
    big: bool = False

    @property
    def inputs(self) -> int:
        """How many bad inputs it is."""
        return max(len(self.rows), 1)


def cases(*, big: bool = True) -> list[Case]:
    """All of them, in a fixed order."""
    made = [*_cells(), *_files(), *_odd()]
    return [case for case in made if big or not case.big]


def table(rows: Sequence[dict[str, str]], delimiter: str = ",") -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _text(content: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content.encode(encoding)), None)[1]


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: (path.write_bytes(content), None)[1]


def _cells() -> Iterator[Case]:
    """Good rows, and behind them one row for each thing that a cell can be and should not."""
    wrong: list[tuple[str, str, Sequence[str]]] = []
    wrong += [(kind, name, _NUMBERS) for kind, names in _NUMERIC.items() for name in names]
    wrong += [(kind, name, _TIMES) for kind, names in _MOMENTS.items() for name in names]
    wrong += [(kind, "park_id", _IDS) for kind in GOOD]
    wrong += [(kind, name, values) for (kind, name), values in _WORDS.items()]
    for kind, name, values in wrong:
        rows = GOOD[kind] + [{**GOOD[kind][5], name: value} for value in values]
        first = ROWS + 2  # of a spreadsheet: the header is row 1
        yield Case(f"{kind} cells: {name}", kind, _text(table(rows)), tuple(range(first, first + len(values))), name)


def _replaced(kind: str, **values: str) -> str:
    return table([{**row, **values} for row in GOOD[kind]])


def _without(kind: str, *names: str) -> str:
    return table([{name: value for name, value in row.items() if name not in names} for row in GOOD[kind]])


def _parquet(frame: pd.DataFrame | pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False), out)
    return out.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _files() -> Iterator[Case]:
    """Files that are wrong as such."""
    noise = random.Random(0).randbytes(20_000)
    for kind in ("generation", "weather", "parks"):
        good = table(GOOD[kind])
        head, _, body = good.partition("\n")
        plain = good.encode()
        whole = _parquet(pd.DataFrame(GOOD[kind]))
        first = next(iter(GOOD[kind][0]))
        broken: dict[str, bytes] = {
            "empty": b"",
            "blank": b"\n\n \n",
            "header alone": head.encode() + b"\n",
            "no header": body.encode(),
            "noise": noise,
            "noise behind a header": head.encode() + b"\n" + noise,
            "truncated parquet": whole[: len(whole) // 2],
            "parquet without a body": b"PAR1",
            "parquet with noise": b"PAR1" + noise + b"PAR1",
            "truncated gzip": gzip.compress(plain)[:-20],
            "gzip with noise": gzip.compress(plain)[:30] + noise,
            "truncated zip": _zip({"a.csv": plain})[:-30],
            "zip of two": _zip({"a.csv": plain, "b.csv": plain}),
            "zip of none": _zip({}),
            "zip in a zip": _zip({"a.zip": _zip({"a.csv": plain})}),
            "workbook": _zip({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<x/>"}),
            "old workbook": b"\xd0\xcf\x11\xe0" + noise,
            "UTF-16 without a mark": good.encode("utf-16-le"),
            "zero bytes": plain.replace(b"0", b"\x00"),
            "Latin-1": f"{head}\n{body}".replace(PARK if PARK in body else "Park", "Z\u00fcrich").encode("latin-1"),
            "column twice": f"{head},{first}\n".encode() + body.replace("\n", ",x\n").encode(),
            "column without a name": f"{head},,x\n".encode() + body.replace("\n", ",1,2\n").encode(),
            "column unknown": f"{head},colour\n".encode() + body.replace("\n", ",blue\n").encode(),
            "6,000 columns": ",".join(f"x_{i}" for i in range(6_000)).encode() + b"\n1\n",
            "strange delimiter": plain.replace(b",", b"^"),
            "JSON": json.dumps(GOOD[kind]).encode(),
            "HTML": b"<html><body>502 Bad Gateway</body></html>\n" * 30,
            "quote never closed": head.encode() + b'\n"' + body.encode(),
            "rows too short": "\n".join([head, *("a,b" for _ in range(40))]).encode(),
            "parquet of lists": _parquet(pa.table({name: pa.array([[1]] * 3) for name in GOOD[kind][0]})),
            "parquet without rows": _parquet(pd.DataFrame(GOOD[kind]).head(0)),
        }
        for name, content in broken.items():
            yield Case(f"{kind} file: {name}", kind, _bytes(content))
        yield Case(f"{kind} file: a folder", kind, lambda path: path.mkdir())
        yield Case(f"{kind} file: not there", kind, lambda _: None)
        yield Case(f"{kind} file: a pipe", kind, os.mkfifo)
        yield Case(f"{kind} file: a dangling link", kind, lambda path: path.symlink_to("/nowhere/at/all"))
        yield Case(f"{kind} file: a link to itself", kind, lambda path: path.symlink_to(path))
        yield Case(f"{kind} file: gzip bomb", kind, _gzip_bomb(head), big=True)
        yield Case(f"{kind} file: zip bomb", kind, _zip_bomb, big=True)
        yield Case(f"{kind} file: 100 MB in a cell", kind, _long(head, b"7"), big=True)
        yield Case(f"{kind} file: 100 MB in quotes", kind, _long(head, b"7,\n", quote=True), big=True)
        yield Case(f"{kind} file: 100 MB header", kind, _long("", b"x"), big=True)
    wrong = {
        "generation": {
            "all parks unknown": _replaced("generation", park_id="nobody"),
            "watts": table(
                [{**row, "power_kw": str(float(row["power_kw"]) * 1000 + 300)} for row in GOOD["generation"]]
            ),
            "no offset anywhere": table([{**r, "measured_at": r["measured_at"][:-1]} for r in GOOD["generation"]]),
            "step of 7 minutes": table(
                [
                    {
                        **row,
                        "measured_at": (pd.Timestamp("2024-06-01", tz="UTC") + pd.Timedelta(minutes=7 * i)).isoformat(),
                    }
                    for i, row in enumerate(GOOD["generation"])
                ]
            ),
            "one row": table(GOOD["generation"][:1]),
            "no power column": _without("generation", "power_kw"),
            "in the future": table([{**r, "measured_at": "2099" + r["measured_at"][4:]} for r in GOOD["generation"]]),
            "no value at all": _replaced("generation", power_kw=""),
        },
        "weather": {
            "all parks unknown": _replaced("weather", park_id="nobody"),
            "percent": _replaced("weather", cloud_cover="55", relative_humidity="70"),
            "kelvin": _replaced("weather", temp_air="288"),
            "no run_at": _without("weather", "run_at"),
            "no available_at and no delay": _without("weather", "available_at"),
            "available before it was made": _replaced("weather", available_at="2024-05-01T00:00:00Z"),
            "valid before the run": _replaced(
                "weather", run_at="2024-07-01T00:00:00Z", available_at="2024-07-01T06:00:00Z"
            ),
            "half-hour labels": table(
                [{**row, "valid_at": row["valid_at"].replace(":00:00Z", ":30:00Z")} for row in GOOD["weather"]]
            ),
            "free column with words": _replaced("weather", x_aod="high"),
            "no value at all": table([{**row, **dict.fromkeys(_NUMERIC["weather"], "")} for row in GOOD["weather"]]),
        },
        "parks": {
            "DC in watts": _replaced("parks", dc_capacity_kw="120000"),
            "azimuth from south": _replaced("parks", azimuth_deg="-90"),
            "coordinates in metres": _replaced("parks", latitude="463000", longitude="136000"),
            "no coordinates": _without("parks", "latitude", "longitude"),
            "one id for all": _replaced("parks", park_id="../x"),
        },
    }
    for kind, contents in wrong.items():
        for name, content in contents.items():
            yield Case(f"{kind} content: {name}", kind, _text(content))
    naive = pd.DataFrame(GOOD["generation"]).assign(measured_at=_DAY.tz_localize(None), power_kw=1.0)
    yield Case("generation content: parquet with naive times", "generation", _bytes(_parquet(naive)))
    twice = ["2024-10-27T02:00:00", "2024-10-27T01:00:00", "2024-10-27T00:00:00"] * 8
    local = [{**row, "measured_at": at} for row, at in zip(GOOD["generation"], twice, strict=True)]
    yield Case("generation content: local times in autumn", "generation", _text(table(local)))


def _odd() -> Iterator[Case]:
    """Odd, and readable: these must load."""
    for kind in ("generation", "weather", "parks"):
        good = table(GOOD[kind])
        semicolons = table(GOOD[kind], ";")
        readable: dict[str, bytes] = {
            "byte order mark": b"\xef\xbb\xbf" + good.encode(),
            "UTF-16": good.encode("utf-16"),
            "semicolons": semicolons.encode(),
            "tabs": table(GOOD[kind], "\t").encode(),
            "decimal commas": semicolons.replace(";0.5;", ";0,5;").replace(";14.5;", ";14,5;").encode(),
            "Windows line ends": good.replace("\n", "\r\n").encode(),
            "old Mac line ends": good.replace("\n", "\r").encode(),
            "blank lines": good.replace("\n", "\n\n").encode(),
            "no last line end": good.rstrip("\n").encode(),
            "capital names": good.replace("park_id", "Park_ID", 1).encode(),
            "gzip": gzip.compress(good.encode()),
            "zip": _zip({"a.csv": good.encode()}),
            "parquet": _parquet(pd.DataFrame(GOOD[kind])),
            "parquet in a zip": _zip({"a.parquet": _parquet(pd.DataFrame(GOOD[kind]))}),
            "quoted cells": "\n".join(
                ",".join(f'"{c}"' for c in line.split(",")) for line in good.splitlines()
            ).encode(),
        }
        for name, content in readable.items():
            yield Case(f"{kind} odd: {name}", kind, _bytes(content), fine=True)


def _gzip_bomb(head: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with gzip.open(path, "wb", compresslevel=6) as file:
            file.write(head.encode() + b"\n")
            for _ in range(400):
                file.write(b"\n" * (1 << 20))

    return make


def _zip_bomb(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.csv", "w", force_zip64=True) as file,
    ):
        for _ in range(400):
            file.write(b"0" * (1 << 20))


def _long(head: str, part: bytes, *, quote: bool = False) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.write(head.encode() + b"\n" if head else b"")
            file.write(b'"' if quote else b"")
            block = part * ((1 << 20) // len(part))
            for _ in range(100):
                file.write(block)

    return make
