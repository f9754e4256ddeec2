"""Finds hours in which a park did not do what the weather allowed: snow, outage, curtailment, a meter that hangs.

Each rule asks for much, so that healthy hours stay evidence: a false flag takes rows from training, and a missed one
is seen by the drift job. An hour's flags depend on its own solar day, on the day before, and on `usual` performance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast import features
from pvforecast.flags import CLIPPED, CURTAILED, FROZEN, OUTAGE, SNOW, join
from pvforecast.known import Floats, WeatherRun
from pvforecast.lake import Lake
from pvforecast.lake.store import of_parks
from pvforecast.lake.tables import WEATHER
from pvforecast.parks import Park
from pvforecast.site import Site

CONTEXT = pd.Timedelta(days=32)
DETECTED = frozenset({CURTAILED, FROZEN, OUTAGE, SNOW, CLIPPED})

USUAL_DAYS, USUAL_HOURS, USUAL_QUANTILE, USUAL_DEFAULT = 30, 30, 0.7, 0.75
NOTHING = 0.01  # of capacity
BRIGHT, VERY_BRIGHT = 0.12, 0.3  # expected, of capacity
OUTAGE_HOURS = 3
SNOW_SHARE, SNOW_ENERGY, SNOW_HOURS = 0.22, 0.8, 3  # of what was expected that day; hours at full power; bright hours
SNOW_SKY = 0.5  # of what a clear sky would give that day: below, it may be the weather
FROST, THAW = 1.0, 4.0  # °C: as cold as this within two days, and never warmer by day
FLAT_HOURS, FLAT, HELD = 3, 0.002, 1.15  # how long, how level (of capacity), and how much more was possible
NAMEPLATE = 0.95

Mask = npt.NDArray[np.bool_]


def flag(park: Park, rows: pd.DataFrame, before: pd.DataFrame, observed: pd.DataFrame | None) -> pd.DataFrame:
    """Hours of one park with what was found added to their flags.

    Parameters
    ----------
    rows : columns of ``processed/generation``, hours as just rolled up, ascending; their flags are the stated ones.
    before : newest stored hours of the park, `CONTEXT` back; those that `rows` has too are not looked at.
    observed : weather of the hours as `weather` gives it; None: flags that need it are not looked for.

    Returns
    -------
    `rows` with `flags`, and `available_at` when the last hour of the day that a flag stands on was available.
    """
    if rows.empty:
        return rows
    columns = ["valid_at", "available_at", "power_kw", "flags"]
    old = before[~before.valid_at.isin(rows.valid_at)][columns] if len(before) else rows.iloc[:0][columns]
    both = pd.concat([part for part in (old, rows[columns]) if len(part)], ignore_index=True).sort_values("valid_at")
    site = park.site()
    table = _table(site, both, observed)
    found = detect(table)
    evidence = both.available_at.groupby(table.day.to_numpy()).transform("max")
    named = pd.Series(found, index=both.index)
    told = pd.DataFrame({"found": named, "evidence": evidence}).set_axis(pd.DatetimeIndex(both.valid_at), axis=0)
    told = told.reindex(pd.DatetimeIndex(rows.valid_at))
    merged = [merge(stated, detected) for stated, detected in zip(rows["flags"], told.found, strict=True)]
    new = np.array([a != b for a, b in zip(rows["flags"], merged, strict=True)], bool)
    later = pd.Series(told.evidence.to_numpy(), index=rows.index).where(new, rows.available_at)
    return rows.assign(flags=merged, available_at=pd.concat([later, rows.available_at], axis=1).max(axis=1))


def merge(stated: str, found: str) -> str:
    """Both, as they are stored."""
    return join([*stated.split(), *found.split()])


def detect(table: pd.DataFrame) -> list[str]:
    """The words of each hour.

    Parameters
    ----------
    table : hours of one park, ascending: `day` (solar), `number` (hours since 1970), `power` and `expected` (fraction
        of capacity; what the weather allows at the park's usual performance, NaN where there is no weather), `clear`
        (the same under a clear sky),
        `temp_air` (°C), `highest` (of the days before and this one).
    """
    snow, cold = _snow(table)
    dead = _outage(table) & ~snow
    snow, outage = snow | (dead & cold), dead & ~cold  # no power on a day of frost: rather covered than broken
    flat = _flat(table, FLAT)
    possible = table.expected.to_numpy() >= HELD * table.power.to_numpy()
    top = table.power.to_numpy() >= 0.99 * table.highest.to_numpy()
    held = _all_of(flat, possible) & (table.power.to_numpy() > 0.1) & (table.power.to_numpy() < NAMEPLATE)
    stuck = _flat(table, 1e-9)
    natural = _all_of(stuck, table.expected.to_numpy() >= 1.05 * table.power.to_numpy())
    frozen = (stuck >= 0) & ~natural & (table.power.to_numpy() > 0.02) & (table.power.to_numpy() < NAMEPLATE)
    words = (
        (CLIPPED, held & top), (CURTAILED, held & ~top), (FROZEN, frozen & ~held), (OUTAGE, outage), (SNOW, snow),
    )  # fmt: skip
    return [" ".join(word for word, mask in words if mask[i]) for i in range(len(table))]


def weather(lake: Lake, park_ids: Sequence[str], begin: pd.Timestamp, end: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """By park and hour the newest forecast that was there when the hour began: `valid_at`, `ghi`, `dni`, `dhi`, ..."""
    names = "ghi, dni, dhi, temp_air, wind_speed, cloud_cover"
    found = lake.query(
        WEATHER,
        f"SELECT park_id, valid_at, {names} FROM (SELECT park_id, valid_at, {names}, ROW_NUMBER() OVER (PARTITION BY "
        f"park_id, valid_at ORDER BY run_at DESC, available_at DESC, source) AS rank FROM t WHERE "
        f"{of_parks(park_ids)} AND period_s = 3600 AND available_at <= valid_at AND "
        f"valid_at >= TIMESTAMP '{begin.floor('h').isoformat()}' AND valid_at < TIMESTAMP '{end.isoformat()}' AND "
        f"run_at > valid_at - INTERVAL '48' HOUR) WHERE rank = 1 ORDER BY park_id, valid_at",
    ) if park_ids else None  # fmt: skip
    if found is None:
        return {}
    frame = found.to_pandas(use_threads=False)
    return {str(park): part.reset_index(drop=True) for park, part in frame.groupby("park_id")}


def _table(site: Site, hours: pd.DataFrame, observed: pd.DataFrame | None) -> pd.DataFrame:
    times = pd.DatetimeIndex(hours.valid_at).tz_convert(None).to_numpy().astype("datetime64[s]")
    power = hours.power_kw.to_numpy(float) / site.ac_capacity_kw
    number = times.astype(np.int64) // 3600
    day = (number + round(site.longitude / 15.0)) // 24
    physical, temp_air = np.full(len(times), np.nan), np.full(len(times), np.nan)
    if observed is not None and len(observed):
        run = _as_run(observed)
        physical = features.physical_power(site, run, _between(times))[number - number[0]]
        temp_air = observed.set_index("valid_at").temp_air.reindex(pd.DatetimeIndex(hours.valid_at)).to_numpy(float)
    table = pd.DataFrame({"day": day, "number": number, "power": power, "physical": physical, "temp_air": temp_air})
    clear = features.clear_sky_power(site, times)
    days = np.unique(day)
    usual, highest = _usual(table, days)
    at = np.searchsorted(days, day)
    return table.assign(expected=physical * usual[at], clear=clear * usual[at], highest=highest[at])


def _between(times: npt.NDArray[np.datetime64]) -> npt.NDArray[np.datetime64]:
    """Every hour from the first to the last."""
    return np.arange(times[0], times[-1] + np.timedelta64(3600, "s"), np.timedelta64(3600, "s"))


def _as_run(observed: pd.DataFrame) -> WeatherRun:
    times = pd.DatetimeIndex(observed.valid_at).tz_convert(None).to_numpy().astype("datetime64[s]")
    names = ("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover")
    variables = {name: observed[name].to_numpy(float) for name in names}
    return WeatherRun("newest", times[0], times[0], times, variables)


def _usual(table: pd.DataFrame, days: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """By day what the park makes of physical power, and the highest power, in the `USUAL_DAYS` before it."""
    power, physical, day = (table[name].to_numpy() for name in ("power", "physical", "day"))
    usual, highest = np.full(len(days), USUAL_DEFAULT), np.full(len(days), np.nan)
    good = (physical > 0.2) & ~np.isnan(power)
    for n, today in enumerate(days):
        first, last, end = np.searchsorted(day, [today - USUAL_DAYS, today, today + 1])
        past = slice(first, last)
        ratios = power[past][good[past]] / physical[past][good[past]]
        if len(ratios) >= USUAL_HOURS:
            usual[n] = np.clip(np.quantile(ratios, USUAL_QUANTILE), 0.2, 1.5)
        seen = power[first:end]
        highest[n] = np.nanmax(seen) if (~np.isnan(seen)).any() else np.nan
    return usual, highest


def _snow(table: pd.DataFrame) -> tuple[Mask, Mask]:
    """Hours under snow, and the hours of days on which there may be any."""
    power, expected, day = table.power.to_numpy(), table.expected.to_numpy(), table.day.to_numpy()
    lit = (expected > 0.08) & ~np.isnan(power)
    hours = pd.DataFrame(
        {
            "day": day,
            "power": np.where(lit, power, 0.0),
            "expected": np.where(lit, expected, 0.0),
            "clear": np.where(lit, table.clear, 0.0),
            "bright": lit,
            "warmest": np.where(expected > 0.0, table.temp_air, np.nan),
            "coldest": table.temp_air,
        }
    )
    totals = dict.fromkeys(("power", "expected", "clear", "bright"), "sum")
    days = hours.groupby("day").agg({**totals, "warmest": "max", "coldest": "min"})
    yesterday = days.coldest.reindex(days.index - 1).to_numpy()
    cold = (days.warmest <= THAW) & (pd.Series(np.fmin(days.coldest, yesterday), index=days.index) <= FROST)
    low_day = (days.bright >= SNOW_HOURS) & (days.power < SNOW_SHARE * days.expected) & cold
    begins = low_day & (days.expected >= SNOW_ENERGY) & (days.expected >= SNOW_SKY * days.clear)
    covered = pd.Series(_lasting(begins.to_numpy(), low_day.to_numpy(), days.index.to_numpy()), index=days.index)
    today = covered.reindex(day).to_numpy(bool)
    low = (power < 0.5 * expected) & (expected > 0.02)
    after = covered.reindex(day - 1, fill_value=False).to_numpy(bool) & ~today
    melting = after & _until_melt(table, power < 0.3 * expected, expected > 0.05)
    return (today & low) | melting, cold.reindex(day).to_numpy(bool)


def _lasting(begins: Mask, lasts: Mask, day: npt.NDArray[np.int64]) -> Mask:
    """Days from one that begins on, for as long as the following ones are of the kind that lasts."""
    held: Mask = begins.copy()
    for n in range(1, len(held)):
        held[n] |= lasts[n] and held[n - 1] and day[n] == day[n - 1] + 1
    return held


def _until_melt(table: pd.DataFrame, low: Mask, lit: Mask) -> Mask:
    """The first lit hours of each day, for as long as they stay low."""
    broken = pd.Series(lit & ~low).groupby(table.day.to_numpy()).cumsum().to_numpy() > 0
    still: Mask = lit & low & ~broken & (table.temp_air.to_numpy() <= THAW)
    return still


def _outage(table: pd.DataFrame) -> Mask:
    power, expected, day = table.power.to_numpy(), table.expected.to_numpy(), table.day.to_numpy()
    none = power < NOTHING
    bright = np.flatnonzero((expected > BRIGHT) & ~np.isnan(power))
    out = np.zeros(len(table), bool)
    for run in _runs(none[bright], day[bright]):
        if len(run) >= OUTAGE_HOURS:
            out[bright[run[0]] : bright[run[-1]] + 1] = True
    fine = pd.Series((power > 0.5 * expected) & (expected > BRIGHT)).groupby(day).transform("sum").to_numpy() >= 2
    found: Mask = (out & none) | (none & (expected > VERY_BRIGHT) & fine)
    return found


def _flat(table: pd.DataFrame, tolerance: float) -> npt.NDArray[np.int64]:
    """Number of the level stretch each hour belongs to, -1 for none. Shape [len(table)]."""
    power, number = table.power.to_numpy(), table.number.to_numpy()
    stretch = np.full(len(table), -1, np.int64)
    begin = 0
    for i in range(1, len(table) + 1):
        level = i < len(table) and number[i] == number[i - 1] + 1 and abs(power[i] - power[begin]) <= tolerance
        if not level:
            if i - begin >= FLAT_HOURS and power[begin] > 0.02:
                stretch[begin:i] = begin
            begin = i
    return stretch


def _all_of(stretch: npt.NDArray[np.int64], holds: Mask) -> Mask:
    """Stretches in which a condition holds all through."""
    whole = pd.Series(holds).groupby(stretch).transform("all").to_numpy(bool)
    result: Mask = whole & (stretch >= 0)
    return result


def _runs(true: Mask, group: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Stretches of neighbours that are all true, within one group."""
    if len(true) == 0:
        return []
    breaks = np.flatnonzero((true[1:] != true[:-1]) | (group[1:] != group[:-1])) + 1
    return [part for part in np.split(np.arange(len(true)), breaks) if true[part[0]]]
