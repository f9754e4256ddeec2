"""Speed of the feature code: `make bench NAME=features`.

One request of 48 hours, and a day-ahead issue each day of two years for one park; the baseline in the same run is the
sun position alone as pvlib gives it on a pandas index.
"""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pvlib

from pvforecast import features as fx
from pvforecast.known import HOUR, History, WeatherRun
from pvforecast.sources.pvdaq_samples import PARKS

DAYS = 730
HOURS = 48


def main() -> None:
    """Time `features.build` warm and cold."""
    site = PARKS[0].site()
    random = np.random.default_rng(0)
    issues = np.datetime64("2012-01-01T07:00:00", "s") + np.arange(DAYS) * 24 * HOUR

    def build(issued_at: np.datetime64) -> None:
        hours = fx.horizon(issued_at, HOURS)
        ghi = 900 * fx.clear_sky_power(site, hours) * random.uniform(0.2, 1, HOURS)
        run = WeatherRun("benchmark", issued_at, issued_at, hours, {"ghi": ghi, "temp_air": np.full(HOURS, 12.0)})
        past = issued_at - np.arange(360, 0, -1) * HOUR
        history = History(past, site.ac_capacity_kw * fx.clear_sky_power(site, past))
        fx.build(fx.DEFAULT_SPEC, site, run, history, issued_at, hours)

    begun = time.perf_counter()
    for issued_at in issues:
        build(issued_at)
    cold = (time.perf_counter() - begun) / DAYS
    begun = time.perf_counter()
    for issued_at in issues:
        build(issued_at)
    warm = (time.perf_counter() - begun) / DAYS
    index = pd.DatetimeIndex(fx.horizon(issues[0], HOURS)).tz_localize("UTC")
    begun = time.perf_counter()
    for _ in range(20):
        pvlib.solarposition.get_solarposition(index, site.latitude, site.longitude)
    baseline = (time.perf_counter() - begun) / 20
    result = {
        "request_ms": round(warm * 1e3, 3),
        "request_first_time_of_day_ms": round(cold * 1e3, 3),
        "pvlib_sun_position_alone_ms": round(baseline * 1e3, 3),
        "ratio_to_baseline": round(warm / baseline, 3),
        "rows_per_second": round(HOURS / warm),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
