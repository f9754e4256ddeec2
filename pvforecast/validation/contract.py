"""pandera contracts: what rows of a table must look like, and how those that break one are told apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa

from pvforecast.errors import DataError
from pvforecast.lake.tables import GENERATION, RAW_GENERATION, RAW_WEATHER, WEATHER, Table
from pvforecast.validation.levels import reason

_DTYPES = {pa.string(): "str", pa.int32(): "int32", pa.float64(): "float64"}
_NOT_NULL = {"measured_at", "valid_at", "run_at", "available_at", "received_at", "park_id", "period_s"}


def accept(table: Table, rows: pd.DataFrame) -> None:
    """Refuse a delivery whose columns are not those of `table`; nothing of it is stored then.

    Raises
    ------
    DataError
        a column is missing, of another type, or a time without UTC; a key that is null.
    """
    if rows.empty:
        return
    try:
        _shape(table).validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        column = first.failure_case if first.check == "column_in_dataframe" else first.column
        raise DataError(
            f"{first.check}: {first.failure_case!r}", field=f"{table.name}.{column}", hint=reason("schema")
        ) from error


def check_processed(table: Table, rows: pd.DataFrame) -> None:
    """Hold what we are about to store as processed against its contract: what fails here is our fault, not theirs.

    Raises
    ------
    DataError
        naming the column and the first value.
    """
    accept(table, rows)
    try:
        _PROCESSED[table.name].validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        raise DataError(f"{first.check}: {first.failure_case!r}", field=f"{table.name}.{first.column}") from error


def split(
    rows: pd.DataFrame, contract: pandera.DataFrameSchema, seen: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Good rows, and bad rows with a column `reason`. Nothing is dropped.

    Parameters
    ----------
    rows : with a fresh index.
    seen : the columns that `contract` looks at, on the same index.
    """
    try:
        contract.validate(seen, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        known = cases[cases["index"].notna()]
        if known.empty:
            raise
        told = known.column + "=" + known.failure_case.map(repr) + ": " + known.check
        reasons = told.groupby(known["index"].astype(int)).agg("; ".join)
        bad = rows.index.isin(reasons.index)
        return rows[~bad], rows[bad].assign(reason=reasons.loc[rows.index[bad]].to_numpy())
    return rows, rows.iloc[:0].assign(reason=pd.Series(dtype=str))


def within(name: str, low: float | pd.Series, high: float | pd.Series, hint: str = "") -> pandera.Check:
    """Values between two limits, each a number or one a row."""

    def holds_for(values: pd.Series) -> pd.Series:
        return (values >= _at(low, values)) & (values <= _at(high, values))

    return pandera.Check(holds_for, error=reason(name, hint), ignore_na=True)


def holds(name: str, good: pd.Series, hint: str = "") -> pandera.Check:
    """A condition that is known row by row, on the index of the rows."""
    return pandera.Check(lambda values: _at(good, values), error=reason(name, hint), ignore_na=False)


def _at(limit: float | pd.Series, values: pd.Series) -> float | pd.Series:
    """The limits of these values: pandera leaves out those that are null."""
    return limit.reindex(values.index) if isinstance(limit, pd.Series) else limit


def _shape(table: Table) -> pandera.DataFrameSchema:
    columns = {}
    for field in table.schema:
        if field.name in table.partitions or pa.types.is_map(field.type):
            continue
        optional = field.name in table.optional
        if pa.types.is_timestamp(field.type):
            utc = pandera.Check(lambda times: str(times.dt.tz) == "UTC", error="no time in UTC")
            kind = pandera.Check(pd.api.types.is_datetime64_any_dtype, error="no time")
            columns[field.name] = pandera.Column(None, [kind, utc], required=not optional)
            continue
        dtype = _DTYPES.get(field.type) if not optional else None
        checks = [pandera.Check(_numeric, error="no numbers")] if optional and field.type == pa.float64() else []
        columns[field.name] = pandera.Column(
            None if dtype == "int32" else dtype,
            checks,
            nullable=field.name not in _NOT_NULL,
            required=not optional,
            coerce=False,
        )
    return pandera.DataFrameSchema(columns)


def _numeric(values: pd.Series) -> bool:
    kind: bool = pd.api.types.is_numeric_dtype(values) or bool(values.isna().all())
    return kind


_PROCESSED = {
    GENERATION.name: pandera.DataFrameSchema(
        {
            "period_s": pandera.Column(None, pandera.Check.isin([900, 3600])),
            "power_kw": pandera.Column(float, pandera.Check(np.isfinite, error="not finite"), nullable=True),
            "completeness": pandera.Column(float, pandera.Check.in_range(0.0, 1.0 + 1e-9)),
            "available_fraction": pandera.Column(float, pandera.Check.in_range(0.0, 1.0), nullable=True),
        },
        checks=pandera.Check(
            lambda rows: rows.power_kw.notna() | (rows.completeness == 0.0), error="no power and yet complete"
        ),
    ),
    WEATHER.name: pandera.DataFrameSchema({"period_s": pandera.Column(None, pandera.Check.isin([900, 3600]))}),
}
CONTRACTS = tuple(table.name for table in (RAW_GENERATION, RAW_WEATHER, GENERATION, WEATHER))
