"""From delivered rows to intervals of the park: last received wins, inverters become one power.

A result depends on the rows alone, never on the stretch of time that is looked at: an inverter is expected in an
interval when it was heard of in the `TRAILING` hours up to it, whatever the calendar says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast.flags import CLIPPED, COUNTER, CURTAILED, OUTAGE
from pvforecast.telemetry import crosscheck

MIN_COMPLETENESS = 0.75  # of an interval, below which it has no value
WHOLE = 0.98  # what counts as all of it: one lost minute
GRACE = pd.Timedelta(minutes=30)  # how long the rest of an interval is waited for
TRAILING = 72  # hours for which an inverter that fell silent is missed
METER = "park"  # the inverter_id of rows that are the whole park's

AT_LIMIT = 0.97  # of a stated limit, from which power is held by it
AT_CAPACITY = 0.985  # of ac_capacity_kw
FULLY_AVAILABLE = 0.95

COLUMNS = [
    "park_id", "valid_at", "period_s", "available_at", "power_kw", "completeness", "available_fraction",
    "export_limit_kw", "flags",
]  # fmt: skip
_NS = 1_000_000_000

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Limit:
    """A stated time of less: [begin, end) in UTC, end None: until further notice."""

    begin: pd.Timestamp
    end: pd.Timestamp | None
    available_fraction: float
    export_limit_kw: float | None


@dataclass(frozen=True)
class Plant:
    """What the roll-up needs of a park.

    Attributes
    ----------
    export_limit_kw : what the connection lets out at most, at all times.
    limits : the availability schedule.
    """

    park_id: str
    ac_capacity_kw: float
    export_limit_kw: float | None = None
    limits: tuple[Limit, ...] = ()


def roll_up(
    raw: pd.DataFrame, plant: Plant, period_s: int, now: pd.Timestamp, heard: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Good raw rows of one park as intervals of the park.

    Parameters
    ----------
    raw : columns of ``raw/generation``, `measured_at` in true UTC.
    period_s : 3600 or 900; rows of longer periods can't be divided and are left out.
    now : an interval that is not whole is waited for until `GRACE` after its end.
    heard : as `roster` gives it, reaching `TRAILING` hours before the first row; that of `raw` by default.

    Returns
    -------
    Columns of ``processed/generation``. `power_kw` is the mean over the interval. `completeness` (0-1) is the part of
    the park's seconds that was heard, inverters weighed by their highest power in the roster; what is missing is
    taken to do as the rest does. Below `MIN_COMPLETENESS` an interval is left out. `available_at` is when the last
    row it stands on was received, of an interval that is not whole its end + `GRACE` at the earliest. `flags` are the
    stated ones. A whole-park meter (`METER`) goes before the inverters where it covers the interval.
    """
    if raw.empty:
        return pd.DataFrame(columns=COLUMNS)
    inverters = _by_inverter(_newest(raw), period_s)
    if inverters.empty:
        return pd.DataFrame(columns=COLUMNS)
    metered = (inverters.inverter_id == METER) & (inverters.seconds >= MIN_COMPLETENESS * period_s)
    meter = inverters.inverter_id == METER
    by_meter = inverters.slot.isin(inverters.slot[metered]) | meter.groupby(inverters.slot).transform("all")
    several = inverters[~by_meter & ~meter]
    chosen = pd.concat([inverters[by_meter & meter], several])
    rows = _sum_up(chosen, several, roster(raw) if heard is None else heard, period_s)
    end = _times((rows.slot.to_numpy() + 1) * period_s)
    whole = rows.completeness.to_numpy() >= WHOLE
    received = pd.DatetimeIndex(rows.received_at)
    available_at = received.where(whole | (received > end + GRACE), end + GRACE)
    rows = rows.assign(
        park_id=plant.park_id,
        period_s=np.int32(period_s),
        valid_at=_times(rows.slot.to_numpy() * period_s),
        available_at=available_at,
        disagrees=rows.slot.isin(crosscheck.disagreeing(_newest(raw), period_s)),
    )
    rows = rows[(rows.completeness >= MIN_COMPLETENESS) & (whole | (end + GRACE <= now))]
    return _stated(rows, plant, period_s)[COLUMNS].reset_index(drop=True)


def roster(raw: pd.DataFrame) -> pd.DataFrame:
    """Who was heard of when: `inverter_id`, `hour` (start, UTC), `power_kw` (the highest), a row where any was."""
    known = raw.assign(hour=raw.measured_at.dt.floor("h"))
    return known.groupby(["inverter_id", "hour"], as_index=False).power_kw.max()


def differing(made: pd.DataFrame, stored: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are not what is stored of their interval: new, or with another value. Shape [len(made)].

    Parameters
    ----------
    stored : the newest row of each interval of the same park and period.
    """
    if stored.empty or made.empty:
        return np.ones(len(made), bool)
    before = stored.set_index("valid_at").reindex(made.valid_at)
    same = before.available_at.notna().to_numpy()
    for name in ("power_kw", "completeness", "available_fraction", "export_limit_kw"):
        ours, theirs = made[name].to_numpy(float), before[name].to_numpy(float)
        same = same & np.isclose(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)
    words = np.asarray(made["flags"].fillna("").to_numpy() == before["flags"].fillna("").to_numpy(), bool)
    return np.asarray(~(same & words), bool)


def newest(stored: pd.DataFrame) -> pd.DataFrame:
    """Of each park's interval the row that is known now."""
    return stored.sort_values("available_at").drop_duplicates(["park_id", "period_s", "valid_at"], keep="last")


def _newest(raw: pd.DataFrame) -> pd.DataFrame:
    order = [name for name in ("received_at", "power_kw") if name in raw]
    return raw.sort_values(order).drop_duplicates(["inverter_id", "measured_at", "period_s"], keep="last")


def _by_inverter(rows: pd.DataFrame, period_s: int) -> pd.DataFrame:
    """Seconds and mean power of each inverter in each slot (interval number since 1970).

    A row that crosses the edge of an interval is divided. Where an inverter's rows overlap because it sends two
    kinds of means, the kind that covers more of the interval counts, the shorter one of equals.
    """
    rows = rows[rows.period_s <= period_s]
    length = rows.period_s.to_numpy(np.int64)
    begin = _seconds(rows.measured_at)
    first, last = begin // period_s, (begin + length - 1) // period_s
    count = last - first + 1
    at = np.repeat(np.arange(len(rows)), count)
    slot = first[at] + np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    seconds = np.minimum(begin[at] + length[at], (slot + 1) * period_s) - np.maximum(begin[at], slot * period_s)
    pieces = pd.DataFrame(
        {
            "inverter_id": rows.inverter_id.to_numpy()[at],
            "slot": slot,
            "period": length[at],
            "seconds": seconds,
            "energy": rows.power_kw.to_numpy(float)[at] * seconds,
            "received_at": rows.received_at.to_numpy()[at],
            "curtailed": _column(rows, "curtailed", at) == 1.0,
            "limit": _column(rows, "export_limit_kw", at),
        }
    )
    fraction = _column(rows, "available_fraction", at)
    pieces["stated"] = np.where(np.isnan(fraction), 0, seconds)
    pieces["available"] = np.where(np.isnan(fraction), 0.0, fraction * seconds)
    totals = {
        "seconds": "sum", "energy": "sum", "received_at": "max", "curtailed": "max", "limit": "min",
        "stated": "sum", "available": "sum",
    }  # fmt: skip
    kinds = pieces.groupby(["inverter_id", "slot", "period"], as_index=False).agg(totals)
    kinds["all"] = kinds.groupby(["inverter_id", "slot"]).seconds.transform("sum")
    fits = kinds["all"] <= period_s
    best = (
        kinds[~fits]
        .assign(covered=lambda kind: -kind.seconds.clip(upper=period_s))
        .sort_values(["inverter_id", "slot", "covered", "period"])
        .drop_duplicates(["inverter_id", "slot"])
    )
    made = pd.concat([kinds[fits], best]).groupby(["inverter_id", "slot"], as_index=False).agg(totals)
    return made.assign(power_kw=made.energy / made.seconds, seconds=made.seconds.clip(upper=period_s))


def _sum_up(chosen: pd.DataFrame, several: pd.DataFrame, seen: pd.DataFrame, period_s: int) -> pd.DataFrame:
    """One row a slot; `several` are the rows of slots that inverters make up."""
    slots = chosen.groupby("slot").agg(
        received_at=("received_at", "max"),
        curtailed=("curtailed", "max"),
        limit=("limit", "min"),
        stated=("stated", "sum"),
        available=("available", "sum"),
        power_kw=("power_kw", "sum"),
        seconds=("seconds", "sum"),
    )
    slots["completeness"] = slots.seconds / period_s
    members = seen[seen.inverter_id != METER]
    if len(several) and members.inverter_id.nunique() > 1:
        power, completeness = _weighed(several, members, period_s)
        slots.loc[power.index, "power_kw"] = power
        slots.loc[completeness.index, "completeness"] = completeness
    return slots.reset_index()


def _weighed(several: pd.DataFrame, members: pd.DataFrame, period_s: int) -> tuple[pd.Series, pd.Series]:
    """Power and completeness of each slot, over the inverters that the roster expects in it."""
    everyone = pd.Index(sorted({*several.inverter_id, *members.inverter_id}))
    power = several.pivot(index="slot", columns="inverter_id", values="power_kw").reindex(columns=everyone)
    share = several.pivot(index="slot", columns="inverter_id", values="seconds").reindex(columns=everyone) / period_s
    highest = members.pivot(index="hour", columns="inverter_id", values="power_kw").clip(lower=0.0)
    hours = pd.date_range(
        min(highest.index[0], _times(power.index[:1].to_numpy() * period_s)[0].floor("h")),
        max(highest.index[-1], _times(power.index[-1:].to_numpy() * period_s)[0].floor("h")),
        freq="h",
    )
    trailing = highest.reindex(hours).rolling(TRAILING + 1, min_periods=1).max()
    weight = trailing.reindex(_times(power.index.to_numpy() * period_s).floor("h"), columns=everyone)
    weight.index = power.index
    weights, means, shares = weight.to_numpy(), power.to_numpy(), np.nan_to_num(share.to_numpy())
    weights = np.where(shares > 0, np.nan_to_num(weights), weights)  # what is heard now is expected now
    dark = np.nansum(weights, axis=1) <= 0.0  # nobody made any: all count alike
    weights = np.where(dark[:, None] & ~np.isnan(weights), 1.0, np.nan_to_num(weights))
    expected = weights.sum(axis=1)
    present = np.where(shares > 0, weights, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.where(present == expected, 1.0, expected / present)
        made = np.where(present > 0, np.nansum(means, axis=1) * scale, np.nan)
        covered = np.where(expected > 0, (weights * shares).sum(axis=1) / expected, 0.0)
    return pd.Series(made, index=power.index), pd.Series(covered, index=power.index)


def _stated(rows: pd.DataFrame, plant: Plant, period_s: int) -> pd.DataFrame:
    """Limits and flags that somebody stated: the sender of the rows, or the park's facts."""
    fraction = np.where(rows.stated > 0, rows.available / np.maximum(rows.stated, 1), np.nan)
    limit = rows.limit.to_numpy(float)
    begin = pd.DatetimeIndex(rows.valid_at)
    for stated in plant.limits:
        held = (begin + pd.Timedelta(seconds=period_s) > stated.begin) & (stated.end is None or begin < stated.end)
        fraction = np.where(held, np.fmin(fraction, stated.available_fraction), fraction)
        if stated.export_limit_kw is not None:
            limit = np.where(held, np.fmin(limit, stated.export_limit_kw), limit)
    power = rows.power_kw.to_numpy(float)
    ceiling = min(plant.ac_capacity_kw, plant.export_limit_kw or np.inf)
    with np.errstate(invalid="ignore"):
        curtailed = rows.curtailed.to_numpy(bool) | ((limit < AT_LIMIT * ceiling) & (power >= AT_LIMIT * limit))
        outage = fraction < FULLY_AVAILABLE
        clipped = power >= (AT_CAPACITY if ceiling == plant.ac_capacity_kw else AT_LIMIT) * ceiling
    disagrees = rows.disagrees.to_numpy(bool)
    words = (
        (CLIPPED, clipped),
        (COUNTER, disagrees),
        (CURTAILED, curtailed),
        (OUTAGE, outage),
    )  # in the order of `flags.join`
    texts = [" ".join(word for word, held in words if held[i]) for i in range(len(rows))]
    return rows.assign(available_fraction=fraction, export_limit_kw=limit, flags=texts)


def _column(rows: pd.DataFrame, name: str, at: Ints) -> npt.NDArray[np.float64]:
    """An optional column as floats, NaN where it was not delivered."""
    if name not in rows:
        return np.full(len(at), np.nan)
    values: npt.NDArray[np.float64] = pd.to_numeric(rows[name].astype(object), errors="coerce").to_numpy(float)[at]
    return values


def _seconds(moments: pd.Series) -> Ints:
    seconds: Ints = moments.dt.tz_convert(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    return seconds


def _times(seconds: Ints) -> pd.DatetimeIndex:
    return pd.DatetimeIndex((seconds * _NS).astype("datetime64[ns]"), tz="UTC")
