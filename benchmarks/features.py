"""Speed of the feature code: `make bench NAME=features`.

One request of 48 hours, a day-ahead issue each day of two years for one park, and the same for 75 parks on two cores
(2.6 million rows); the baseline in the same run is the sun position alone as pvlib gives it on a pandas index.
"""

from __future__ import annotations

import json
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pvlib

from pvforecast import features as fx
from pvforecast.known import HOUR, History, WeatherRun
from pvforecast.site import Site
from pvforecast.sources.pvdaq_samples import PARKS

DAYS = 730
HOURS = 48
FLEET = 75
SITE = PARKS[0].site()
ISSUES = np.datetime64("2012-01-01T07:00:00", "s") + np.arange(DAYS) * 24 * HOUR


def build(site: Site, issued_at: np.datetime64, random: np.random.Generator) -> int:
    """One issue time with weather and 15 days of history; returns the number of rows."""
    hours = fx.horizon(issued_at, HOURS)
    ghi = 900 * fx.clear_sky_power(site, hours) * random.uniform(0.2, 1, HOURS)
    run = WeatherRun("benchmark", issued_at, issued_at, hours, {"ghi": ghi, "temp_air": np.full(HOURS, 12.0)})
    past = issued_at - np.arange(360, 0, -1) * HOUR
    history = History(past, site.ac_capacity_kw * fx.clear_sky_power(site, past))
    return len(fx.build(fx.DEFAULT_SPEC, site, run, history, issued_at, hours))


def of_park(number: int) -> tuple[int, float]:
    """All rows of one park of the fleet, and the peak memory of the process, GiB."""
    site = replace(SITE, park_id=f"park-{number}", latitude=SITE.latitude + 0.01 * number)
    random = np.random.default_rng(number)
    rows = sum(build(site, issued_at, random) for issued_at in ISSUES)
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Time `features.build` warm and cold, and for a fleet."""
    random = np.random.default_rng(0)
    begun = time.perf_counter()
    for issued_at in ISSUES:
        build(SITE, issued_at, random)
    cold = (time.perf_counter() - begun) / DAYS
    begun = time.perf_counter()
    for issued_at in ISSUES:
        build(SITE, issued_at, random)
    warm = (time.perf_counter() - begun) / DAYS
    index = pd.DatetimeIndex(fx.horizon(ISSUES[0], HOURS)).tz_localize("UTC")
    begun = time.perf_counter()
    for _ in range(20):
        pvlib.solarposition.get_solarposition(index, SITE.latitude, SITE.longitude)
    baseline = (time.perf_counter() - begun) / 20
    begun = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        parks = list(pool.map(of_park, range(FLEET)))
    fleet = time.perf_counter() - begun
    result = {
        "request_ms": round(warm * 1e3, 3),
        "request_first_time_of_day_ms": round(cold * 1e3, 3),
        "pvlib_sun_position_alone_ms": round(baseline * 1e3, 3),
        "ratio_to_baseline": round(warm / baseline, 3),
        "rows_per_second": round(HOURS / warm),
        "fleet_rows": sum(rows for rows, _ in parks),
        "fleet_seconds": round(fleet, 1),
        "fleet_peak_gib_of_a_process": round(max(peak for _, peak in parks), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
