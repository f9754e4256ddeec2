"""Clean parks of several climates and latitudes, simulated by pvlib with its own parameters, and labelled wrongly.

Nothing here comes from our feature code: sky, transposition, modules and inverter are pvlib's (Ineichen with the site's
turbidity, Perez, CEC-like PVWatts), so that the finder does not recognise its own model.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pvlib
import pytest

from pvforecast.clock import ClockReport, find_faults
from pvforecast.site import Plane, Site

#                                lat      lon    elev  tilt  azim   kW   zone                 turbidity
PLACES = {
    "oslo": (Site("oslo", 59.9, 10.75, 20.0, 40.0, 180.0, 100.0, "Europe/Oslo"), 3.0),
    "seville": (Site("seville", 37.4, -6.0, 10.0, 30.0, 180.0, 500.0, "Europe/Madrid"), 3.8),
    "nairobi": (Site("nairobi", -1.3, 36.8, 1700.0, 10.0, 0.0, 50.0, "Africa/Nairobi"), 3.5),
    "cape-town": (Site("cape-town", -33.9, 18.4, 30.0, 25.0, 340.0, 80.0, "Africa/Johannesburg"), 2.8),
    "west-roof": (Site("west-roof", 48.1, 11.6, 520.0, 30.0, 240.0, 10.0, "Europe/Berlin"), 3.2),
    "two-roofs": (
        Site("two-roofs", 51.5, 0.0, 20.0, 20.0, 90.0, 12.0, "Europe/London",
             (Plane(20, 90, 0.5), Plane(20, 270, 0.5))),
        3.3,
    ),
}  # fmt: skip
everywhere = pytest.mark.parametrize("place", PLACES)


@cache
def power(place: str, begin: str = "2019-04-20", days: int = 45) -> pd.Series:
    """5-minute kW in true UTC, made 15-minute means labelled by their start."""
    site, turbidity = PLACES[place]
    times = pd.date_range(begin, periods=days * 288, freq="5min", tz="UTC")
    middle = times + pd.Timedelta(seconds=150)
    location = pvlib.location.Location(site.latitude, site.longitude, altitude=site.elevation_m)
    sun = location.get_solarposition(middle)
    sky = location.get_clearsky(middle, solar_position=sun, linke_turbidity=turbidity)
    extra, mass = pvlib.irradiance.get_extra_radiation(middle), location.get_airmass(middle, sun).airmass_relative
    total = np.zeros(len(times))
    for plane in site.planes:
        poa = pvlib.irradiance.get_total_irradiance(
            plane.surface_tilt, plane.surface_azimuth, sun.apparent_zenith, sun.azimuth, sky.dni, sky.ghi, sky.dhi,
            dni_extra=extra, airmass=mass, model="perez",
        ).poa_global.fillna(0.0)  # fmt: skip
        cell = pvlib.temperature.sapm_cell(poa, 15.0, 2.0, -3.47, -0.0594, 3)
        total += plane.share * pvlib.pvsystem.pvwatts_dc(poa, cell, site.ac_capacity_kw * 1.15, -0.0035).to_numpy()
    made = pvlib.inverter.pvwatts(total, site.ac_capacity_kw / 0.96)
    random = np.random.default_rng(11)
    day = np.repeat(random.choice([1.0, 1.0, 0.75, 0.4], days), 288)
    cloud = np.repeat(random.uniform(0.85, 1.0, days * 24), 12)
    return pd.Series(made * np.where(day < 1.0, day * cloud, 1.0), index=times).resample("15min").mean()


def labelled(place: str, minutes: int, period: str = "15min") -> pd.Series:
    series = power(place).resample(period).mean()
    series.index = series.index + pd.Timedelta(minutes=minutes)
    return series


def found(place: str, series: pd.Series) -> ClockReport:
    return find_faults(series, PLACES[place][0])


@everywhere
@pytest.mark.parametrize("period", ["15min", "1h"])
def test_a_clean_park_is_not_accused(place: str, period: str) -> None:
    report = found(place, labelled(place, 0, period))
    assert (report.corrected, report.suspected_minutes, report.azimuth_deg) == (False, 0, None)
    assert "in step" in report.sentence()


@everywhere
@pytest.mark.parametrize("minutes", [60, 30, -60, -30])
def test_a_park_that_is_shifted_is_named_with_its_shift(place: str, minutes: int) -> None:
    report = found(place, labelled(place, minutes))
    assert f"{minutes:+d} min" in report.sentence()
    if (place, minutes) == ("west-roof", -30):  # a roof to the south-west looks like one to the west, half an hour late
        assert (report.offset_minutes, report.suspected_minutes, report.azimuth_deg) == (0, minutes, None), report
    else:
        assert report.offset_minutes == minutes, report


@everywhere
@pytest.mark.parametrize(("period", "minutes"), [("1h", 60), ("30min", 30)])
def test_labels_by_the_end_of_the_interval_are_named_as_such(place: str, period: str, minutes: int) -> None:
    report = found(place, labelled(place, minutes, period))
    assert report.offset_minutes == minutes, report
    assert f"labels by the end of their interval of {minutes} min" in report.sentence()


def test_quarter_hours_labelled_by_their_end_are_asked_about_and_left() -> None:
    report = found("seville", labelled("seville", 15))
    assert not report.corrected
    assert "labels by the end of the interval?" in report.sentence()


@pytest.mark.parametrize("place", ["oslo", "seville", "cape-town", "west-roof"])
@pytest.mark.parametrize("turned", [-40.0, 40.0])
def test_a_wrong_azimuth_is_not_taken_for_a_clock(place: str, turned: float) -> None:
    site, _ = PLACES[place]
    stated = Site(**{**site.as_dict(), "surface_azimuth": (site.surface_azimuth + turned) % 360.0, "arrays": ()})
    report = find_faults(labelled(place, 0), stated)
    assert not report.corrected, report
    assert report.azimuth_deg is not None or report.suspected_minutes, report
    assert "face" in report.sentence()


def test_local_time_labelled_as_utc_is_found() -> None:
    report = found("nairobi", labelled("nairobi", 180))
    assert report.offset_minutes == 180


def test_less_than_twenty_days_say_nothing() -> None:
    series = labelled("seville", 60)
    report = found("seville", series[series.index < series.index[0] + pd.Timedelta(days=15)])
    assert not report.corrected
    assert "20 are needed" in report.sentence()
