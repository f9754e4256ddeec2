"""Contracts of metered power: the park's facts and the sun say what is possible."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pandera

from pvforecast.validation.contract import holds, split, within

OVERSHOOT = 1.5  # of capacity; measured peaks reach 1.1, a unit error is a thousandfold
CONSUMPTION = -0.05  # of capacity; inverters draw a little at night
NIGHT = 0.02  # of capacity
DARK = -0.122  # cosine of the zenith: 7 degrees down, all through the interval
_FAR = 10.0  # of capacity: no overshoot and no wrong fact of a park, but another unit
_FAINT = 0.0015  # of capacity: less than this all day is a thousandth, or nothing


def check_generation(
    rows: pd.DataFrame, park_id: str, capacity_kw: npt.NDArray[np.float64], sun: npt.NDArray[np.float64],
    unit: npt.NDArray[np.str_] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Rows of ``raw/generation`` that one park can have delivered, and the others with their `reason`.

    Parameters
    ----------
    capacity_kw : `ac_capacity_kw` as it held at each row. Shape [n].
    sun : cosine of the smallest zenith within each row's interval. Shape [n].
    unit : per row "", "watts_as_kilowatts" or "a_thousandth", as `wrong_units` finds it of its inverter's day.
    """
    rows = rows.reset_index(drop=True)
    if rows.empty:
        return rows, rows.assign(reason=pd.Series(dtype=str))
    capacity = pd.Series(capacity_kw, index=rows.index)
    power = rows.power_kw.astype(float)
    finite = pd.Series(np.isfinite(power.to_numpy()), index=rows.index)
    lit = pd.Series(sun >= DARK, index=rows.index)
    kind = pd.Series("" if unit is None else unit, index=rows.index)
    above = f"above 150 % of ac_capacity_kw, {OVERSHOOT * np.median(capacity):g} kW: W or MW?"
    seen = pd.DataFrame({"park_id": rows.park_id, "power_kw": power, "period_s": rows.period_s.astype(int)})
    columns = {
        "park_id": pandera.Column(str, holds("wrong_park", rows.park_id == park_id)),
        "period_s": pandera.Column(int, holds("odd_period", (seen.period_s > 0) & (3600 % seen.period_s.clip(1) == 0))),
        "power_kw": pandera.Column(
            float,
            [
                holds("no_number", finite),
                holds("above_capacity", ~finite | (power <= OVERSHOOT * capacity), above),
                holds("below_zero", ~finite | (power >= CONSUMPTION * capacity)),
                holds("night_power", lit | ~finite | (power <= NIGHT * capacity), "in the dark: clock, zone or meter?"),
                holds("watts_as_kilowatts", kind != "watts_as_kilowatts", "the day's other rows are in W"),
                holds("a_thousandth", kind != "a_thousandth", "the inverter's day is a thousandth: kW as W?"),
            ],
            nullable=True,
        ),
    }
    for name, high in (("available_fraction", 1.0), ("export_limit_kw", np.inf)):
        if name in rows and rows[name].notna().any():
            seen[name] = rows[name].astype(float)
            columns[name] = pandera.Column(float, within("implausible", 0.0, high, f"0 to {high:g}"), nullable=True)
    return split(rows, pandera.DataFrameSchema(columns), seen)


def wrong_units(heard: pd.DataFrame, capacity_kw: float, sun: npt.NDArray[np.float64]) -> pd.Series:
    """What unit each inverter's day seems to have been sent in.

    A thousandfold day can't be told row by row: what a park in W sends at dawn is plausible as kW.

    Parameters
    ----------
    heard : `inverter_id`, `hour`, `power_kw` (the hour's highest), `day` of one park.
    sun : cosine of the smallest zenith within each hour.

    Returns
    -------
    "", "watts_as_kilowatts" or "a_thousandth" by (inverter_id, day).
    """
    table = heard.assign(sun=np.maximum(sun, 0.0), over=heard.power_kw > _FAR * capacity_kw)
    table = table.assign(making=table.power_kw > 0, by=table.sun * table.power_kw)
    table = table.assign(s2=table.sun**2, p2=table.power_kw**2)
    days = table.groupby(["inverter_id", "day"]).agg(
        over=("over", "sum"), making=("making", "sum"), highest=("power_kw", "max"), sun=("sun", "max"),
        by=("by", "sum"), s2=("s2", "sum"), p2=("p2", "sum"),
    )  # fmt: skip
    watts = (days.over >= 2) & (days.over >= 0.5 * days.making)
    with np.errstate(invalid="ignore", divide="ignore"):
        follows = days.by / np.sqrt(days.s2 * days.p2)  # cosine between the day's power and the sun's height
    faint = (days.highest <= _FAINT * capacity_kw) & (days.highest > 0) & (days.making >= 5) & (days.sun > 0.3)
    thousandth = faint & (follows > 0.85) & (days.highest > 0.0001 * capacity_kw)
    return pd.Series(np.select([watts, thousandth], ["watts_as_kilowatts", "a_thousandth"], ""), index=days.index)
