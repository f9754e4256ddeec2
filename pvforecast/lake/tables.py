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
    optional : columns that rows may lack; null is stored.
    history_hours : how long every version can be read again; a version that a model names can be read for good.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    time_column: str | None
    optional: tuple[str, ...] = ()
    history_hours: int = 7 * 24

    @property
    def partitions(self) -> list[str]:
        return ["month", "bucket"] if self.time_column else []


def bucket_of(park_id: str) -> int:
    """The park's fixed bucket, 0..BUCKETS-1."""
    return zlib.crc32(park_id.encode()) % BUCKETS


def _table(
    name: str,
    key: tuple[str, ...],
    time_column: str | None,
    optional: tuple[str, ...] = (),
    history_hours: int = 7 * 24,
    **columns: pa.DataType,
) -> Table:
    fields = list(columns.items())
    if time_column:
        fields += [("month", pa.string()), ("bucket", pa.int32())]
    return Table(name, pa.schema(fields), key, time_column, optional, history_hours)


_WEATHER = {
    "park_id": pa.string(),
    "source": pa.string(),
    "run_at": _UTC,
    "available_at": _UTC,
    "valid_at": _UTC,
    "period_s": pa.int32(),  # length of the interval: 3600, or 900
    "ghi": pa.float64(),  # W/m²
    "dni": pa.float64(),  # W/m²
    "dhi": pa.float64(),  # W/m²
    "temp_air": pa.float64(),  # °C
    "wind_speed": pa.float64(),  # m/s
    "cloud_cover": pa.float64(),  # 0-1
    "relative_humidity": pa.float64(),  # 0-1
    "precipitation": pa.float64(),  # mm in the interval
    "extra": pa.map_(pa.string(), pa.float64()),  # free columns, x_*: a map, so that new ones never change the table
}
_VARIABLES = tuple(_WEATHER)[6:]
_WEATHER_KEY = ("park_id", "source", "run_at", "valid_at", "period_s")

# Facts of a park: what holds from `valid_from` on; a later `recorded_at` corrects what was written under the same.
PARKS = _table(
    "raw/parks", ("park_id", "valid_from", "recorded_at"), None,
    park_id=pa.string(), valid_from=_UTC, recorded_at=_UTC, facts=pa.string(),
)  # fmt: skip
RAW_WEATHER = _table("raw/weather", _WEATHER_KEY, "valid_at", _VARIABLES, **_WEATHER)
# As delivered. `energy_total_kwh`: the inverter's counter, where it sent one. `available_fraction` (0-1),
# `export_limit_kw` and `curtailed` as the sender stated them, null where it did not. No model names a version of it,
# and telemetry rewrites its files all day long: a day of versions is kept.
RAW_GENERATION = _table(
    "raw/generation", ("park_id", "inverter_id", "measured_at", "received_at"), "measured_at",
    ("energy_total_kwh", "available_fraction", "export_limit_kw", "curtailed", "label"), 24,
    park_id=pa.string(), inverter_id=pa.string(), measured_at=_UTC, period_s=pa.int32(), power_kw=pa.float64(),
    energy_total_kwh=pa.float64(), available_fraction=pa.float64(), export_limit_kw=pa.float64(),
    curtailed=pa.bool_(), received_at=_UTC, label=pa.string(), source=pa.string(),
)  # fmt: skip
WEATHER = _table("processed/weather", _WEATHER_KEY, "valid_at", _VARIABLES, **_WEATHER)
# The park's power. `flags`: words, by blanks, that say why an interval is no evidence of what the park can do
# (curtailed, outage, snow, ...); empty for a healthy one.
GENERATION = _table(
    "processed/generation", ("park_id", "period_s", "valid_at", "available_at"), "valid_at",
    ("available_fraction", "export_limit_kw", "flags"),
    park_id=pa.string(), valid_at=_UTC, period_s=pa.int32(), available_at=_UTC, power_kw=pa.float64(),
    completeness=pa.float64(), available_fraction=pa.float64(), export_limit_kw=pa.float64(), flags=pa.string(),
)  # fmt: skip
# What was set aside, append-only: a row that was replayed or dismissed has a second entry with that state.
# `origin`: file and row, topic, or address. `payload`: the row as JSON, or what was delivered, shortened.
QUARANTINE = _table(
    "quarantine", ("id", "state"), None,
    id=pa.string(), state=pa.string(), at=_UTC, table=pa.string(), park_id=pa.string(), source=pa.string(),
    origin=pa.string(), reason=pa.string(), payload=pa.string(),
)  # fmt: skip
# A park's clock findings: a row each time somebody looked, weekly at most; the newest counts.
CLOCKS = _table(
    "raw/clocks", ("park_id", "as_of"), None, park_id=pa.string(), report=pa.string(), as_of=_UTC
)  # fmt: skip
# Hours kept from training by the drift event that found a fault in them; see `pvforecast.holds`.
HOLDS = _table(
    "drift/holds", ("event_id", "park_id", "state"), None,
    event_id=pa.string(), park_id=pa.string(), state=pa.string(), at=_UTC, begin=_UTC, end=_UTC, cause=pa.string(),
)  # fmt: skip
# What each drift check measured, for dashboards. `day`: of the park's solar calendar. `kind`: detector, psi (less
# its bias), weather (distance of a feature), accuracy (of what was served; `reference_id` is then the model), or level
# (a lasting change, since `day`; `value` is the power from then on over that before).
# `limit`: what the value is compared with.
DRIFT_SCORES = Table(
    "drift/scores",
    pa.schema(
        [
            ("park_id", pa.string()), ("day", pa.string()), ("kind", pa.string()), ("name", pa.string()),
            ("value", pa.float64()), ("limit", pa.float64()), ("alarm", pa.bool_()), ("checked_at", _UTC),
            ("reference_id", pa.string()),
        ]
    ),
    ("park_id", "day", "kind", "name", "reference_id"),
    None,
)  # fmt: skip
# What maintenance did to each table, and why it left something undone.
MAINTENANCE = _table(
    "maintenance", ("at", "table"), None,
    at=_UTC, table=pa.string(), version=pa.int64(), seconds=pa.float64(), files_before=pa.int64(),
    files_after=pa.int64(), bytes=pa.int64(), rows_expired=pa.int64(), files_deleted=pa.int64(),
    log_files_deleted=pa.int64(), pinned=pa.string(), note=pa.string(),
)  # fmt: skip


def features(names: tuple[str, ...]) -> Table:
    """What the model saw in training. `target` is metered power as a fraction of capacity, NaN where not metered."""
    columns = {"park_id": pa.string(), "issued_at": _UTC, "valid_at": _UTC, "target": pa.float64()}
    return _table(
        "features", ("park_id", "issued_at", "valid_at"), "valid_at", **columns, **dict.fromkeys(names, pa.float32())
    )


TABLES = {
    table.name: table
    for table in (
        PARKS,
        RAW_WEATHER,
        RAW_GENERATION,
        WEATHER,
        GENERATION,
        QUARANTINE,
        CLOCKS,
        HOLDS,
        DRIFT_SCORES,
        MAINTENANCE,
    )
}  # fmt: skip
"""By name, but for `features`, whose columns are those of a recipe."""
