"""From delivered rows to hourly park data."""

from __future__ import annotations

import pandas as pd

MIN_COMPLETENESS = 0.75  # of an hour's seconds, below which the hour has no value


def hourly_generation(raw: pd.DataFrame) -> pd.DataFrame:
    """Roll raw rows of one park up to hours: last received wins, inverters are summed.

    Parameters
    ----------
    raw : columns of ``raw/generation``, one park.

    Returns
    -------
    Columns of ``processed/generation``: hour start, `available_at` (when the last row it stands on was received),
    kW as mean over the hour, and completeness 0-1 (of the least complete inverter). Hours below `MIN_COMPLETENESS`
    and hours that lack an inverter seen elsewhere that day are left out.
    """
    if raw.empty:
        return pd.DataFrame(columns=["park_id", "valid_at", "available_at", "power_kw", "completeness"])
    rows = raw.sort_values("received_at").drop_duplicates(["inverter_id", "measured_at"], keep="last")
    rows = rows.assign(valid_at=rows.measured_at.dt.floor("h"), energy=rows.power_kw * rows.period_s)
    inverters = rows.groupby(["inverter_id", "valid_at"]).agg(
        energy=("energy", "sum"), seconds=("period_s", "sum"), available_at=("received_at", "max")
    )
    inverters["power_kw"] = inverters.energy / inverters.seconds
    inverters["completeness"] = inverters.seconds / 3600.0
    complete = inverters[inverters.completeness >= MIN_COMPLETENESS].reset_index()
    hours = (
        complete.groupby("valid_at")
        .agg(
            power_kw=("power_kw", "sum"),
            completeness=("completeness", "min"),
            available_at=("available_at", "max"),
            inverters=("inverter_id", "nunique"),
        )
        .reset_index()
    )
    expected = rows.groupby(rows.measured_at.dt.floor("D")).inverter_id.nunique()
    hours = hours[hours.inverters == hours.valid_at.dt.floor("D").map(expected)]
    return hours.assign(park_id=raw.park_id.iloc[0])[
        ["park_id", "valid_at", "available_at", "power_kw", "completeness"]
    ]


def changed_hours(hourly: pd.DataFrame, stored: pd.DataFrame) -> pd.DataFrame:
    """The hours that are new, or whose value a correction changed since they were stored.

    A changed hour is stored beside the old one with its later `available_at`: a read as of the time between them
    still finds what was known then.
    """
    if stored.empty:
        return hourly
    newest = stored.sort_values("available_at").drop_duplicates("valid_at", keep="last").set_index("valid_at").power_kw
    before = newest.reindex(hourly.valid_at).to_numpy()
    return hourly[~(hourly.power_kw.to_numpy() == before)]
