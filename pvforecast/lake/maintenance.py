"""Daily maintenance of the lake: merges files, deletes what no kept version needs, and writes down what it did.

Safe beside running writers and readers, and to be killed and repeated at any moment. Of each table:

1. rows beyond their retention are deleted, where a retention is set;
2. small files are merged, by partition, up to `layout.FILE_BYTES`;
3. files that no kept version needs are deleted: kept are the versions of the last `Table.history_hours`, and those that
   models name. A file nobody names, left by a killed writer, goes when it is that old too;
4. the log before the last checkpoint that is older than `Policy.log_days` is deleted. Each version that a model names
   first gets a checkpoint of its own, from which alone it can be read.

When it can't be told which versions models name, nothing is deleted in 3 and 4.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from pvforecast.errors import DataError, InvalidInput, PvForecastError
from pvforecast.lake import layout
from pvforecast.lake.store import Lake
from pvforecast.lake.tables import MAINTENANCE, QUARANTINE, RAW_GENERATION, RAW_WEATHER, TABLES, Table, features

SHORTEST_RAW_DAYS = 90  # late rows and corrections are rolled up from raw rows: those must still be there
_LOG_FILE = re.compile(r"_delta_log/(\d{20})\.(json|checkpoint.*parquet)")


@dataclass(frozen=True)
class Policy:
    """How long what is kept.

    Attributes
    ----------
    log_days : of each table's log: how far back `pvf data log` reaches, and any version can be found.
    history_hours : overrides `Table.history_hours`; None for each table's own.
    raw_days : rows of raw tables are deleted by whole months when all of the month is older; 0 keeps them.
    quarantine_days : the same of quarantine, by the row; 0 keeps them.
    """

    log_days: float = 30
    history_hours: int | None = None
    raw_days: int = 0
    quarantine_days: int = 0

    def __post_init__(self) -> None:
        if 0 < self.raw_days < SHORTEST_RAW_DAYS:
            raise InvalidInput(
                f"{self.raw_days} days: raw rows are needed for late corrections", field="PVF_RAW_RETENTION_DAYS",
                hint=f"0 to keep them, or at least {SHORTEST_RAW_DAYS}",
            )  # fmt: skip


def maintain(
    lake: Lake, pins: Mapping[str, Collection[int]] | str, now: datetime, policy: Policy | None = None
) -> list[dict[str, Any]]:
    """Maintain every table that exists; a table that fails is reported, and the others go on.

    Parameters
    ----------
    pins : versions that models name, by table (see `versions.pinned`); or in words why they are not known.
    now : UTC.

    Returns
    -------
    A row of the table ``maintenance`` for each table; they are stored too.
    """
    rows = []
    for table in [*TABLES.values(), features(())]:
        if lake.version(table) < 0:
            continue
        begun = time.monotonic()
        done: dict[str, Any] = {"at": now, "table": table.name, "note": ""}
        try:
            _maintain(lake, table, pins, now, policy or Policy(), done)
        except (PvForecastError, DeltaError, OSError) as error:
            done["note"] = f"failed: {' '.join(str(error).split())}"[:500]
        rows.append({**done, "seconds": round(time.monotonic() - begun, 3)})
    if rows:
        frame = pd.DataFrame(rows).assign(at=pd.Timestamp(now).tz_convert("UTC"))
        lake.append(MAINTENANCE, frame.reindex(columns=MAINTENANCE.schema.names))
    return rows


def _maintain(
    lake: Lake,
    table: Table,
    pins: Mapping[str, Collection[int]] | str,
    now: datetime,
    policy: Policy,
    done: dict[str, Any],
) -> None:
    delta = _existing(lake, table)
    done["files_before"] = layout.size(delta)[0]
    if not layout.properties(table).items() <= delta.metadata().configuration.items():
        lake.commit(table, _set_properties(table))
    done["rows_expired"] = _expire(lake, table, now, policy)
    lake.commit(table, _compact)
    if isinstance(pins, str):
        done["note"] = f"nothing deleted: {pins}"
    else:
        kept, lost = _readable(lake, table, pins.get(table.name, ()))
        done["pinned"] = ",".join(map(str, kept))
        if lost:
            done["note"] = f"no longer there, though a model names them: versions {', '.join(map(str, lost))}"
        hours = table.history_hours if policy.history_hours is None else policy.history_hours
        done["files_deleted"] = _vacuum(lake, table, hours, kept)
        done["log_files_deleted"] = _clean_log(lake, table, kept, now - timedelta(days=policy.log_days))
    delta = _existing(lake, table)
    done["version"] = int(delta.version())
    done["files_after"], done["bytes"] = layout.size(delta)


def _expire(lake: Lake, table: Table, now: datetime, policy: Policy) -> int:
    if table in (RAW_WEATHER, RAW_GENERATION) and policy.raw_days:
        predicate = f"month < '{now - timedelta(days=policy.raw_days):%Y-%m}'"
    elif table == QUARANTINE and policy.quarantine_days:
        # A delete compares by the column's own type, where a query would convert.
        instant = f"'{(now - timedelta(days=policy.quarantine_days)).isoformat()}'"
        predicate = f"at < arrow_cast({instant}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
    else:
        return 0
    found = lake.query(table, f"SELECT count(*) AS n FROM t WHERE {predicate}")
    if found is None or found["n"][0].as_py() == 0:
        return 0
    expired = int(found["n"][0].as_py())

    def delete(delta: DeltaTable) -> int:
        delta.delete(predicate, post_commithook_properties=layout.KEEP_LOG)
        return expired

    return lake.commit(table, delete)


def _set_properties(table: Table) -> Callable[[DeltaTable], int]:
    def write(delta: DeltaTable) -> int:
        delta.alter.set_table_properties(layout.properties(table))
        return 0

    return write


def _compact(delta: DeltaTable) -> int:
    done = delta.optimize.compact(target_size=layout.FILE_BYTES, post_commithook_properties=layout.KEEP_LOG)
    return int(done["numFilesRemoved"])


def _readable(lake: Lake, table: Table, versions: Collection[int]) -> tuple[list[int], list[int]]:
    """Of the versions named, those that are there, and those that are not: of a lake that was made anew, say."""
    kept, lost = [], []
    for version in sorted(version for version in versions if version >= 0):
        try:
            kept += [] if lake.delta(table, version) is None else [version]
        except DataError:
            lost.append(version)
    return kept, lost


def _vacuum(lake: Lake, table: Table, hours: int, kept: list[int]) -> int:
    def vacuum(delta: DeltaTable, dry_run: bool) -> int:
        return len(
            delta.vacuum(
                hours,
                dry_run=dry_run,
                enforce_retention_duration=False,  # the table's own may be older than the setting
                full=True,
                keep_versions=kept or None,
                post_commithook_properties=layout.KEEP_LOG,
            )
        )

    # A vacuum makes two commits even when it has nothing to do.
    return lake.commit(table, lambda delta: vacuum(delta, False)) if vacuum(_existing(lake, table), True) else 0


def _clean_log(lake: Lake, table: Table, kept: list[int], before: datetime) -> int:
    """Delete the log before the newest checkpoint that is older than `before`, but for the kept versions'."""
    delta = _existing(lake, table)
    delta.create_checkpoint()
    log = _log_files(lake, table)
    old = [version for version, kind, at, _ in log if kind != "json" and at < before and version <= delta.version()]
    if not old:
        return 0
    first = max(old)
    checkpoints = {version for version, kind, _, _ in log if kind != "json"}
    missing = [version for version in kept if version < first and version not in checkpoints]
    for version in missing:
        there = lake.delta(table, version)
        if there is not None:
            there.create_checkpoint()
    if missing:
        _existing(lake, table).create_checkpoint()  # the hint to the last checkpoint names the newest again
        log = _log_files(lake, table)
        if not set(missing) <= {version for version, kind, _, _ in log if kind != "json"}:
            raise DataError("a version that a model names could not be secured", field=table.name, hint="run it again")
    handler = lake.files(table)
    expired = [path for version, kind, _, path in log if version < first and (kind == "json" or version not in kept)]
    for path in expired:
        handler.delete_file(path)
    return len(expired)


def _log_files(lake: Lake, table: Table) -> list[tuple[int, str, datetime, str]]:
    """Version, kind, when written and path of each file of the log, by version."""
    from pyarrow.fs import FileSelector

    files = []
    for info in lake.files(table).get_file_info_selector(FileSelector("_delta_log", recursive=True)):
        named = _LOG_FILE.fullmatch(info.path)
        if named is not None:
            kind = "json" if named[2] == "json" else "checkpoint"
            files.append((int(named[1]), kind, info.mtime, info.path))
    return sorted(files)


def _existing(lake: Lake, table: Table) -> DeltaTable:
    delta = lake.delta(table)
    if delta is None:
        raise DataError("the table went away meanwhile", field=table.name)
    return delta
