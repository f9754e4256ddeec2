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
from collections.abc import Callable, Sequence
from datetime import datetime

import pandas as pd
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pvforecast.errors import DataError, NotReady
from pvforecast.lake.tables import Table, bucket_of

_ATTEMPTS = 8
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
        delta = self._open(table)
        return -1 if delta is None else int(delta.version())

    def read(
        self,
        table: Table,
        *,
        park_id: str | None = None,
        columns: Sequence[str] | None = None,
        during: tuple[str, datetime, datetime] | None = None,
        version: int | None = None,
    ) -> pa.Table:
        """Rows of a table ordered by its key, of one park where `park_id` is given; empty when it does not exist.

        Parameters
        ----------
        during : a time column, and the instants from which and before which to read.
        version : time travel; the current one by default.

        Raises
        ------
        DataError
            that version lacks a column.
        NotReady
            the store did not answer.
        """
        names = columns or [name for name in table.schema.names if name not in table.partitions]
        wanted = pa.schema([table.schema.field(name) for name in names])
        delta = self._open(table, version)
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
        if park_id is not None:
            conditions += [f"park_id = {_quoted(park_id)}"]
            conditions += [f"bucket = {bucket_of(park_id)}"] if table.partitions else []
        if during is not None:
            column, begin, end = during
            conditions += [f"{column} >= TIMESTAMP '{begin.isoformat()}'", f"{column} < TIMESTAMP '{end.isoformat()}'"]
        listed, key = (", ".join(f'"{name}"' for name in group) for group in (names, table.key))
        query = f"SELECT {listed} FROM t WHERE {' AND '.join(conditions)} ORDER BY {key}"
        try:
            rows = pa.table(QueryBuilder().register("t", delta).execute(query).read_all())
        except Exception as error:  # a file that can't be read is no narrower one
            raise _unavailable(table, error) from error
        return rows.cast(wanted)

    def append_new(self, table: Table, rows: pd.DataFrame) -> int:
        """Add the rows whose key is not stored yet, in one commit; returns how many those were.

        Safe to repeat, and safe beside other writers: a commit that lost the race is tried again.
        """
        data = self._conform(table, rows)
        if len(data) == 0:
            return 0
        match = " AND ".join(f"t.{name} = s.{name}" for name in table.key)
        if table.partitions:
            match += "".join(f" AND t.{name} = s.{name}" for name in table.partitions)

        def commit(delta: DeltaTable) -> int:
            merge = delta.merge(
                data,
                match,
                source_alias="s",
                target_alias="t",
                commit_properties=CommitProperties(max_commit_retries=0),
            )
            return int(merge.when_not_matched_insert_all().execute()["num_target_rows_inserted"])

        return self._commit(table, commit)

    def replace_park(
        self, table: Table, park_id: str, rows: pd.DataFrame, *, metadata: dict[str, str] | None = None
    ) -> None:
        """Replace all rows of one park in one commit; other parks keep theirs. Older versions stay readable."""
        data = self._conform(table, rows)

        def commit(delta: DeltaTable) -> int:
            write_deltalake(
                delta,
                data,
                mode="overwrite",
                schema_mode="merge",
                predicate=f"bucket = {bucket_of(park_id)} AND park_id = {_quoted(park_id)}",
                commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=0),
            )
            return len(data)

        self._commit(table, commit)

    def _commit(self, table: Table, commit: Callable[[DeltaTable], int]) -> int:
        for attempt in range(_ATTEMPTS):
            try:
                return commit(self._open(table) or self._create(table))
            except CommitFailedError:
                _back_off(attempt)
            except (DeltaError, OSError) as error:
                raise _unavailable(table, error) from error
        raise DataError(f"{table.name}: {_ATTEMPTS} commits lost the race against other writers", hint="try again")

    def _conform(self, table: Table, rows: pd.DataFrame) -> pa.Table:
        """Rows as the contract wants them: UTC, partitions filled in, one row a key (the last)."""
        missing = [name for name in table.schema.names if name not in rows and name not in table.partitions]
        if missing:
            raise DataError(f"columns missing: {', '.join(missing)}", field=table.name)
        rows = rows.drop_duplicates(list(table.key), keep="last").copy()
        for field in table.schema if len(rows) else ():
            if pa.types.is_timestamp(field.type) and str(getattr(rows[field.name].dtype, "tz", None)) != "UTC":
                raise DataError("times must be UTC", field=f"{table.name}.{field.name}", hint="convert: tz_convert")
        if table.time_column:
            moment = rows[table.time_column]
            rows["month"] = moment.dt.strftime("%Y-%m") if len(rows) else pd.Series(dtype=str)
            rows["bucket"] = rows["park_id"].map(bucket_of).astype("int32") if len(rows) else pd.Series(dtype="int32")
            rows = rows.sort_values(["park_id", table.time_column])
        try:
            return pa.Table.from_pandas(rows[table.schema.names], schema=table.schema, preserve_index=False, safe=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"rows do not fit the table: {error}", field=table.name) from error

    def _open(self, table: Table, version: int | None = None) -> DeltaTable | None:
        try:
            return DeltaTable(self._uri(table), version=version, storage_options=self._options)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise _unavailable(table, error) from error

    def _create(self, table: Table) -> DeltaTable:
        return DeltaTable.create(
            self._uri(table),
            table.schema,
            mode="ignore",
            partition_by=table.partitions or None,
            storage_options=self._options,
        )

    def _uri(self, table: Table) -> str:
        return f"{self.uri}/{table.name}"


def s3_options(endpoint: str, access_key: str, secret_key: str, region: str = "us-east-1") -> dict[str, str]:
    """Storage options for an S3 server. Conditional put by ETag keeps concurrent commits apart."""
    return {
        "aws_endpoint": endpoint,
        "aws_access_key_id": access_key,
        "aws_secret_access_key": secret_key,
        "aws_region": region,
        "aws_allow_http": "true" if endpoint.startswith("http://") else "false",
        "aws_conditional_put": "etag",
        "timeout": "30s",
        "connect_timeout": "5s",
        "max_retries": "3",
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _back_off(attempt: int) -> None:
    time.sleep(random.uniform(0.05, 0.1) * 2**attempt)


def _unavailable(table: Table, error: Exception) -> NotReady:
    said = " ".join(_COLOUR.sub("", str(error)).split())  # delta-rs draws its causes as a coloured tree
    return NotReady(f"the lake did not answer for {table.name}: {said}", hint="is the object store running?")
