"""Finds faults of a logger's clock against the sun, and corrects them.

A logger labelled with a fixed UTC offset may in truth follow daylight-saving time, or be set wrong by a fixed amount.
Both move the power curve against the sun, which cannot be wrong.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from pvforecast.features import clear_sky_power
from pvforecast.known import HOUR
from pvforecast.site import Site

_STEP_MINUTES = 15  # offsets are corrected in whole steps of this; what is smaller is within a day's noise
_CLEAREST = 0.3  # share of days, by energy relative to clear sky, that the offset is measured on


@dataclass(frozen=True)
class ClockReport:
    """What was found wrong with a clock, and what `correct` does about it.

    Attributes
    ----------
    follows_dst : the labels jump with daylight-saving time although their offset says they do not.
    dst_jumps : local dates at which the jump is seen in the data.
    offset_minutes : remaining fixed offset, labels minus sun, in whole quarter hours; subtracted by `correct`.
    residual_minutes : what remains after correction (median over the clearest days).
    """

    park_id: str
    follows_dst: bool
    dst_jumps: tuple[str, ...]
    offset_minutes: int
    residual_minutes: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClockReport:
        return cls(**{**values, "dst_jumps": tuple(values["dst_jumps"])})

    def sentence(self) -> str:
        """For a report."""
        if not self.corrected:
            return f"in step with the sun ({self.residual_minutes:+.0f} min)"
        found = []
        if self.follows_dst:
            found.append(f"follows daylight-saving time against its label (jumps seen: {', '.join(self.dst_jumps)})")
        if self.offset_minutes:
            found.append(f"{self.offset_minutes:+d} min against the sun")
        return f"{' and '.join(found)}: corrected, {self.residual_minutes:+.0f} min remain"

    @property
    def corrected(self) -> bool:
        return self.follows_dst or self.offset_minutes != 0


def find_faults(power_kw: pd.Series, site: Site) -> ClockReport:
    """Compare a power series with the sun.

    Parameters
    ----------
    power_kw : kW, labelled by interval start with a fixed-offset, timezone-aware index; at least 20 days of it.
    """
    jumps = _dst_jumps(power_kw, site)
    follows = bool(len(jumps))
    unjumped = _series(power_kw, _undo_dst(power_kw.index, site) if follows else power_kw.index.tz_convert("UTC"))
    offset = _minutes_late(unjumped, site)
    steps = round(offset / _STEP_MINUTES) * _STEP_MINUTES if abs(offset) > _STEP_MINUTES else 0
    return ClockReport(site.park_id, follows, tuple(jumps), steps, round(offset - steps, 1))


def correct(index: pd.DatetimeIndex, site: Site, report: ClockReport) -> pd.DatetimeIndex:
    """True UTC of each label; NaT for labels that cannot exist (the hour that daylight-saving time skips)."""
    utc = _undo_dst(index, site) if report.follows_dst else index.tz_convert("UTC")
    return utc - pd.Timedelta(minutes=report.offset_minutes)


def _undo_dst(index: pd.DatetimeIndex, site: Site) -> pd.DatetimeIndex:
    """Read the labels as civil time. The hour that occurs twice each autumn is read as standard time."""
    wall = index.tz_localize(None)
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


def _minutes_late(power_kw: pd.Series, site: Site) -> float:
    """Median over the clearest days of (power-weighted mean time) - (the same of clear-sky power), minutes."""
    hourly = power_kw[power_kw.index.notna()].clip(lower=0.0).resample("1h").mean().dropna()
    hours = hourly.index.tz_localize(None).to_numpy().astype("datetime64[s]")
    table = pd.DataFrame({"power": hourly.to_numpy(), "clear": clear_sky_power(site, hours)})
    middle = hours + HOUR // 2
    table["hour"] = (middle - middle.astype("datetime64[D]")).astype(float) / 3600.0
    # Solar days: shift UTC by the longitude so that no producing day is cut at midnight.
    shift = np.timedelta64(int(-site.longitude / 15.0 * 3600), "s")
    table["day"] = (middle - shift).astype("datetime64[D]")
    table["hour"] = (table["hour"] + site.longitude / 15.0) % 24.0
    days = (
        table.assign(wp=table.power * table.hour, wc=table.clear * table.hour)
        .groupby("day")
        .agg(power=("power", "sum"), clear=("clear", "sum"), wp=("wp", "sum"), wc=("wc", "sum"), n=("power", "size"))
    )
    days = days[(days.n == 24) & (days.power > 0) & (days.clear > 0)]
    ratio = days.power / days.clear
    clearest = days[ratio >= ratio.quantile(1.0 - _CLEAREST)]
    if len(clearest) < 5:
        return 0.0
    return float(((clearest.wp / clearest.power) - (clearest.wc / clearest.clear)).median() * 60.0)


def _series(power_kw: pd.Series, index: pd.DatetimeIndex) -> pd.Series:
    moved = pd.Series(power_kw.to_numpy(), index=index)
    moved = moved[moved.index.notna()]
    return moved[~moved.index.duplicated(keep="last")].sort_index()
