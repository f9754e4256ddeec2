"""Prices for `pvf backtest --prices`: a CSV of day-ahead and imbalance prices, or of one spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pvforecast.errors import InvalidInput
from pvforecast.evaluation.imbalance import Prices
from pvforecast.known import Floats, Times

_MARKET = ("day_ahead", "imbalance_up", "imbalance_down")
_FIELD = "--prices"


def read(path: Path) -> Prices:
    """Read prices, currency per MWh.

    Columns: `valid_at` (ISO instant with offset, start of the interval) and either `day_ahead`, `imbalance_up` (paid
    for what is missing), `imbalance_down` (got for what is too much), or `spread` (lost on either side).

    Raises
    ------
    InvalidInput
        the file can't be read, lacks a column, holds a time without offset or twice, or something that is no number.
    """
    try:
        table = pd.read_csv(path, dtype=str)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} can't be read: {error}", field=_FIELD, hint="a CSV with a header") from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    wanted = ("spread",) if "spread" in table.columns else _MARKET
    missing = [name for name in ("valid_at", *wanted) if name not in table.columns]
    if missing:
        raise InvalidInput(
            f"{path} has no column {missing[0]!r}",
            field=_FIELD,
            hint="valid_at with spread, or with day_ahead, imbalance_up and imbalance_down",
        )
    valid_at = _instants(table["valid_at"], path)
    order = np.argsort(valid_at, kind="stable")
    valid_at = valid_at[order]
    if (valid_at[1:] == valid_at[:-1]).any():
        twice = valid_at[1:][valid_at[1:] == valid_at[:-1]][0]
        raise InvalidInput(f"{path} has {twice} twice", field=_FIELD, hint="one row an interval")
    columns = [_numbers(table[name], path)[order] for name in wanted]
    return Prices.of_spread(valid_at, columns[0]) if len(columns) == 1 else Prices.of_market(valid_at, *columns)


def _instants(texts: pd.Series, path: Path) -> Times:
    has_offset = texts.str.contains(r"(?:[zZ]|[+-]\d\d:?\d\d)\s*$", regex=True, na=False)
    parsed = pd.to_datetime(texts.where(has_offset), utc=True, errors="coerce", format="ISO8601")
    if parsed.isna().any():
        bad = int(np.flatnonzero(parsed.isna())[0])
        raise InvalidInput(
            f"{path} row {bad + 2}: {texts.iloc[bad]!r} is no ISO instant with offset",
            field=_FIELD,
            hint="e.g. 2024-06-01T00:00:00+00:00",
        )
    times: Times = parsed.dt.tz_localize(None).to_numpy().astype("datetime64[s]")
    return times


def _numbers(texts: pd.Series, path: Path) -> Floats:
    numbers: Floats = pd.to_numeric(texts, errors="coerce").to_numpy(float)
    bad = np.flatnonzero(~np.isfinite(numbers) & texts.notna().to_numpy())
    if len(bad):
        raise InvalidInput(
            f"{path} row {bad[0] + 2}: {texts.name} {texts.iloc[bad[0]]!r} is no number", field=_FIELD, hint="e.g. 42.5"
        )
    return numbers
