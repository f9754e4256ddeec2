"""What a park delivers against its own season: a week that no week like it was, in either direction.

The measure is a day's energy as a share of clear-sky energy, which weather moves and the season does not much; a week
of it is compared with the park's own weeks around the same day of the year.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pvforecast import features
from pvforecast.known import Floats
from pvforecast.site import Site

WEEK = 7
AROUND = 45  # days of the year to each side
MIN_WEEKS = 30  # overlapping weeks of other times that are needed
_BELOW, _ABOVE = 0.5, 1.25  # of the 2nd and 98th percentile


@dataclass(frozen=True)
class Season:
    """The newest week of a park.

    Attributes
    ----------
    days : ISO dates of the last 60 solar days, with `share`, each day's energy as a share of clear sky.
    week : mean share of the newest seven days; NaN where there are fewer.
    usual : 2nd, 50th and 98th percentile of the park's own weeks in this season; None while there are too few.
    verdict : "usual", "low", "high", or "unknown".
    """

    days: tuple[str, ...]
    share: tuple[float, ...]
    week: float
    usual: tuple[float, float, float] | None
    verdict: str


def look(site: Site, valid_at: pd.DatetimeIndex, power_kw: Floats) -> Season:
    """Of hours of power, ascending, UTC starts; NaN is left out."""
    known = ~np.isnan(power_kw)
    times = valid_at[known].tz_convert(None).to_numpy().astype("datetime64[s]")
    if len(times) == 0:
        return Season((), (), float("nan"), None, "unknown")
    hours = pd.DataFrame(
        {
            "day": (valid_at[known] + pd.Timedelta(hours=round(site.longitude / 15.0))).tz_convert(None).normalize(),
            "power": power_kw[known] / site.ac_capacity_kw,
            "clear": features.clear_sky_power(site, times),
        }
    )
    days = hours.groupby("day").agg(power=("power", "sum"), clear=("clear", "sum"), hours=("power", "size"))
    days = days[(days.hours >= 20) & (days.clear > 0.5)]
    share = (days.power / days.clear).asfreq("D")
    weekly = share.rolling(WEEK, min_periods=5).mean().dropna()
    last = share.tail(60)
    shown = tuple(str(day.date()) for day in last.index), tuple(float(value) for value in last)
    if weekly.empty:
        return Season(*shown, float("nan"), None, "unknown")
    newest, at = float(weekly.iloc[-1]), weekly.index[-1]
    apart = np.abs((weekly.index.dayofyear - at.dayofyear + 182) % 365 - 182)
    others = weekly[(apart <= AROUND) & (weekly.index <= at - pd.Timedelta(days=WEEK))]
    if len(others) < MIN_WEEKS:
        return Season(*shown, newest, None, "unknown")
    low, middle, high = (float(value) for value in others.quantile([0.02, 0.5, 0.98]))
    verdict = "low" if newest < _BELOW * low else "high" if newest > _ABOVE * high else "usual"
    return Season(*shown, newest, (low, middle, high), verdict)
