"""Simulated parks for the drift benchmark: three years each, under skies drawn from real ones, forecast with errors.

The chain is pvlib's own (Erbs, Hay-Davies, Faiman, PVWatts with an inverter), with what real parks have: a sky whose
clearness wanders, local clouds, dust that comes and goes, ageing, noise, gaps. Forecasts come as weather services
make them: a run each six hours, to be had five hours later. The clear-sky index errs by exp(e), e of the size by lead
that `benchmarks.weather_errors` uses, half its variance a run's own, half shared by all runs of an hour (a newer run
repeats much of an older one's error); so does the temperature. A forecast knows the day's clearness only in part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pvlib

from benchmarks import weather_errors
from benchmarks.drifts.climates import Climate, Floats, clear_sky
from pvforecast.known import HOUR, ParkRecord, Times, WeatherRun
from pvforecast.site import Site

FIRST = np.datetime64("2019-01-01", "s")
YEARS = 3
LEADS = 36
RUN_EVERY, RUN_DELAY = 6, 5 * HOUR
METER_DELAY = 2 * HOUR
_DAY = np.timedelta64(24 * 3600, "s")


@dataclass(frozen=True)
class Park:
    """A healthy park.

    Attributes
    ----------
    hours : shape [n], whole solar days. `power` in kW; NaN where the meter was silent.
    runs_at, run_delay : start of each forecast, shape [runs], and when it could be had.
    ghi, air : what it said, shape [runs, LEADS].
    """

    site: Site
    climate: str
    hours: Times
    power: Floats
    runs_at: Times
    ghi: Floats
    air: Floats
    truth_air: Floats
    run_delay: np.timedelta64 = RUN_DELAY

    def record(self) -> ParkRecord:
        """As the drift job reads it."""
        runs = tuple(
            WeatherRun(
                "simulated", at, at + self.run_delay, at + np.arange(LEADS) * HOUR, {"ghi": ghi, "temp_air": air}
            )
            for at, ghi, air in zip(self.runs_at, self.ghi, self.air, strict=True)
        )
        return ParkRecord(self.site, runs, self.hours, self.hours + METER_DELAY, self.power)


def park(number: int, climates: tuple[Climate, ...], years: int = YEARS, seed: int = 8) -> Park:
    """Park `number`; climates take turns."""
    random = np.random.default_rng([seed, number])
    climate = climates[number % len(climates)]
    site = _site(number, climate, random)
    days = 365 * years + 2
    begin = FIRST - round(site.longitude / 15.0) * HOUR
    hours = begin + np.arange(days * 24) * HOUR
    index, air = _sky(climate, days, random)
    clear = clear_sky(site.latitude, site.longitude, site.elevation_m, hours)
    clearness = _walk(days, 0.8, random)
    height = 1.0 + 0.01 * site.elevation_m / 500.0
    actual = clear * index * height * (1.0 + 0.02 * np.repeat(clearness, 24))
    starts = np.arange((-begin.astype(np.int64) // 3600) % RUN_EVERY, (days - 2) * 24, RUN_EVERY)
    ghi, warm = _forecasts(starts, clear * height, index, air, clearness, random)
    local = np.exp(0.06 * _hourly(len(hours), random))
    power = _power(site, hours, np.minimum(actual * local, 1.12 * clear * height), air, random)
    lost = random.random(len(hours)) < 0.003
    for _ in range(2 * years):
        at = int(random.integers(0, len(hours) - 72))
        lost[at : at + int(random.integers(6, 72))] = True
    kept = slice(0, (days - 2) * 24)
    return Park(site, climate.name, hours[kept], np.where(lost, np.nan, power)[kept], hours[starts], ghi, warm,
                air[kept])  # fmt: skip


def real(park_id: str, arrays: dict[str, np.ndarray], site: Site) -> Park:
    """A real park: what it metered, under observed weather."""
    hours, power = arrays["hours"].astype("datetime64[s]"), arrays["power"]
    offset = round(site.longitude / 15.0) * HOUR
    metered = hours[np.argmax(~np.isnan(power))]
    first = np.datetime64((metered + offset).astype("datetime64[D]") + 1, "s") - offset
    days = int((hours[-1] - first) / _DAY) - 2
    at = int((first - hours[0]) / HOUR)
    rows = at + np.arange(days)[:, None] * 24 + np.arange(LEADS)
    air = arrays["temp_air"]
    known = slice(at, at + days * 24)
    return Park(site, park_id, hours[known], power[known], hours[known][::24], arrays["ghi"][rows], air[rows],
                air[known], 0 * HOUR)  # fmt: skip


def with_power(healthy: Park, power: Floats) -> Park:
    """The same park, metered otherwise."""
    return replace(healthy, power=power)


def _site(number: int, climate: Climate, random: np.random.Generator) -> Site:
    return Site(
        park_id=f"{climate.name}-{number:03d}",
        latitude=climate.latitude + float(random.uniform(-1.5, 1.5)),
        longitude=climate.longitude + float(random.uniform(-1.5, 1.5)),
        elevation_m=climate.elevation_m,
        surface_tilt=float(random.uniform(5, 45)),
        surface_azimuth=float(random.uniform(120, 240)),
        ac_capacity_kw=float(np.round(10 ** random.uniform(1, 4), 1)),
        timezone="UTC",
    )


def _sky(climate: Climate, days: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Blocks of 4-12 real days of the same season, one after the other. Shape [days * 24] each."""
    known = len(climate.index)
    order: list[int] = []
    while len(order) < days:
        length = int(random.integers(4, 13))
        wanted = (len(order) - climate.first + int(random.integers(-15, 16))) % 365
        years = max(known // 365, 1)
        start = int(np.clip(wanted + 365 * random.integers(0, years), 0, known - length))
        order += range(start, start + length)
    chosen = np.array(order[:days])
    warmer = np.repeat(_walk(days, 0.7, random), 24)
    return climate.index[chosen].reshape(-1), climate.air[chosen].reshape(-1) + warmer


def _forecasts(
    starts: npt.NDArray[np.int64], clear: Floats, index: Floats, air: Floats, clearness: Floats,
    random: np.random.Generator,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Of runs that begin at these hours. Shape [runs, LEADS] each."""
    rows = starts[:, None] + np.arange(LEADS)
    lead = np.arange(LEADS) / weather_errors.LAST_LEAD
    size = weather_errors.SD_FIRST + (weather_errors.SD_LAST - weather_errors.SD_FIRST) * lead
    erring = index[rows] * np.exp(size * _errors(rows, len(clear), weather_errors.AR, random))
    believed = 1.0 + 0.02 * (0.5 * clearness + 0.5 * _walk(len(clearness), 0.8, random))
    ghi = clear[rows] * np.minimum(erring, 1.0) * believed[rows // 24]
    return ghi, air[rows] + 1.2 * _errors(rows, len(clear), 0.95, random)


def _errors(rows: npt.NDArray[np.int64], hours: int, correlation: float, random: np.random.Generator) -> Floats:
    """Unit variance, as `rows`: half of a run's own, half of the hour's."""
    own = _series((rows.shape[0], rows.shape[1]), correlation, random)
    return np.asarray(np.sqrt(0.5) * (own + _series((1, hours), correlation, random)[0][rows]))


def _power(site: Site, hours: Times, ghi: Floats, air: Floats, random: np.random.Generator) -> Floats:
    middle = pd.DatetimeIndex(hours + HOUR // 2, tz="UTC")
    sun = pvlib.solarposition.get_solarposition(middle, site.latitude, site.longitude, method="nrel_numpy")
    zenith, azimuth = sun["apparent_zenith"].to_numpy(), sun["azimuth"].to_numpy()
    split = pvlib.irradiance.erbs(ghi, sun["zenith"].to_numpy(), middle)
    plane = pvlib.irradiance.get_total_irradiance(
        site.surface_tilt, site.surface_azimuth, zenith, azimuth, np.asarray(split["dni"]), ghi,
        np.asarray(split["dhi"]), dni_extra=pvlib.irradiance.get_extra_radiation(middle).to_numpy(),
        albedo=float(random.uniform(0.12, 0.3)), model="haydavies",
    )  # fmt: skip
    poa = np.nan_to_num(np.asarray(plane["poa_global"]))
    cell = pvlib.temperature.faiman(poa, air, float(random.uniform(1.0, 3.5)))
    ratio = float(random.uniform(1.05, 1.35))
    days = len(hours) // 24
    dust = 1.0 - 0.015 * np.abs(np.repeat(_walk(days, 0.95, random), 24))
    ageing = 1.0 - float(random.uniform(0.002, 0.009)) * np.arange(len(hours)) / 8_766.0
    noise = np.exp(random.normal(0.0, float(random.uniform(0.01, 0.03)), len(hours)))
    dc = pvlib.pvsystem.pvwatts_dc(poa, cell, ratio, -float(random.uniform(0.003, 0.0045)))
    dc = dc * float(random.uniform(0.82, 0.97)) * dust * ageing * noise
    ac = pvlib.inverter.pvwatts(dc, 1.0 / 0.96, eta_inv_nom=0.96)
    made = np.where(sun["elevation"].to_numpy() > 0.0, np.clip(np.nan_to_num(ac), 0.0, 1.0), 0.0)
    return np.asarray(np.round(made * site.ac_capacity_kw, 3))


def _walk(n: int, correlation: float, random: np.random.Generator) -> Floats:
    """A stationary AR(1) series by day, unit variance."""
    return _series((1, n), correlation, random)[0]


def _hourly(n: int, random: np.random.Generator) -> Floats:
    return _series((1, n), 0.7, random)[0]


def _series(shape: tuple[int, int], correlation: float, random: np.random.Generator) -> Floats:
    """AR(1) along the second axis, unit variance."""
    shocks = random.normal(0.0, 1.0, shape)
    series = np.empty(shape)
    series[:, 0] = shocks[:, 0]
    keep, new = correlation, np.sqrt(1.0 - correlation**2)
    for at in range(1, shape[1]):
        series[:, at] = keep * series[:, at - 1] + new * shocks[:, at]
    return series
