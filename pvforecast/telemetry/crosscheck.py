"""Power samples and energy counters check each other: one of them is wrong where an interval's energies differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

RELATIVE, ABSOLUTE_KWH = 0.25, 0.5  # of the larger energy; what counters' resolution and jitter make
_COVERED = 0.7  # of an interval that must lie between its first and last reading
_NS = 1_000_000_000


def disagreeing(rows: pd.DataFrame, period_s: int) -> npt.NDArray[np.int64]:
    """Intervals (their start in s since 1970 UTC / `period_s`) in which an inverter's power and counter disagree.

    Parameters
    ----------
    rows : `inverter_id`, `measured_at`, `period_s`, `power_kw` and `energy_total_kwh` of one park, one row a reading.

    An interval with a counter that fell, or with readings over less than 70 % of it, says nothing.
    """
    none = np.empty(0, np.int64)
    if "energy_total_kwh" not in rows or len(rows) < 2:
        return none
    told = rows[rows.energy_total_kwh.notna() & rows.power_kw.notna() & (rows.period_s < period_s)]
    if len(told) < 2:
        return none
    told = told.sort_values(["inverter_id", "measured_at"])
    at = pd.DatetimeIndex(told.measured_at).as_unit("ns").asi8 // _NS
    slot = at // period_s
    device = told.inverter_id.astype("category").cat.codes.to_numpy()
    total, power = told.energy_total_kwh.to_numpy(float), told.power_kw.to_numpy(float)
    together = (device[1:] == device[:-1]) & (slot[1:] == slot[:-1])
    seconds = np.where(together, np.diff(at), 0)
    step = np.where(together, np.diff(total), 0.0)
    sampled = (power[1:] + power[:-1]) / 2 * seconds / 3600
    pieces = pd.DataFrame(
        {"device": device[1:], "slot": slot[1:], "s": seconds, "counted": step, "sampled": sampled, "fell": step < 0}
    )
    sums = pieces[together].groupby(["device", "slot"], as_index=False).sum()
    counted, sampled = sums.counted.to_numpy(), sums.sampled.to_numpy()
    allowed = np.maximum(ABSOLUTE_KWH, RELATIVE * np.maximum(np.abs(counted), np.abs(sampled)))
    sure = (sums.s.to_numpy() >= _COVERED * period_s) & (sums.fell.to_numpy() == 0)
    return np.unique(sums.slot.to_numpy()[sure & (np.abs(counted - sampled) > allowed)]).astype(np.int64)
