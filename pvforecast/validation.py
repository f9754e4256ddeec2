"""Pandera contracts of delivered rows: the good ones go on, the bad ones are named and set aside."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pandera.pandas as pa

from pvforecast.parks import Park

_OVERSHOOT = 1.5  # of capacity; measured peaks reach 1.1, a unit error is a thousandfold


def generation_contract(park: Park) -> pa.DataFrameSchema:
    """``raw/generation`` of one park: power between night consumption and the plausible peak, kW."""
    peak = _OVERSHOOT * park.ac_capacity_kw
    return pa.DataFrameSchema(
        {
            "park_id": pa.Column(str, pa.Check.eq(park.id)),
            "power_kw": pa.Column(
                float,
                pa.Check.in_range(
                    -0.05 * park.ac_capacity_kw, peak, error=f"power_kw outside -5 %..{peak:g} kW: W or MW?"
                ),
            ),
            "period_s": pa.Column("int32", pa.Check.isin([60, 300, 600, 900, 1800, 3600])),
        }
    )


WEATHER_CONTRACT = pa.DataFrameSchema(
    {
        "ghi": pa.Column(float, pa.Check.in_range(0, 1500), nullable=True),
        "dni": pa.Column(float, pa.Check.in_range(0, 1200), nullable=True),
        "dhi": pa.Column(float, pa.Check.in_range(0, 1000), nullable=True),
        "temp_air": pa.Column(float, pa.Check.in_range(-70, 60), nullable=True),
        "wind_speed": pa.Column(float, pa.Check.in_range(0, 80), nullable=True),
        "cloud_cover": pa.Column(
            float, pa.Check.in_range(0, 1, error="cloud_cover outside 0-1: percent?"), nullable=True
        ),
    }
)


def split(rows: pd.DataFrame, contract: pa.DataFrameSchema) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Good rows, and bad rows with a column `reason`. Nothing is dropped."""
    rows = rows.reset_index(drop=True)
    try:
        contract.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        reasons = {index: _reasons(group) for index, group in cases[cases["index"].notna()].groupby("index")}
        if len(cases) and not reasons:
            raise
        bad = rows.index.isin(list(reasons))
        return rows[~bad], rows[bad].assign(reason=[reasons[index] for index in rows.index[bad]])
    return rows, rows.iloc[:0].assign(reason=pd.Series(dtype=str))


def _reasons(cases: pd.DataFrame) -> str:
    lines: Iterable[str] = (f"{case.column}={case.failure_case!r}: {case.check}" for case in cases.itertuples())
    return "; ".join(lines)
