"""Real measurements of two roofs at NREL in Golden, Colorado, as shipped in the package `pvanalytics` (MIT).

15-minute AC power in W, labelled with the fixed offset -07:00, and NSRDB weather (satellite-observed GHI and air
temperature). Labels are delivered as they are: those of system 50 follow daylight-saving time. SERF East was measured
in 2016; it is moved back by 1,096 days so that both parks live in one replay.

Observed weather becomes pseudo-runs: one a local midnight, available at once, leads 0-48 h, source
``nsrdb_observed``. That is optimistic, and every score on it says so.

A planted loss (a drill) multiplies a park's power from an instant on; rows then carry the source ``...+drill``.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import resources

import numpy as np
import pandas as pd

from pvforecast.errors import UnknownPark
from pvforecast.known import WEATHER_VARIABLES
from pvforecast.parks import Park
from pvforecast.sources.base import Delivery, RunKey
from pvforecast.sources.open_meteo_answer import extra

SOURCE = "pvdaq_samples"
WEATHER_SOURCE = "nsrdb_observed"
RECEIPT_DELAY = timedelta(minutes=20)  # assumed: 15-minute interval, sent 5 minutes after its end
RUN_HOURS = 48
FREE_COLUMNS = ("x_clearness_00", "x_clearness_30")
_MIN_CLEAR = 10.0  # W/m²
_WEATHER_COLUMNS = [
    "park_id", "source", "run_at", "available_at", "valid_at", "period_s", *WEATHER_VARIABLES, "extra",
]  # fmt: skip
_SERF_MOVED = timedelta(days=1096)

PARKS = (
    Park(
        id="pvdaq-50",
        name="PVDAQ system 50",
        latitude=39.7406,
        longitude=-105.1775,
        elevation_m=1829,
        timezone="America/Denver",
        ac_capacity_kw=3.05,
        surface_tilt=45,
        surface_azimuth=158,
        source=SOURCE,
        note="capacity: 99.9th percentile of its power",
    ),
    Park(
        id="serf-east",
        name="SERF East",
        latitude=39.742,
        longitude=-105.1727,
        elevation_m=1829,
        timezone="America/Denver",
        ac_capacity_kw=4.98,
        surface_tilt=45,
        surface_azimuth=158,
        source=SOURCE,
        note="measured in 2016, moved back by 1,096 days; capacity: 99.9th percentile of its power",
    ),
)


@dataclass(frozen=True)
class PlantedLoss:
    """A drill: `park_id` delivers only `1 - fraction` of its power from `start` on."""

    park_id: str
    start: datetime
    fraction: float


@dataclass(frozen=True)
class PvdaqSamples:
    """The source; see the module."""

    loss: PlantedLoss | None = None
    name: str = SOURCE

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        labels, watts = _power(park.id)
        rows = pd.DataFrame(
            {
                "park_id": park.id,
                "inverter_id": "1",
                "measured_at": labels.tz_convert(UTC),
                "period_s": np.int32(900),
                "power_kw": watts / 1000.0,
                "label": labels.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "source": self.name,
            }
        )
        rows = rows[rows.power_kw.notna()]
        rows = rows[(rows.measured_at >= since) & (rows.measured_at < until)]
        rows["received_at"] = rows.measured_at + RECEIPT_DELAY
        if self.loss is not None and self.loss.park_id == park.id:
            lost = rows.measured_at >= self.loss.start
            rows.loc[lost, "power_kw"] *= 1.0 - self.loss.fraction
            rows.loc[lost, "source"] = f"{self.name}+drill"
        return rows.reset_index(drop=True)

    @property
    def attribution(self) -> str:
        return "NSRDB by NREL; PVDAQ by NREL and DOE"

    def weather(
        self, parks: Sequence[Park], since: datetime, until: datetime, stored: Set[RunKey] = frozenset()
    ) -> Delivery:
        rows, failed = [pd.DataFrame(columns=_WEATHER_COLUMNS)], {}
        for park in parks:
            try:
                rows.append(_weather(park, since, until, stored))
            except UnknownPark as error:
                failed[park.id] = str(error)
        filled = [frame for frame in rows if len(frame)] or rows[:1]
        return Delivery(pd.concat(filled, ignore_index=True), failed)


def _weather(park: Park, since: datetime, until: datetime, stored: Set[RunKey]) -> pd.DataFrame:
    hourly = hourly_weather(park.id)
    issues = _local_midnights(
        park, max(since, hourly.index[0].to_pydatetime()), min(until, hourly.index[-1].to_pydatetime())
    )
    runs = []
    for run_at in issues:
        if (park.id, WEATHER_SOURCE, run_at) in stored:
            continue
        run = hourly.loc[run_at : run_at + pd.Timedelta(hours=RUN_HOURS - 1)].reset_index()
        runs.append(run.assign(run_at=run_at, available_at=run_at))
    if not runs:
        return pd.DataFrame(columns=_WEATHER_COLUMNS)
    rows = pd.concat(runs, ignore_index=True).assign(park_id=park.id, source=WEATHER_SOURCE, period_s=np.int32(3600))
    for name in WEATHER_VARIABLES:
        rows[name] = rows.get(name, np.nan)
    rows["extra"] = extra({name: rows[name].to_numpy() for name in FREE_COLUMNS}, np.ones(len(rows), bool))
    return rows[_WEATHER_COLUMNS]


@lru_cache(maxsize=2)
def _power(park_id: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Labels as delivered (fixed offset -07:00) and W."""
    if park_id == "pvdaq-50":
        table = pd.read_parquet(_file("system_50_ac_power_2_full_DST.parquet"))
        return pd.DatetimeIndex(table["measured_on"]), table["ac_power_2"].to_numpy(float)
    if park_id == "serf-east":
        table = pd.read_csv(_file("serf_east_15min_ac_power.csv"), parse_dates=["measured_on"])
        return pd.DatetimeIndex(table["measured_on"]) - _SERF_MOVED, table["ac_power"].to_numpy(float)
    raise _unknown(park_id)


@lru_cache(maxsize=2)
def hourly_weather(park_id: str) -> pd.DataFrame:
    """Hourly means labelled by interval start. NSRDB values are instantaneous: trapezoids over the quarter hours."""
    if park_id == "pvdaq-50":
        table = pd.read_parquet(_file("system_50_ac_power_2_full_DST_psm3.parquet")).set_index("index")
    elif park_id == "serf-east":
        table = pd.read_csv(_file("serf_east_psm3_data.csv"), parse_dates=["measured_on"]).set_index("measured_on")
        table.index = table.index - _SERF_MOVED
    else:
        raise _unknown(park_id)
    instant = table[["ghi", "temp_air"]].astype(float)
    instant.index = pd.DatetimeIndex(instant.index).tz_convert(UTC)
    quarter = instant.resample("15min").interpolate("linear", limit=4)
    hourly = ((quarter + quarter.shift(-1)) / 2.0).resample("1h").mean().dropna(how="all")
    hourly.index.name = "valid_at"
    return hourly.join(_clearness(table.set_axis(instant.index)))


def _clearness(table: pd.DataFrame) -> pd.DataFrame:
    """GHI over the clear-sky GHI that NSRDB delivers beside it, at the hour's beginning and middle; NaN by night.

    NSRDB knows haze and water vapour of the day, so that its 1 means: no cloud seen.
    """
    share = (table["ghi"] / table["ghi_clear"].where(table["ghi_clear"] > _MIN_CLEAR)).astype(float)
    return pd.DataFrame(
        {f"x_clearness_{minute:02d}": share[share.index.minute == minute].resample("1h").first() for minute in (0, 30)}
    )


def _local_midnights(park: Park, since: datetime, until: datetime) -> list[pd.Timestamp]:
    """00:00 local of each day, as UTC, in [since, until]."""
    first = pd.Timestamp(since).tz_convert(park.zone).normalize()
    last = pd.Timestamp(until).tz_convert(park.zone).normalize()
    midnights = [day.tz_convert(UTC) for day in pd.date_range(first, last, freq="D")]
    return [day for day in midnights if since <= day <= until]


def _unknown(park_id: str) -> UnknownPark:
    return UnknownPark(f"{park_id!r} is not in the samples", field="park_id", hint="pvdaq-50 or serf-east")


def _file(name: str) -> str:
    return str(resources.files("pvanalytics") / "data" / name)
