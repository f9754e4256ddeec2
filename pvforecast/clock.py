"""Finds faults of a logger's clock against the sun, and corrects them.

A logger may follow daylight-saving time against its label, be set wrong, or label intervals by their end. All move the
power curve against the sun, which cannot be wrong. So does a wrong azimuth in the park's facts, though not rigidly: it
moves the weight of the day much and its edges little, because at its edges the light is diffuse. What moves both by the
same time is a clock; what moves them as another azimuth would is named, and nothing is corrected.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pvlib

from pvforecast.known import Floats
from pvforecast.site import Site

MIN_DAYS = 20  # producing days below which nothing is said
STEP_MINUTES = 15  # offsets are corrected in whole steps of this; what is smaller is within a day's noise
_CLEAREST = 0.3  # share of days, by energy relative to clear sky, that the offset is measured on
_EDGE = 0.02  # of the day's highest power, at which a day begins and ends
_MISFIT = 12.0  # minutes by which a measure may miss what would explain it: haze, horizon, an inverter's threshold
_RECENT = pd.Timedelta(days=180)  # what the offset is measured on; jumps are looked for in all of it
_AZIMUTHS = np.arange(-90.0, 91.0, 10.0)


@dataclass(frozen=True)
class ClockReport:
    """What was found wrong with a clock, and what `correct` does about it.

    Attributes
    ----------
    follows_dst : the labels jump with daylight-saving time although their offset says they do not.
    dst_jumps : local dates at which the jump is seen in the data.
    offset_minutes : remaining fixed offset, labels minus sun, in whole quarter hours; subtracted by `correct`.
    residual_minutes : what remains after correction (median over the clearest days).
    days : producing days that were looked at; 0 in reports of older versions.
    period_minutes : length of the intervals.
    azimuth_deg : the azimuth, degrees east of north, that would explain the same as a clock; None: none does.
    suspected_minutes : an offset that is not corrected, because the azimuth explains it as well or better.
    """

    park_id: str
    follows_dst: bool
    dst_jumps: tuple[str, ...]
    offset_minutes: int
    residual_minutes: float
    days: int = 0
    period_minutes: int = 0
    azimuth_deg: float | None = None
    suspected_minutes: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClockReport:
        return cls(**{**values, "dst_jumps": tuple(values["dst_jumps"])})

    def sentence(self, *, applied: bool = True) -> str:
        """For a report; `applied`: corrections are made where they are found, unless somebody switched that off."""
        if 0 < self.days < MIN_DAYS:
            return f"not known yet: {self.days} producing days, {MIN_DAYS} are needed"
        if self.suspected_minutes or self.azimuth_deg is not None:
            return self._suspicion()
        if not self.corrected:
            ends = ": labels by the end of the interval?" if self._asks_for_label else ""
            return f"in step with the sun ({self.residual_minutes:+.0f} min{ends})"
        done = f"corrected, {self.residual_minutes:+.0f} min remain" if applied else "not corrected, as was asked for"
        return f"{self.fault}: {done}"

    @property
    def fault(self) -> str:
        """What is wrong for sure, in words; empty when nothing is."""
        found = []
        if self.follows_dst:
            found.append(f"follows daylight-saving time against its label (jumps seen: {', '.join(self.dst_jumps)})")
        if self.offset_minutes:
            found.append(f"{self.offset_minutes:+d} min against the sun")
        if self._label_end(self.offset_minutes):
            found[-1] += f", as labels by the end of their interval of {self.period_minutes} min would be"
        return " and ".join(found)

    @property
    def in_step(self) -> bool:
        """Looked at, and there is nothing that somebody should know."""
        doubted = self.suspected_minutes or self.azimuth_deg is not None or self._asks_for_label
        return self.days >= MIN_DAYS and not (self.corrected or doubted)

    @property
    def corrected(self) -> bool:
        return self.follows_dst or self.offset_minutes != 0

    @property
    def correction(self) -> tuple[bool, int]:
        """What decides where a row belongs; findings that agree in it are the same."""
        return self.follows_dst, self.offset_minutes

    def _suspicion(self) -> str:
        faces = "the modules do not face as stated" if self.azimuth_deg is None else (
            f"the modules face {self.azimuth_deg:.0f} degrees, not as stated"
        )  # fmt: skip
        if not self.suspected_minutes:
            return f"{faces}: not a clock, nothing is corrected"
        return f"the clock is {self.suspected_minutes:+d} min off or {faces}: the sun can't tell, nothing is corrected"

    @property
    def _asks_for_label(self) -> bool:
        return self._label_end(round(self.residual_minutes / 5) * 5)

    def _label_end(self, minutes: int) -> bool:
        return self.period_minutes > 0 and minutes == self.period_minutes


def find_faults(power_kw: pd.Series, site: Site) -> ClockReport:
    """Compare a power series with the sun.

    Parameters
    ----------
    power_kw : kW, labelled by interval start as delivered, timezone-aware; `MIN_DAYS` producing days of it at least.
    """
    series = power_kw.sort_index()
    series = series[~series.index.duplicated(keep="last")].clip(lower=0.0).dropna()
    standard = standard_offset(site, series.index[-1].to_pydatetime() if len(series) else datetime(2000, 1, 1))  # noqa: DTZ001
    series.index = series.index.tz_convert(timezone(standard))
    days = _producing_days(series, site)
    period_s = _period(series.index)
    nothing = ClockReport(site.park_id, False, (), 0, 0.0, days, period_s // 60)
    if days < MIN_DAYS:
        return nothing
    jumps = tuple(_dst_jumps(series, site))
    follows = bool(jumps)
    labels = _undo_dst(series.index, site) if follows else series.index.tz_convert("UTC")
    true = _series(series, labels)
    late = _minutes_late(true, site, period_s)
    if late is None:
        return replace(nothing, follows_dst=follows, dst_jumps=jumps)
    # Of whole hours the edges are known to a quarter of an hour at best: they judge, the weight measures.
    middle = late.by_weight if period_s == 3600 else (late.by_weight + late.by_edges) / 2.0
    found = replace(nothing, follows_dst=follows, dst_jumps=jumps, residual_minutes=round(middle, 1))
    if abs(middle) <= STEP_MINUTES and abs(late.by_weight) <= 1.5 * STEP_MINUTES:
        return found
    steps = round(middle / STEP_MINUTES) * STEP_MINUTES
    if late.as_clock <= _MISFIT and late.as_azimuth > max(_MISFIT, 2.0 * late.as_clock):
        return replace(found, offset_minutes=steps, residual_minutes=round(middle - steps, 1))
    if late.as_azimuth <= _MISFIT and late.as_azimuth < 0.5 * late.as_clock:
        return replace(found, azimuth_deg=late.azimuth)
    suspected = round(late.by_weight / STEP_MINUTES) * STEP_MINUTES
    return replace(found, suspected_minutes=suspected, azimuth_deg=late.azimuth if late.as_azimuth <= _MISFIT else None)


def correct(index: pd.DatetimeIndex, site: Site, report: ClockReport) -> pd.DatetimeIndex:
    """True UTC of each label; NaT for labels that cannot exist (the hour that daylight-saving time skips)."""
    utc = _undo_dst(index, site) if report.follows_dst else index.tz_convert("UTC")
    return utc - pd.Timedelta(minutes=report.offset_minutes)


def standard_offset(site: Site, moment: datetime) -> timedelta:
    """Offset of the site's time zone without daylight-saving time, in the year of `moment`."""
    zone = ZoneInfo(site.timezone)
    offsets = [datetime(moment.year, month, 1, tzinfo=zone).utcoffset() for month in (1, 7)]
    return min(offset for offset in offsets if offset is not None)


def _undo_dst(index: pd.DatetimeIndex, site: Site) -> pd.DatetimeIndex:
    """Read the labels, as standard time shows them, as civil time. The hour that occurs twice each autumn is read as
    standard time."""
    if len(index) == 0:
        return index.tz_convert("UTC")
    wall = index.tz_convert(timezone(standard_offset(site, index[0].to_pydatetime()))).tz_localize(None)
    local = wall.tz_localize(ZoneInfo(site.timezone), ambiguous=np.zeros(len(wall), bool), nonexistent="NaT")
    return local.tz_convert("UTC")


def _dst_jumps(power_kw: pd.Series, site: Site) -> list[str]:
    """Local dates at which the middle of the producing day jumps with daylight-saving time."""
    from pvanalytics.quality import time as pva_time  # a second to import, and few tasks look at clocks

    producing = power_kw[power_kw > 0.02 * site.ac_capacity_kw]
    if producing.empty:
        return []
    days = producing.index.to_series().groupby(producing.index.normalize())
    noon = (days.min() + (days.max() - days.min()) / 2).asfreq("D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a transition without data around it: not evidence of a jump
        found = pva_time.has_dst(noon, site.timezone, window=7, min_difference=40, missing="warn")
    return [str(day.date()) for day in found.index[found.to_numpy()]]


@dataclass(frozen=True)
class _Late:
    """Minutes that the labels are after the sun, by two measures, and what explains them.

    Attributes
    ----------
    as_clock : by how much each measure misses a clock that is off.
    as_azimuth : by how much they miss `azimuth`, of all others than the stated one the best.
    """

    by_weight: float
    by_edges: float
    as_azimuth: float
    azimuth: float

    @property
    def as_clock(self) -> float:
        return abs(self.by_weight - self.by_edges) / 2.0


def _minutes_late(power_kw: pd.Series, site: Site, period_s: int) -> _Late | None:
    """Weight and edges of the clearest days, against the same of a clear sky; None where there is too little light."""
    recent = power_kw[power_kw.index >= power_kw.index[-1] - _RECENT]
    coarse = _coarse(recent, site, period_s)
    moved = recent.copy()
    moved.index = moved.index - pd.Timedelta(minutes=coarse)
    power, begins = _days(moved, site, period_s)
    if len(power) < 5:
        return None
    clear = _Sun(site, begins).power(0.0, period_s)
    ratio = power.sum(axis=1) / np.maximum(clear.sum(axis=1), 1e-9)
    chosen = (ratio >= np.quantile(ratio, 1.0 - _CLEAREST)) & (clear.sum(axis=1) > 0)
    if chosen.sum() < 5:
        return None
    minute: Floats = (np.arange(power.shape[1], dtype=np.float64) + 0.5) * (period_s / 60.0)
    sun, power = _Sun(site, begins[chosen]), power[chosen]
    weight, edges = _weight(power, minute), _edges(power, minute)

    def late(turned: float) -> tuple[float, float]:
        model = sun.power(turned, period_s)
        by_weight, by_edges = weight - _weight(model, minute), edges - _edges(model, minute)
        return float(np.nanmedian(by_weight)) + coarse, float(np.nanmedian(by_edges)) + coarse

    others = {} if site.arrays else {turned: max(map(abs, late(turned))) for turned in _AZIMUTHS if turned}
    best = min(others, key=lambda turned: others[turned], default=0.0)
    azimuth = (site.surface_azimuth + float(best)) % 360.0
    return _Late(*late(0.0), others.get(best, np.inf), azimuth)


class _Sun:
    """Sun and clear sky (simplified Solis, as the features have it) of some days, in quarter hours."""

    def __init__(self, site: Site, begins: pd.DatetimeIndex) -> None:
        self._site, self._days = site, len(begins)
        grid = begins.as_unit("ns").asi8[:, None] + (np.arange(96) * 900 + 450)[None, :] * 1_000_000_000
        middle = pd.DatetimeIndex(grid.ravel()).tz_localize("UTC")
        self.position = pvlib.solarposition.get_solarposition(middle, site.latitude, site.longitude, site.elevation_m)
        self.extra = pvlib.irradiance.get_extra_radiation(middle)
        self.sky = pvlib.clearsky.simplified_solis(
            self.position.apparent_elevation, pressure=pvlib.atmosphere.alt2pres(site.elevation_m), dni_extra=self.extra
        )

    def power(self, turned: float, period_s: int) -> Floats:
        """Clear-sky irradiance in the plane of the modules, turned by some degrees. Shape [days, intervals]."""
        total = np.zeros(len(self.position))
        for plane in self._site.planes:
            poa = pvlib.irradiance.get_total_irradiance(
                plane.surface_tilt, (plane.surface_azimuth + turned) % 360.0, self.position.apparent_zenith,
                self.position.azimuth, self.sky.dni, self.sky.ghi, self.sky.dhi, dni_extra=self.extra,
                model="haydavies",
            )  # fmt: skip
            total += plane.share * np.nan_to_num(poa.poa_global.to_numpy(float))
        lit = np.where(self.position.elevation > 0.0, total, 0.0)
        mean: Floats = lit.reshape(self._days, 86_400 // period_s, period_s // 900).mean(axis=2)
        return mean


def _days(power_kw: pd.Series, site: Site, period_s: int) -> tuple[Floats, pd.DatetimeIndex]:
    """Whole solar days that have light: shape [days, intervals], and the UTC instant each begins at."""
    shift = pd.Timedelta(hours=round(site.longitude / 15.0))
    regular = power_kw.resample(pd.Timedelta(seconds=period_s)).mean()
    local = regular.index + shift
    day = local.normalize()
    slot = ((local - day) // pd.Timedelta(seconds=period_s)).to_numpy()
    table = pd.DataFrame({"day": day, "slot": slot, "power": regular.to_numpy()})
    shaped = table.pivot(index="day", columns="slot", values="power").reindex(columns=range(86_400 // period_s))
    whole = shaped.dropna()
    whole = whole[whole.sum(axis=1) > 0]
    return whole.to_numpy(float), pd.DatetimeIndex(whole.index) - shift


def _weight(power: Floats, minute: Floats) -> Floats:
    """Power-weighted mean time of each day, minutes."""
    weight: Floats = (power * minute).sum(axis=1) / power.sum(axis=1)
    return weight


def _edges(power: Floats, minute: Floats) -> Floats:
    """Middle between the first and the last light of each day, minutes: where power crosses `_EDGE` of its highest."""
    limit = _EDGE * power.max(axis=1, keepdims=True)
    above = power >= limit
    first = np.argmax(above, axis=1)
    last = power.shape[1] - 1 - np.argmax(above[:, ::-1], axis=1)
    rows = np.arange(len(power))

    def crossing(inside: npt.NDArray[np.int64], outside: npt.NDArray[np.int64]) -> Floats:
        out = np.clip(outside, 0, power.shape[1] - 1)
        high, low = power[rows, inside], power[rows, out]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(high > low, (high - limit[:, 0]) / (high - low), 0.0)
        return minute[inside] + share * (minute[out] - minute[inside])

    middle: Floats = (crossing(first, first - 1) + crossing(last, last + 1)) / 2.0
    return middle


def _coarse(power_kw: pd.Series, site: Site, period_s: int) -> float:
    """By how many minutes the mean day lies off that of a clear sky, in quarter hours; 0 for three hours or less."""
    local = power_kw.index + pd.Timedelta(hours=round(site.longitude / 15.0))
    slot = ((local - local.normalize()) // pd.Timedelta(minutes=15)).to_numpy()
    ours = pd.Series(power_kw.to_numpy()).groupby(slot).mean().reindex(range(96))
    ours = (ours.ffill(limit=period_s // 900 - 1) if period_s > 900 else ours).fillna(0.0).to_numpy()
    middle = pd.DatetimeIndex([power_kw.index[len(power_kw) // 2].normalize()])
    clear = _Sun(site, middle - pd.Timedelta(hours=round(site.longitude / 15.0))).power(0.0, 900)[0]
    likeness = [float(np.dot(np.roll(clear, steps), ours)) for steps in range(96)]
    steps = int(np.argmax(likeness))
    minutes = (steps if steps <= 48 else steps - 96) * 15.0
    return minutes if abs(minutes) > 180.0 else 0.0


def _producing_days(power_kw: pd.Series, site: Site) -> int:
    producing = power_kw[power_kw > 0.02 * site.ac_capacity_kw]
    return int(producing.index.normalize().nunique())


def _period(index: pd.DatetimeIndex) -> int:
    """Seconds between labels, as most of them have it: a quarter, half or whole hour."""
    if len(index) < 2:
        return 900
    step = float(np.median(np.diff(index.as_unit("ns").asi8))) / 1e9
    return next((length for length in (900, 1800) if step <= length), 3600)


def _series(power_kw: pd.Series, index: pd.DatetimeIndex) -> pd.Series:
    moved = pd.Series(power_kw.to_numpy(), index=index)
    moved = moved[moved.index.notna()]
    return moved[~moved.index.duplicated(keep="last")].sort_index()
