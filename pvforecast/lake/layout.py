"""How a table lies in files: what keeps their number bounded, and its log readable.

Every commit leaves one small file in each partition it touches. The commit that finds more than `MOST_SMALL` small
ones in a partition merges those, into files of up to `SMALL_BYTES`; the daily maintenance merges these to
`FILE_BYTES`. So no partition ever holds more than `MOST_SMALL` + 2 * (its bytes / `SMALL_BYTES` + 1) files, however
often is written and whether or not maintenance runs.
"""

from __future__ import annotations

import logging
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, PostCommitHookProperties
from deltalake.exceptions import DeltaError

from pvforecast.lake.tables import Table

MOST_SMALL = 48  # files below SMALL_BYTES in one partition; above, they are merged
SMALL_BYTES = 2_000_000
FILE_BYTES = 128_000_000

# Delta-rs would delete expired log files by itself, those of versions that models name included.
KEEP_LOG = PostCommitHookProperties(cleanup_expired_logs=False)

_log = logging.getLogger(__name__)


def properties(table: Table) -> dict[str, str]:
    """Configuration of a table: its log is cleaned by our maintenance alone, see `pvforecast.lake.maintenance`."""
    return {
        "delta.enableExpiredLogCleanup": "false",
        "delta.deletedFileRetentionDuration": f"interval {table.history_hours} hours",
        "delta.checkpointInterval": "50",
    }


def tidy(delta: DeltaTable, most: int = MOST_SMALL) -> int:
    """Merge the small files of each partition that has more than `most`; returns how many files went.

    Housekeeping of a commit that is done: what fails here is logged, and is tried again by the next commit.
    """
    full = [where for where, number in small_files(delta).items() if number > most]
    if not full:
        return 0
    removed = 0
    try:
        for where in full:
            filters = [(name, "=", value) for name, value in where] or None
            done: dict[str, Any] = delta.optimize.compact(
                filters, target_size=SMALL_BYTES, post_commithook_properties=KEEP_LOG
            )
            removed += int(done["numFilesRemoved"])
    except (DeltaError, OSError) as error:
        _log.warning("small files of %s were not merged: %s", delta.table_uri, " ".join(str(error).split())[:300])
    return removed


def small_files(delta: DeltaTable) -> dict[tuple[tuple[str, str], ...], int]:
    """Number of files below `SMALL_BYTES`, by partition."""
    files = pa.table(delta.get_add_actions(flatten=True))
    names = [name for name in files.column_names if name.startswith("partition.")]
    small = files.filter(pc.less(files["size_bytes"], SMALL_BYTES))
    if not names:
        return {(): len(small)}
    counts = small.group_by(names, use_threads=False).aggregate([([], "count_all")]).to_pylist()
    return {tuple((name[10:], str(row[name])) for name in names): row["count_all"] for row in counts}


def size(delta: DeltaTable) -> tuple[int, int]:
    """Files of the current version, and their bytes."""
    files = pa.table(delta.get_add_actions(flatten=True))
    return len(files), int(pc.sum(files["size_bytes"]).as_py() or 0)
