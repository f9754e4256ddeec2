"""Reading and writing Delta tables.

Every read of the project goes through `Lake.read`, by DataFusion. With deltalake 1.6, Arrow's readers (`to_pandas`,
`to_pyarrow_table`, `to_pyarrow_dataset`) call back into Python from threads of their own, and a short process that
ends while one of them still runs dies with SIGABRT: 3 of 120 processes did so even without `use_threads`, of 150 by
DataFusion none.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pvforecast import pod_identity
from pvforecast.errors import DataError, NotReady
from pvforecast.lake import layout
from pvforecast.lake.tables import Table, bucket_of

if TYPE_CHECKING:
    from deltalake.fs import DeltaStorageHandler

_PATIENCE_S = 300.0  # for how long a writer tries again against others
_FIRST_PAUSE_S, _SHORTEST_PAUSE_S = 1.0, 0.05
_NAMED = 1000  # values of a key column that are named in a query; more of them would not make it faster
# A commit that read the table is only good for the version it read; a blind append is good for any.
_AS_READ = CommitProperties(max_commit_retries=0)
_BLIND = CommitProperties(max_commit_retries=30)
_NO_SUCH_VERSION = ("No files in log segment", "not the same as the specified end version", "No such version")
_LOST_FILE = re.compile(r"not found|No such file", re.I)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Lake:
    """All tables below one URI.

    Parameters
    ----------
    uri : ``s3://bucket/prefix`` or a local folder.
    storage_options : of deltalake, see `s3_options`.
    """

    def __init__(self, uri: str, storage_options: dict[str, str] | None = None) -> None:
        self.uri = uri.rstrip("/")
        self._options = storage_options or {}

    def version(self, table: Table) -> int:
        """The table's current version, -1 when it does not exist yet."""
        delta = self.delta(table)
        return -1 if delta is None else int(delta.version())

    def read(
        self,
        table: Table,
        *,
        park_id: str | None = None,
        park_ids: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        during: tuple[str, datetime, datetime] | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """Rows of a table ordered by its key, of one park or some where they are given; empty when it does not exist.

        Parameters
        ----------
        during : a time column, and the instants from which and before which to read.
        version : time travel; the current one by default.

        Raises
        ------
        DataError
            that version lacks a column, or is no longer kept.
        NotReady
            the store did not answer.
        """
        names = columns or [name for name in table.schema.names if name not in table.partitions]
        wanted = pa.schema([table.schema.field(name) for name in names])
        delta = self.delta(table, version)
        if delta is None:
            return wanted.empty_table()
        stored = {field.name for field in delta.schema().fields}
        missing = [name for name in names if name not in stored]
        if missing:
            raise DataError(
                f"version {delta.version()} has no {', '.join(missing)}",
                field=table.name,
                hint="it was written before there were such columns: write it again",
            )
        conditions = ["true"]
        chosen = park_ids if park_id is None else [park_id]
        if chosen is not None:
            conditions += [of_parks(chosen) if table.partitions else among("park_id", chosen)]
        if during is not None:
            column, begin, end = during
            conditions += [f"{column} >= TIMESTAMP '{begin.isoformat()}'", f"{column} < TIMESTAMP '{end.isoformat()}'"]
        listed, key = (", ".join(f'"{name}"' for name in group) for group in (names, table.key))
        query = f"SELECT {listed} FROM t WHERE {' AND '.join(conditions)} ORDER BY {key}"
        return self._run(table, delta, query, version).cast(wanted)

    def query(
        self, table: Table, sql: str, *, version: int | None = None, against: int | None = None
    ) -> pa.Table | None:
        """Run SQL (DataFusion) over one table, named ``t`` in it; None when the table does not exist.

        Parameters
        ----------
        against : another version of it, named ``u``.
        """
        delta = self.delta(table, version)
        if delta is None:
            return None
        if against is None:
            return self._run(table, delta, sql, version)
        return _execute(table, delta, sql, self.delta(table, against))

    def append(self, table: Table, rows: pd.DataFrame) -> int:
        """Add rows as they are, in one commit: for what is de-duplicated when it is read. Returns their number.

        When the store fails while it answers, the rows may be stored although this raises `NotReady`; whoever then
        appends them again has them twice.
        """
        data = self._conform(table, rows)
        if len(data) == 0:
            return 0

        def write(delta: DeltaTable) -> int:
            write_deltalake(
                delta, data, mode="append", commit_properties=_BLIND, post_commithook_properties=layout.KEEP_LOG
            )
            return len(data)

        return self.commit(table, write)

    def append_new(self, table: Table, rows: pd.DataFrame) -> int:
        """Add the rows whose key is not stored yet, in one commit; returns how many those were.

        Safe to repeat, and safe beside other writers: the commit holds only for the version whose keys were read, and
        is tried again when another writer was first. Of the table it reads no more than the key columns, and only of
        the files that can hold these partitions and these times.
        """
        data = self._conform(table, rows)
        if len(data) == 0:
            return 0

        def write(delta: DeltaTable) -> int:
            new = _not_in(data, self._keys_like(table, delta, data), table.key)
            if len(new):
                write_deltalake(
                    delta, new, mode="append", commit_properties=_AS_READ, post_commithook_properties=layout.KEEP_LOG
                )
            return len(new)

        return self.commit(table, write)

    def replace_park(
        self, table: Table, park_id: str, rows: pd.DataFrame, *, metadata: dict[str, str] | None = None
    ) -> None:
        """Replace all rows of one park in one commit; other parks keep theirs. Older versions stay readable."""
        self.replace_parks(table, [park_id], rows, metadata=metadata)

    def replace_parks(
        self, table: Table, park_ids: Collection[str], rows: pd.DataFrame, *, metadata: dict[str, str] | None = None
    ) -> None:
        """As `replace_park`, of some parks in one commit. `rows` are of these parks alone."""
        data = self._conform(table, rows)

        def write(delta: DeltaTable) -> int:
            write_deltalake(
                delta,
                data,
                mode="overwrite",
                schema_mode="merge",
                predicate=of_parks(park_ids),
                commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
                post_commithook_properties=layout.KEEP_LOG,
            )
            return len(data)

        self.commit(table, write)

    def commit(self, table: Table, write: Callable[[DeltaTable], int]) -> int:
        """Run `write` on the current version, again while another writer is first; creates the table if need be.

        Raises
        ------
        DataError
            other writers were first for five minutes.
        NotReady
            the store did not answer.
        """
        until, attempt = time.monotonic() + _PATIENCE_S, 0
        while True:
            try:
                delta = self.delta(table) or self._create(table)
                written = write(delta)
                break
            except CommitFailedError as error:
                if time.monotonic() > until:
                    raise DataError(
                        f"{table.name}: other writers were first for {_PATIENCE_S:.0f} s", hint="try again"
                    ) from error
                # Who lost more often waits less, or one of ten writers could wait for a minute.
                attempt += 1
                time.sleep(random.uniform(0.3, 1.0) * max(_FIRST_PAUSE_S / attempt, _SHORTEST_PAUSE_S))
            except (DeltaError, OSError) as error:
                raise _unavailable(table, error) from error
        layout.tidy(delta)
        return written

    def delta(self, table: Table, version: int | None = None) -> DeltaTable | None:
        """The table itself, for maintenance; None when it does not exist. Reading goes through `read` and `query`.

        Raises
        ------
        DataError
            there is no such version, or it is no longer kept.
        """
        if version is not None and version < 0:
            raise _gone(table, version)
        for left in reversed(range(3)):
            try:
                return DeltaTable(self._uri(table), version=version, storage_options=self._options)
            except TableNotFoundError as error:
                if version is None:
                    return None
                raise _gone(table, version) from error
            except (DeltaError, OSError) as error:
                if version is not None and any(said in str(error) for said in _NO_SUCH_VERSION):
                    raise _gone(table, version) from error
                # Maintenance may delete a file of the old log while it is read: there is a newer checkpoint by then.
                if not (left and _LOST_FILE.search(str(error))):
                    raise _unavailable(table, error) from error
        raise AssertionError("the last round returns or raises")

    def files(self, table: Table) -> DeltaStorageHandler:
        """The files below a table, its log among them: for maintenance, by single calls and never for reading."""
        from deltalake.fs import DeltaStorageHandler

        return DeltaStorageHandler(self._uri(table), self._options)

    def _run(self, table: Table, delta: DeltaTable, sql: str, version: int | None) -> pa.Table:
        """Of the current version once more when the table moved on: maintenance may have removed a file meanwhile."""
        try:
            return _execute(table, delta, sql)
        except NotReady as error:
            if version is not None and _LOST_FILE.search(str(error)):
                raise _gone(table, version) from error
            newest = self.delta(table, version)
            if newest is None or newest.version() == delta.version():
                raise
            return _execute(table, newest, sql)

    def _keys_like(self, table: Table, delta: DeltaTable, data: pa.Table) -> pa.Table:
        """Keys of the stored rows that share partition and span of time with `data`."""
        conditions = ["true"]
        # Literals: by them files are left out unread.
        for name in [*table.partitions, table.key[0]]:
            values = pc.unique(data[name])
            conditions += [among(name, values.to_pylist())] if len(values) <= _NAMED else []
        for name in table.key:
            if pa.types.is_timestamp(table.schema.field(name).type):
                first, last = (moment.isoformat() for moment in pc.min_max(data[name]).as_py().values())
                conditions += [f"{name} >= TIMESTAMP '{first}'", f"{name} <= TIMESTAMP '{last}'"]
        keys = ", ".join(f'"{name}"' for name in table.key)
        stored = _execute(table, delta, f"SELECT {keys} FROM t WHERE {' AND '.join(conditions)}")
        return stored.cast(pa.schema([table.schema.field(name) for name in table.key]))

    def _conform(self, table: Table, rows: pd.DataFrame) -> pa.Table:
        """Rows as the contract wants them: UTC, partitions filled in, one row a key (the last)."""
        missing = [name for name in table.schema.names if name not in rows and name not in table.partitions]
        if not set(missing) <= set(table.optional):
            raise DataError(f"columns missing: {', '.join(missing)}", field=table.name)
        rows = rows.drop_duplicates(list(table.key), keep="last").assign(**dict.fromkeys(missing))
        for field in table.schema if len(rows) else ():
            if pa.types.is_timestamp(field.type) and str(getattr(rows[field.name].dtype, "tz", None)) != "UTC":
                raise DataError("times must be UTC", field=f"{table.name}.{field.name}", hint="convert: tz_convert")
        if table.time_column:
            moment = rows[table.time_column]
            rows["month"] = _months(moment) if len(rows) else pd.Series(dtype=str)
            buckets = {park_id: bucket_of(park_id) for park_id in rows["park_id"].unique()}
            rows["bucket"] = rows["park_id"].map(buckets).astype("int32") if len(rows) else pd.Series(dtype="int32")
            rows = rows.sort_values(["park_id", table.time_column])
        try:
            return pa.Table.from_pandas(rows[table.schema.names], schema=table.schema, preserve_index=False, safe=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"rows do not fit the table: {error}", field=table.name) from error

    def _create(self, table: Table) -> DeltaTable:
        return DeltaTable.create(
            self._uri(table),
            table.schema,
            mode="ignore",
            partition_by=table.partitions or None,
            configuration=layout.properties(table),
            storage_options=self._options,
        )

    def _uri(self, table: Table) -> str:
        return f"{self.uri}/{table.name}"


def _months(moments: pd.Series) -> npt.NDArray[np.object_]:
    """``2024-03`` of each; a few distinct ones are formatted, not each row (1 s per 60,000 rows)."""
    codes, distinct = pd.factorize(moments.dt.tz_localize(None).to_numpy().astype("datetime64[M]"))
    named: npt.NDArray[np.object_] = np.datetime_as_string(np.asarray(distinct)).astype(object)[codes]
    return named


def s3_options(endpoint: str, access_key: str, secret_key: str, region: str = "us-east-1") -> dict[str, str]:
    """Storage options for an S3 server. Conditional put by ETag keeps concurrent commits apart.

    Without keys the pod's service account is used, where it has a role (`pod_identity`).
    """
    keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
    return {
        **((not access_key and pod_identity.offered()) or keys),
        "aws_endpoint": endpoint,
        "aws_region": region,
        "aws_allow_http": "true" if endpoint.startswith("http://") else "false",
        "aws_conditional_put": "etag",
        "timeout": "30s",
        "connect_timeout": "5s",
        "max_retries": "3",
    }


def _not_in(data: pa.Table, stored: pa.Table, key: Sequence[str]) -> pa.Table:
    """Rows of `data` whose key is not in `stored`, in their order."""
    if len(stored) == 0:
        return data
    numbered = data.select(list(key)).append_column("row", pa.array(range(len(data)), pa.int64()))
    kept = numbered.join(stored, list(key), join_type="left anti", use_threads=False)["row"]
    return data.take(kept.take(pc.sort_indices(kept)))


def _execute(table: Table, delta: DeltaTable, sql: str, other: DeltaTable | None = None) -> pa.Table:
    try:
        query = QueryBuilder().register("t", delta)
        if other is not None:
            query.register("u", other)
        return pa.table(query.execute(sql).read_all())
    except Exception as error:  # a file that can't be read is no narrower one
        raise _unavailable(table, error) from error


def of_parks(park_ids: Collection[str]) -> str:
    """As SQL over a table with partitions: rows of these parks, and by their buckets which files are read."""
    return f"{among('park_id', park_ids)} AND {among('bucket', sorted({bucket_of(park) for park in park_ids}))}"


def among(column: str, values: Iterable[str | int]) -> str:
    """As SQL: the column has one of these values."""
    listed = ", ".join(_quoted(value) if isinstance(value, str) else str(value) for value in values)
    return f"{column} IN ({listed})" if listed else "false"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _gone(table: Table, version: int) -> DataError:
    return DataError(
        f"there is no version {version}, or it is no longer kept", field=table.name, hint="see pvf data log"
    )


def _unavailable(table: Table, error: Exception) -> NotReady:
    said = " ".join(_COLOUR.sub("", str(error)).split())  # delta-rs draws its causes as a coloured tree,
    said = said.partition(" 0: <unknown>")[0]  # and may add the stack of its threads
    return NotReady(f"the lake did not answer for {table.name}: {said}", hint="is the object store running?")
