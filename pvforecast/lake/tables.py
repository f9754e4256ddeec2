"""The contract of every table: columns with units, key, partitions.

Partitions are month and park bucket (a fixed hash of park_id): date x park would make 36,500 folders a year for 100
parks, and date x bucket a thousand files for the first load of one park.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import pyarrow as pa

BUCKETS = 8
_UTC = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Table:
    """One Delta table.

    Attributes
    ----------
    key : columns that identify a row; a row that is delivered twice is stored once.
    time_column : what the month partition is derived from; None for small tables without partitions.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    time_column: str | None

    @property
    def partitions(self) -> list[str]:
        return ["month", "bucket"] if self.time_column else []


def bucket_of(park_id: str) -> int:
    """The park's fixed bucket, 0..BUCKETS-1."""
    return zlib.crc32(park_id.encode()) % BUCKETS


def _table(name: str, key: tuple[str, ...], time_column: str | None, **columns: pa.DataType) -> Table:
    fields = list(columns.items())
    if time_column:
        fields += [("month", pa.string()), ("bucket", pa.int32())]
    return Table(name, pa.schema(fields), key, time_column)


_WEATHER = {
    "park_id": pa.string(),
    "source": pa.string(),
    "run_at": _UTC,
    "available_at": _UTC,
    "valid_at": _UTC,
    "ghi": pa.float64(),  # W/m²
    "dni": pa.float64(),  # W/m²
    "dhi": pa.float64(),  # W/m²
    "temp_air": pa.float64(),  # °C
    "wind_speed": pa.float64(),  # m/s
    "cloud_cover": pa.float64(),  # 0-1
}

PARKS = _table(
    "raw/parks", ("park_id", "valid_from"), None,
    park_id=pa.string(), valid_from=_UTC, facts=pa.string(),
)  # fmt: skip
RAW_WEATHER = _table("raw/weather", ("park_id", "source", "run_at", "valid_at"), "valid_at", **_WEATHER)
RAW_GENERATION = _table(
    "raw/generation", ("park_id", "inverter_id", "measured_at", "received_at"), "measured_at",
    park_id=pa.string(), inverter_id=pa.string(), measured_at=_UTC, period_s=pa.int32(), power_kw=pa.float64(),
    received_at=_UTC, label=pa.string(), source=pa.string(),
)  # fmt: skip
WEATHER = _table("processed/weather", ("park_id", "source", "run_at", "valid_at"), "valid_at", **_WEATHER)
GENERATION = _table(
    "processed/generation", ("park_id", "valid_at", "available_at"), "valid_at",
    park_id=pa.string(), valid_at=_UTC, available_at=_UTC, power_kw=pa.float64(), completeness=pa.float64(),
)  # fmt: skip
QUARANTINE = _table(
    "quarantine", ("table", "payload"), None,
    table=pa.string(), reason=pa.string(), payload=pa.string(), as_of=_UTC,
)  # fmt: skip
CLOCKS = _table(
    "raw/clocks", ("park_id", "report"), None, park_id=pa.string(), report=pa.string(), as_of=_UTC
)  # fmt: skip


def features(names: tuple[str, ...]) -> Table:
    """What the model saw in training. `target` is metered power as a fraction of capacity, NaN where not metered."""
    columns = {"park_id": pa.string(), "issued_at": _UTC, "valid_at": _UTC, "target": pa.float64()}
    return _table(
        "features", ("park_id", "issued_at", "valid_at"), "valid_at", **columns, **dict.fromkeys(names, pa.float32())
    )
