"""From raw to processed, for some parks at once: check, set bad rows aside, roll up, flag. Safe to repeat.

What comes out depends on what lies in raw, not on the stretch of time that is asked for: an interval is made from all
its rows, with the `TRAILING` hours before it as context.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast import clocks, flagging, fleet, processing, quarantine, validation
from pvforecast.clock import ClockReport
from pvforecast.known import Floats
from pvforecast.lake import Lake
from pvforecast.lake.store import of_parks
from pvforecast.lake.tables import (
    GENERATION,
    PARKS,
    RAW_GENERATION,
    RAW_WEATHER,
    WEATHER,
    Table,
)
from pvforecast.parks import Park
from pvforecast.processing import Limit, Plant
from pvforecast.quarantine import Rejected
from pvforecast.validation import contract, generation, levels, season, sun

_TICK = pd.Timedelta(microseconds=1)
_HOUR = pd.Timedelta(hours=1)
_DAY = pd.Timedelta(days=1)
THOROUGH = pd.Timedelta(hours=23)
"""From this span on, flags that need days to be seen are looked for too; shorter ones are an ingest's refresh."""


@dataclass(frozen=True)
class ValidationReport:
    """What validation of one park passed on and what it set aside.

    Attributes
    ----------
    generation_hours : rows of ``processed/generation`` that are new or changed.
    weather_rows : rows of ``processed/weather`` that are new.
    quarantined : rows that were set aside.
    reasons : check -> rows it set aside.
    flags : word -> intervals of the span that carry it.
    doubts : check -> weather rows that are possible and yet odd.
    hours, missing : hours of the span with power, and without between the first and the last.
    gaps : the longest stretches without power: (begin, hours).
    clock : the newest finding about the park's clock; None: nobody looked yet.
    clock_applied : rows are moved by what was found.
    """

    park_id: str
    generation_hours: int
    weather_rows: int
    quarantined: int
    reasons: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    doubts: dict[str, int] = field(default_factory=dict)
    hours: int = 0
    missing: int = 0
    gaps: tuple[tuple[str, int], ...] = ()
    clock: ClockReport | None = None
    clock_applied: bool = True

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class _Work:
    """What became of one park's rows."""

    generation: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=processing.COLUMNS))
    current: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=processing.COLUMNS))
    bad: list[tuple[Table, pd.DataFrame]] = field(default_factory=list)
    weather_rows: int = 0
    doubts: dict[str, int] = field(default_factory=dict)


def validate(
    lake: Lake,
    parks: Sequence[Park],
    since: datetime,
    until: datetime,
    *,
    thorough: bool | None = None,
    correct_clocks: bool = True,
    on_rejected: Callable[[Sequence[Rejected]], None] | None = None,
) -> list[ValidationReport]:
    """Check raw rows of [since, until), set bad ones aside, and store the good ones: one commit a table.

    Parameters
    ----------
    since, until : UTC; `until` is also the run's now: an interval that is not whole is waited for until then.
    thorough : look for what takes days to be seen (clocks, snow, outages, curtailment); by default in spans of a day
        or more. A park whose clock is found to be another than before is processed anew in all its rows.
    on_rejected : told the rows that were set aside, also those that were before.
    correct_clocks : apply what was found about clocks; a park's own `correct_clock` counts too.

    Returns
    -------
    One report a park, in the order of `parks`.
    """
    begin, end = _utc(since), _utc(until)
    thorough = end - begin >= THOROUGH if thorough is None else thorough
    work = {park.id: _Work() for park in parks}
    weather = _weather(lake, parks, begin, end, work)
    lake.append_new(WEATHER, weather)
    anew = set(clocks.review(lake, parks, end)) if thorough else set()
    found = clocks.reports(lake)
    willing = {park.id for park in parks if park.correct_clock and correct_clocks}
    known = {name: report for name, report in found.items() if name in willing}
    moved = [park for park in parks if park.id in anew & willing]
    _generation(lake, [park for park in parks if park not in moved], begin, end, work, thorough, known)
    for park in moved:
        _generation(lake, [park], min(begin, _first(lake, park, begin)), end, work, thorough, known, found_now=True)
    made = [each.generation for each in work.values() if len(each.generation)]
    if made:
        rows = pd.concat(made, ignore_index=True)
        contract.check_processed(GENERATION, rows)
        lake.append_new(GENERATION, rows)
    held = [item for each in work.values() for table, bad in each.bad for item in _rejected(table, bad)]
    quarantine.hold(lake, held, until)
    if on_rejected is not None:
        on_rejected(held)
    return [_report(work[park.id], begin, park.id, found.get(park.id), park.id in willing) for park in parks]


def seasons(lake: Lake, park_ids: Sequence[str], until: datetime) -> dict[str, season.Season]:
    """How the newest week of some parks compares with their own season, of what is stored before `until`."""
    end = _utc(until)
    columns = ["park_id", "period_s", "valid_at", "available_at", "power_kw"]
    during = ("valid_at", end - 3 * 366 * _DAY, end)
    stored = lake.read(GENERATION, park_ids=park_ids, during=during, columns=columns).to_pandas(use_threads=False)
    sites = {park.id: park.site() for park in fleet.registered(lake)}
    found = {}
    for park_id, rows in processing.newest(stored[stored.period_s == 3600]).groupby("park_id"):
        hours = rows.sort_values("valid_at")
        power = hours.power_kw.to_numpy(float)
        found[str(park_id)] = season.look(sites[str(park_id)], pd.DatetimeIndex(hours.valid_at), power)
    return found


def _generation(
    lake: Lake,
    parks: Sequence[Park],
    begin: pd.Timestamp,
    end: pd.Timestamp,
    work: dict[str, _Work],
    thorough: bool,
    reports: Mapping[str, ClockReport],
    *,
    found_now: bool = False,
) -> None:
    if not parks:
        return
    before, after = clocks.reach(reports, parks)
    first = begin.floor("h") - processing.GRACE - _HOUR  # the interval before: its time to be waited for may be over
    raw = _by_park(_frame(lake, RAW_GENERATION, parks, "measured_at", first.floor("h") - before, end + after))
    heard = _by_park(_heard(lake, [park for park in parks if park.id in raw], first - before, end + after))
    back = flagging.CONTEXT if thorough else pd.Timedelta(0)
    stored = _by_park(_frame(lake, GENERATION, parks, "valid_at", first.floor("h") - back, end))
    observed = flagging.weather(lake, [p.id for p in parks], first - back, end) if thorough else {}
    capacities = _capacities(lake, parks)
    for park in parks:
        if park.id not in raw:
            continue
        mine = work[park.id]
        known = processing.newest(stored[park.id]) if park.id in stored else pd.DataFrame()
        rows, impossible = _in_true_time(raw[park.id], park, reports, first.floor("h"), end)
        hours = clocks.apply(pd.DatetimeIndex(heard[park.id].hour), park, reports).floor("h")
        made, bad = _roll_up(
            park, rows, heard[park.id].assign(hour=hours).dropna(subset=["hour"]), capacities[park.id], end
        )
        mine.bad += [(RAW_GENERATION, bad), (RAW_GENERATION, impossible)]
        gone = _taken_back(raw[park.id], rows, made, known, end)
        made = pd.concat([made, gone], ignore_index=True) if len(gone) else made
        mine.generation, mine.current = _to_store(park, made, known, end, observed.get(park.id), thorough, found_now)


def _in_true_time(
    raw: pd.DataFrame, park: Park, reports: Mapping[str, ClockReport], begin: pd.Timestamp, end: pd.Timestamp
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of [begin, end) with `measured_at` by the sun, and rows whose label is no time."""
    true = clocks.apply(pd.DatetimeIndex(raw.measured_at), park, reports)
    no_time = np.asarray(true.isna())
    rows = raw.assign(measured_at=true, labelled_at=raw.measured_at)
    inside = np.asarray((true >= begin) & (true < end))
    impossible = raw[no_time].assign(reason="clock: the label falls into the hour that daylight-saving time skips")
    return rows[inside].reset_index(drop=True), impossible


def _roll_up(
    park: Park, raw: pd.DataFrame, heard: pd.DataFrame, capacity: pd.Series, now: pd.Timestamp
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Intervals of one park, and the rows that were set aside."""
    heard = heard.assign(day=(heard.hour + pd.Timedelta(hours=round(park.longitude / 15.0))).dt.floor("D"))
    units = generation.wrong_units(heard, float(capacity.iloc[-1]), _sun(park, pd.DatetimeIndex(heard.hour), 3600.0))
    day = (raw.measured_at + pd.Timedelta(hours=round(park.longitude / 15.0))).dt.floor("D")
    unit = units.reindex(pd.MultiIndex.from_arrays([raw.inverter_id, day])).fillna("").to_numpy(str)
    at = np.maximum(capacity.index.searchsorted(pd.DatetimeIndex(raw.measured_at), side="right") - 1, 0)
    good, bad = validation.check_generation(
        raw,
        park.id,
        capacity.to_numpy()[at],
        _sun(park, pd.DatetimeIndex(raw.measured_at), raw.period_s.to_numpy(float)),
        unit,
    )
    bad = bad.assign(measured_at=bad.labelled_at).drop(columns="labelled_at")  # as delivered
    roster = heard[["inverter_id", "hour", "power_kw"]]
    roster = roster[roster.power_kw <= generation.OVERSHOOT * float(capacity.iloc[-1])]
    periods = (3600, 900) if park.resolution == "PT15M" else (3600,)
    made = [processing.roll_up(good, _plant(park), period, now, roster) for period in periods]
    return pd.concat([part for part in made if len(part)] or made[:1], ignore_index=True), bad


def _to_store(
    park: Park,
    made: pd.DataFrame,
    known: pd.DataFrame,
    now: pd.Timestamp,
    observed: pd.DataFrame | None,
    thorough: bool,
    found_now: bool,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows to add, and what the park's intervals are now.

    A row that changes what is stored gets a later `available_at`: a read as of the time between still finds what was
    known then. What changes because of a finding (`found_now`) was known from now on. A flag that took days to be seen
    comes as a second row, available when the last hour it stands on was.
    """
    parts = []
    currents = []
    for period in sorted(set(made.period_s)):
        rows = made[made.period_s == period].reset_index(drop=True)
        before = known[known.period_s == period] if len(known) else known
        if thorough and period == 3600:
            final = flagging.flag(park, rows, before, observed)
        else:
            final = _keep_flags(rows, before)
        changed = processing.differing(final, before)
        is_new = ~rows.valid_at.isin(before.valid_at) if len(before) else pd.Series(True, index=rows.index)
        late = (final.available_at > rows.available_at) & (final["flags"] != rows["flags"])
        parts.append(rows[is_new & late])
        update = final[changed].copy()
        if len(update) and len(before):
            last = before.set_index("valid_at").available_at.reindex(update.valid_at)
            last = pd.DatetimeIndex(last)
            stale = np.asarray(last.notna() & ((pd.DatetimeIndex(update.available_at) <= last) | found_now))
            later = np.maximum(last.as_unit("ns").asi8 + 1_000, now.as_unit("ns").value)
            fresh = pd.DatetimeIndex(np.where(stale, later, pd.DatetimeIndex(update.available_at).as_unit("ns").asi8))
            update["available_at"] = fresh.tz_localize("UTC")
        parts.append(update)
        currents.append(final)
    if not parts:
        return made, made
    filled = [part for part in parts if len(part)] or parts[:1]
    return pd.concat(filled, ignore_index=True), pd.concat(currents, ignore_index=True)


def _keep_flags(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Flags found in earlier days stay until the next thorough look, where the power is still the same."""
    if before.empty or rows.empty:
        return rows
    old = before.set_index("valid_at").reindex(rows.valid_at)
    same = np.isclose(old.power_kw.to_numpy(float), rows.power_kw.to_numpy(float), rtol=1e-9, atol=1e-9)
    kept = np.where(same & old.available_at.notna().to_numpy(), old["flags"].fillna("").to_numpy(), rows["flags"])
    merged = [flagging.merge(new, was) for new, was in zip(rows["flags"], kept, strict=True)]
    return rows.assign(flags=merged)


def _taken_back(
    labelled: pd.DataFrame, rows: pd.DataFrame, made: pd.DataFrame, known: pd.DataFrame, now: pd.Timestamp
) -> pd.DataFrame:
    """Stored intervals that their rows no longer make: power NaN from now on. Only where raw rows lie around them."""
    if known.empty or rows.empty:
        return pd.DataFrame(columns=processing.COLUMNS)
    low = min(labelled.measured_at.min(), rows.measured_at.min())
    high = max(labelled.measured_at.max(), rows.measured_at.max())
    inside = known[(known.valid_at >= low.floor("h")) & (known.valid_at <= high) & known.power_kw.notna()]
    waited = inside.valid_at + pd.to_timedelta(inside.period_s, unit="s") + processing.GRACE <= now
    there = pd.MultiIndex.from_frame(inside[["period_s", "valid_at"]]).isin(
        pd.MultiIndex.from_frame(made[["period_s", "valid_at"]])
    )
    gone = inside[waited & ~there]
    return gone.assign(power_kw=np.nan, completeness=0.0, flags="", available_fraction=np.nan, export_limit_kw=np.nan)[
        processing.COLUMNS
    ]


def _first(lake: Lake, park: Park, default: pd.Timestamp) -> pd.Timestamp:
    """The first label of a park."""
    found = lake.query(
        RAW_GENERATION,
        f"SELECT min(measured_at) AS first FROM t WHERE {of_parks([park.id])}",
    )
    first = found["first"][0].as_py() if found is not None and len(found) else None
    return default if first is None else _utc(first)


def _heard(lake: Lake, parks: Sequence[Park], begin: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """By park, inverter and hour the highest power of whatever was delivered, with whole days and context around."""
    columns = ["park_id", "inverter_id", "hour", "power_kw"]
    if not parks:
        return pd.DataFrame(columns=columns)
    first = begin.floor("h") - pd.Timedelta(hours=processing.TRAILING) - _DAY
    found = lake.query(
        RAW_GENERATION,
        f"SELECT park_id, inverter_id, date_trunc('hour', measured_at) AS hour, max(power_kw) AS power_kw FROM t "
        f"WHERE {of_parks([park.id for park in parks])} AND measured_at >= TIMESTAMP '{first.isoformat()}' "
        f"AND measured_at < TIMESTAMP '{(end.ceil('D') + _DAY).isoformat()}' AND power_kw = power_kw "
        f"GROUP BY park_id, inverter_id, date_trunc('hour', measured_at)",
    )
    return pd.DataFrame(columns=columns) if found is None else found.to_pandas(use_threads=False)


def _weather(
    lake: Lake, parks: Sequence[Park], begin: pd.Timestamp, end: pd.Timestamp, work: dict[str, _Work]
) -> pd.DataFrame:
    raw = _frame(lake, RAW_WEATHER, parks, "available_at", begin.floor("h"), end + _TICK)
    if raw.empty:
        return raw
    key = list(WEATHER.key)
    places = {park.id: (park.latitude, park.longitude) for park in parks}
    latitude, longitude = (raw.park_id.map({k: v[i] for k, v in places.items()}).to_numpy(float) for i in (0, 1))
    times = pd.DatetimeIndex(raw.valid_at)
    height = sun.highest(latitude, longitude, times, raw.period_s.to_numpy(float))
    good, bad = validation.check_weather(raw, height, sun.extraterrestrial(times))
    for park_id, rows in bad.groupby("park_id"):
        work[str(park_id)].bad.append((RAW_WEATHER, rows))
    stored = _frame(lake, WEATHER, parks, "available_at", begin.floor("h"), end + _TICK, key)
    new = good[~_among(good[key], stored)] if len(stored) else good
    doubts = validation.weather.flagged(good, height[good.index.to_numpy()])
    for park_id, rows in new.groupby("park_id"):
        work[str(park_id)].weather_rows = len(rows)
    for park_id, rows in doubts.groupby(good.park_id):
        work[str(park_id)].doubts = {name: int(n) for name, n in rows.sum().items() if n}
    return new


def _among(rows: pd.DataFrame, stored: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return np.asarray(rows.merge(stored.drop_duplicates(), how="left", indicator=True)["_merge"] == "both", bool)


def _frame(
    lake: Lake,
    table: Table,
    parks: Sequence[Park],
    column: str,
    begin: pd.Timestamp,
    end: pd.Timestamp,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    rows = lake.read(table, park_ids=[park.id for park in parks], during=(column, begin, end), columns=columns)
    return rows.to_pandas(use_threads=False)


def _by_park(rows: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    return {str(park): part.reset_index(drop=True) for park, part in rows.groupby("park_id")}


def _capacities(lake: Lake, parks: Sequence[Park]) -> dict[str, pd.Series]:
    """By park `ac_capacity_kw` by the time from which it holds, ascending."""
    facts: dict[str, dict[pd.Timestamp, float]] = {park.id: {} for park in parks}
    for row in sorted(lake.read(PARKS, park_ids=list(facts)).to_pylist(), key=lambda row: row["recorded_at"]):
        facts[row["park_id"]][pd.Timestamp(row["valid_from"])] = float(json.loads(row["facts"])["ac_capacity_kw"])
    for park in parks:
        facts[park.id].setdefault(_utc(park.valid_from), park.ac_capacity_kw)
    return {park_id: pd.Series(steps).sort_index() for park_id, steps in facts.items()}


def _plant(park: Park) -> Plant:
    limits = tuple(
        Limit(_utc(a.begin), None if a.end is None else _utc(a.end), a.available_fraction, a.export_limit_kw)
        for a in park.availability
    )
    return Plant(park.id, park.ac_capacity_kw, park.export_limit_kw, limits)


def _sun(park: Park, begin: pd.DatetimeIndex, period_s: Floats | float) -> Floats:
    n = len(begin)
    return sun.highest(np.full(n, park.latitude), np.full(n, park.longitude), begin, np.broadcast_to(period_s, n))


def _rejected(table: Table, bad: pd.DataFrame) -> list[Rejected]:
    if bad.empty:
        return []
    lines = bad.drop(columns="reason").to_json(orient="records", lines=True, date_format="iso").splitlines()
    return [
        Rejected(table.name, park_id, source, table.name, reason, line)
        for park_id, source, reason, line in zip(bad.park_id, bad.source, bad.reason, lines, strict=True)
    ]


def _report(
    work: _Work, begin: pd.Timestamp, park_id: str, clock: ClockReport | None, clock_applied: bool
) -> ValidationReport:
    reasons: dict[str, int] = {}
    for _, bad in work.bad:
        for told in bad.reason:
            name = levels.name_of(told)
            reasons[name] = reasons.get(name, 0) + 1
    now = work.current[work.current.valid_at >= begin.floor("h")] if len(work.current) else work.current
    hours = now[(now.period_s == 3600) & now.power_kw.notna()] if len(now) else None
    words: dict[str, int] = {}
    missing: int = 0
    gaps: tuple[tuple[str, int], ...] = ()
    if hours is not None and len(hours):
        for word in " ".join(hours["flags"].fillna("")).split():
            words[word] = words.get(word, 0) + 1
        missing, gaps = _gaps(pd.DatetimeIndex(hours.valid_at))
    return ValidationReport(
        park_id,
        len(work.generation),
        work.weather_rows,
        sum(len(bad) for _, bad in work.bad),
        reasons,
        words,
        work.doubts,
        0 if hours is None else len(hours),
        missing,
        gaps,
        clock,
        clock_applied,
    )


def _gaps(hours: pd.DatetimeIndex) -> tuple[int, tuple[tuple[str, int], ...]]:
    """How many hours lack between the first and the last, and the ten longest stretches."""
    ordered = hours.sort_values()
    steps = (ordered[1:] - ordered[:-1]) // _HOUR
    holes = [(ordered[i] + _HOUR, int(steps[i]) - 1) for i in np.flatnonzero(steps > 1)]
    longest = sorted(holes, key=lambda hole: -hole[1])[:10]
    return sum(n for _, n in holes), tuple((begin.isoformat(), n) for begin, n in longest)


def _utc(moment: datetime) -> pd.Timestamp:
    return pd.Timestamp(moment).tz_convert("UTC")
