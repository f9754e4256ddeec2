"""Every forecast of a backtest as one Parquet file, written park by park."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pvforecast.errors import InvalidInput
from pvforecast.evaluation.rolling import MODEL, ParkForecasts
from pvforecast.known import Times

_STAMP = pa.timestamp("s", tz="UTC")


class ForecastFile:
    """Writes the model's forecasts; the file appears whole, at the end.

    Columns: `park_id`; `issued_at`, `valid_at` (UTC, start of the interval); `lead` (hours from issue to that start:
    0 is the first interval); a column for each of the model's levels in kW (``q05`` … ``q95``, or ``q01`` … ``q99``);
    `power_kw`, what was metered, null where nothing was.

    Raises
    ------
    InvalidInput
        the file can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ForecastFile:
        return self

    def write(self, forecast: ParkForecasts) -> None:
        """Append the forecasts of one park."""
        names = [column(level) for level in forecast.levels]
        schema = pa.schema(
            [("park_id", pa.string()), ("issued_at", _STAMP), ("valid_at", _STAMP), ("lead", pa.float64())]
            + [(name, pa.float64()) for name in (*names, "power_kw")]
        )
        quantiles = forecast.quantiles[MODEL] * forecast.capacity_kw[:, None]
        columns = [pa.array(np.full(len(forecast), forecast.park_id, dtype=object), pa.string())]
        columns += [_times(forecast.issued_at), _times(forecast.valid_at), pa.array(forecast.lead_hours)]
        columns += [pa.array(quantiles[:, at], pa.float64(), from_pandas=True) for at in range(len(names))]
        columns += [pa.array(forecast.target * forecast.capacity_kw, from_pandas=True)]
        try:
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._part, schema, compression="zstd")
            self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))
        except OSError as error:
            raise _unwritable(error) from error
        self.rows += len(forecast)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
            if kind is None:
                self._part.replace(self._path)
            else:
                self._part.unlink(missing_ok=True)
        except OSError as failed:
            raise _unwritable(failed) from failed


def column(level: float) -> str:
    """Name of a level's column: q05, q50, q97_5."""
    return f"q{level * 100:04.1f}".removesuffix(".0").replace(".", "_")


def _unwritable(error: OSError) -> InvalidInput:
    return InvalidInput(f"can't be written: {error}", field="--forecasts", hint="name another file")


def _times(times: Times) -> pa.Array:
    return pa.array(times).cast(pa.timestamp("s")).cast(_STAMP)
