"""Weather runs with errors like those of forecasts, put on observed weather; simulated parks under it. All synthetic.

**Errors**: the clear-sky index of each run is multiplied by exp(e), where e is an AR(1) series over the lead with
correlation `AR` an hour and a standard deviation that grows from `SD_FIRST` at the first hour to `SD_LAST` at the
48th: lasting errors of cloud cover that a later run, or the sky itself, corrects. GHI stays within 0 and 1.1 times
clear sky. Seeded by run.

**Simulated parks**: the clear-sky index and temperature of real days, drawn anew for each park in blocks of
`BLOCK_DAYS` days from the same season of either year (parks under one real sky would all share the luck of one year);
pvlib's own transposition (isotropic sky), cell temperature (Faiman) and PVWatts on perturbed tilt, azimuth and
capacity, with a loss factor of the park, local clouds (AR(1) in the clear-sky index) and noise by hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pvlib

from pvforecast import features
from pvforecast.features import FeatureSpec
from pvforecast.known import HOUR, Floats, History, ParkRecord, Times, WeatherRun
from pvforecast.site import Site

AR = 0.9
SD_FIRST, SD_LAST, LAST_LEAD = 0.10, 0.40, 48
BLOCK_DAYS, SEASON_DAYS = 10, 20
_CEILING = 1.1
_DARK = 10.0  # W/m² of clear-sky GHI, below which an index means nothing


def with_errors(record: ParkRecord, seed: int = 2013) -> ParkRecord:
    """The record with forecast-like errors in the GHI of every run."""
    hours, clear = _clear_sky(record)
    runs = tuple(_disturbed(run, hours, clear, seed) for run in record.runs)
    return replace(record, runs=runs)


def simulated_parks(
    record: ParkRecord, count: int, since: np.datetime64, until: np.datetime64, seed: int = 7
) -> dict[str, ParkRecord]:
    """Parks under the observed weather of `record`, a run each midnight; each with own clouds, losses and errors."""
    index, warmth = _sky(record, since, until)
    parks = {}
    for number in range(count):
        random = np.random.default_rng([seed, number])
        site = _site(record.site, number, random)
        hours, clear = _clear_sky(replace(record, site=site), since, until)
        drawn = _drawn_days(len(hours), random)
        ghi = np.clip(index[drawn] * clear, 0.0, _CEILING * clear)
        local = np.exp(_ar1(len(hours), 0.7, random) * 0.08)
        truth = np.where(clear > _DARK, np.clip(ghi * local, 0.0, _CEILING * clear), ghi)
        air = warmth[drawn]
        power = _pvlib_power(site, hours, truth, air) * site.ac_capacity_kw
        power *= random.uniform(0.8, 1.0) * np.exp(random.normal(0.0, 0.04, len(hours)))
        runs = _runs(record, hours, {"ghi": ghi, "temp_air": air})
        known = ParkRecord(site, runs, hours, hours + HOUR, np.clip(power, 0.0, site.ac_capacity_kw))
        parks[site.park_id] = with_errors(known, seed + number)
    return parks


def _disturbed(run: WeatherRun, hours: Times, clear: Floats, seed: int) -> WeatherRun:
    start = int(run.run_at.astype("datetime64[s]").astype(np.int64))
    random = np.random.default_rng([seed, start // 3600])
    lead = np.maximum((run.valid_at - run.run_at) / HOUR, 0.0)
    deviation = SD_FIRST + (SD_LAST - SD_FIRST) * np.clip(lead / LAST_LEAD, 0.0, 1.0)
    sky = clear[np.clip(np.searchsorted(hours, run.valid_at), 0, len(hours) - 1)]
    ghi = run.variables["ghi"]
    disturbed = np.clip(ghi * np.exp(deviation * _ar1(len(ghi), AR, random)), 0.0, np.maximum(_CEILING * sky, ghi))
    # Free columns stay out: what NSRDB saw of the clouds within the hour would tell the GHI that was.
    kept = {name: values for name, values in run.variables.items() if not name.startswith("x_")}
    return replace(run, source=f"{run.source}+errors", variables={**kept, "ghi": np.where(sky > _DARK, disturbed, ghi)})


def _ar1(n: int, correlation: float, random: np.random.Generator) -> Floats:
    """A stationary AR(1) series of unit variance."""
    shocks = random.normal(0.0, 1.0, n)
    series = np.empty(n)
    last = shocks[0]
    series[0] = last
    for at in range(1, n):
        last = correlation * last + np.sqrt(1.0 - correlation**2) * shocks[at]
        series[at] = last
    return series


def _clear_sky(
    record: ParkRecord, since: np.datetime64 | None = None, until: np.datetime64 | None = None
) -> tuple[Times, Floats]:
    """Hours that cover all runs, and clear-sky GHI in each."""
    first = min(run.valid_at[0] for run in record.runs) if since is None else since
    last = max(run.valid_at[-1] for run in record.runs) + HOUR if until is None else until
    hours = features.horizon(first, int((last - first) / HOUR))
    nothing = History(hours[:0], np.zeros(0))
    columns = features.build(FeatureSpec(("ghi_clear",)), record.site, None, nothing, hours[0], hours)
    return hours, columns[:, 0].astype(np.float64)


def _observed(record: ParkRecord, since: np.datetime64, until: np.datetime64) -> tuple[Times, Floats, Floats]:
    """Hours, GHI and air temperature of the observed weather: the first day of each pseudo-run."""
    parts = [
        (run.valid_at[:24], run.variables["ghi"][:24], run.variables["temp_air"][:24])
        for run in record.runs
        if since - 24 * HOUR <= run.run_at < until
    ]
    hours, ghi, air = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    _, first = np.unique(hours, return_index=True)
    return hours[first], np.nan_to_num(ghi[first]), np.nan_to_num(air[first], nan=10.0)


def _sky(record: ParkRecord, since: np.datetime64, until: np.datetime64) -> tuple[Floats, Floats]:
    """Observed clear-sky index (1 where it is dark) and air temperature of each hour."""
    times, ghi, air = _observed(record, since, until)
    hours, clear = _clear_sky(record, since, until)
    seen = np.interp(hours.astype(float), times.astype(float), ghi)
    index = np.where(clear > _DARK, seen / np.maximum(clear, _DARK), 1.0)
    return np.clip(index, 0.0, _CEILING), np.interp(hours.astype(float), times.astype(float), air)


def _drawn_days(hours: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which hour each hour takes its sky from: blocks of days from the same season of either year. Shape [hours]."""
    days = hours // 24
    source = np.empty(days, np.int64)
    for begin in range(0, days, BLOCK_DAYS):
        length = min(BLOCK_DAYS, days - begin)
        near = begin % 365 + 365 * random.integers(0, max(days // 365, 1)) + random.integers(-SEASON_DAYS, SEASON_DAYS)
        first = int(np.clip(near, 0, days - length))
        source[begin : begin + length] = np.arange(first, first + length)
    whole = (source[:, None] * 24 + np.arange(24)).reshape(-1)
    return np.concatenate([whole, np.arange(len(whole), hours)])


def _runs(record: ParkRecord, hours: Times, truth: Mapping[str, Floats]) -> tuple[WeatherRun, ...]:
    issues = [run.run_at for run in record.runs if hours[0] <= run.run_at < hours[-1] - 48 * HOUR]
    runs = []
    for issue in issues:
        at = int((issue - hours[0]) / HOUR)
        span = slice(at, at + 48)
        runs.append(
            WeatherRun("simulated", issue, issue, hours[span], {name: values[span] for name, values in truth.items()})
        )
    return tuple(runs)


def _site(site: Site, number: int, random: np.random.Generator) -> Site:
    return replace(
        site,
        park_id=f"simulated-{number:02d}",
        latitude=site.latitude + float(random.uniform(-0.5, 0.5)),
        longitude=site.longitude + float(random.uniform(-0.5, 0.5)),
        surface_tilt=float(random.uniform(5, 50)),
        surface_azimuth=float(random.uniform(110, 250)),
        ac_capacity_kw=float(random.uniform(5, 500)),
        arrays=(),
    )


def _pvlib_power(site: Site, hours: Times, ghi: Floats, air: Floats) -> Floats:
    """Power as a fraction of AC capacity by pvlib alone, DC/AC ratio 1.2. Shape [n]."""
    middle = pd.DatetimeIndex(hours + HOUR // 2).tz_localize("UTC")
    sun = pvlib.solarposition.get_solarposition(middle, site.latitude, site.longitude, altitude=site.elevation_m)
    split = pvlib.irradiance.erbs(ghi, sun["zenith"].to_numpy(), middle)
    plane = pvlib.irradiance.get_total_irradiance(
        site.surface_tilt, site.surface_azimuth, sun["zenith"].to_numpy(), sun["azimuth"].to_numpy(),
        np.asarray(split["dni"]), ghi, np.asarray(split["dhi"]), model="isotropic",
    )  # fmt: skip
    irradiance = np.nan_to_num(np.asarray(plane["poa_global"]))
    cell = pvlib.temperature.faiman(irradiance, air, 2.0)
    dc = pvlib.pvsystem.pvwatts_dc(irradiance, cell, 1.2, -0.004)
    power: Floats = np.where(sun["elevation"].to_numpy() > 0, np.clip(np.asarray(dc) * 0.95, 0.0, 1.0), 0.0)
    return power
