"""Features against pvlib's high-level functions, against what was known, and against each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pvlib
import pytest

from pvforecast import features as fx
from pvforecast.features import DEFAULT_SPEC, FIRST_SPEC, FeatureSpec, with_extra
from pvforecast.features.snow import lies
from pvforecast.features.spec import RECENT, SNOW, WEATHER, extra_of, from_weather
from pvforecast.features.sun import _block
from pvforecast.known import HOUR, History, ParkRecord, Past, WeatherRun
from pvforecast.site import Site
from tests.bundles import NOW, record
from tests.bundles import site as golden

SITES = (
    golden("golden"),
    Site("sydney", -33.87, 151.21, 40.0, 25.0, 0.0, 100.0, "Australia/Sydney"),
    Site("quito", -0.18, -78.47, 2850.0, 5.0, 90.0, 100.0, "America/Guayaquil"),
    Site("tromso", 69.65, 18.96, 10.0, 60.0, 200.0, 100.0, "Europe/Oslo"),
    Site("pole", -90.0, 0.0, 2835.0, 90.0, 0.0, 10.0, "Antarctica/South_Pole"),
)
DAYS = (
    "2013-03-20", "2013-06-21", "2013-12-21",
    "2012-02-29", "2012-12-31",  # a leap year
    "2013-03-10", "2013-11-03", "2013-03-31", "2013-10-06",  # clocks change in Denver, Oslo, Sydney
)  # fmt: skip
NO_HISTORY = History(np.zeros(0, "datetime64[s]"), np.zeros(0))
everywhere = pytest.mark.parametrize("site", SITES, ids=lambda site: site.park_id)


def day(text: str, hours: int = 24) -> np.ndarray:
    return np.datetime64(text, "s") + np.arange(hours) * HOUR


def weather(hours: np.ndarray, seed: int = 3, **given: np.ndarray) -> WeatherRun:
    """Daylike weather of every kind that covers `hours` and the neighbours of its ends."""
    rng = np.random.default_rng(seed)
    wide = np.arange(hours[0] - 2 * HOUR, hours[-1] + 3 * HOUR, HOUR)
    n = len(wide)
    columns = {"ghi": rng.uniform(0, 900, n), "dni": rng.uniform(0, 800, n), "dhi": rng.uniform(0, 300, n)}
    columns |= {"temp_air": rng.uniform(-10, 35, n), "wind_speed": rng.uniform(0, 12, n), "cloud_cover": rng.random(n)}
    return WeatherRun("nwp", hours[0], hours[0], wide, {**columns, **given})


def built(site: Site, hours: np.ndarray, run: WeatherRun | None = None, history: History = NO_HISTORY, *names: str):
    """The named features (all of the first spec by default) as columns; the sun stands at the middle of the hour."""
    spec = FeatureSpec(names, 1) if names else FIRST_SPEC
    rows = fx.build(spec, site, run, history, hours[0], hours)
    return {name: rows[:, i].astype(float) for i, name in enumerate(spec.names)}


def sun(site: Site, hours: np.ndarray) -> pd.DataFrame:
    """pvlib's own sun, half an hour after each label."""
    middle = pd.DatetimeIndex(hours).tz_localize("UTC") + pd.Timedelta(minutes=30)
    pressure = pvlib.atmosphere.alt2pres(site.elevation_m)
    return pvlib.solarposition.get_solarposition(
        middle, site.latitude, site.longitude, altitude=site.elevation_m, pressure=pressure, method="nrel_numpy"
    )


# --- physics, with pvlib as the independent source -------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("date", DAYS)
def test_the_sun_is_where_pvlib_sees_it_in_the_middle_of_the_hour(site: Site, date: str) -> None:
    ours, theirs = built(site, day(date)), sun(site, day(date))
    np.testing.assert_allclose(ours["sun_elevation"], theirs.elevation, atol=2e-4)
    turn = (ours["sun_azimuth"] - theirs.azimuth.to_numpy() + 180) % 360 - 180
    np.testing.assert_allclose(turn, 0, atol=2e-3)
    aoi = pvlib.irradiance.aoi(site.surface_tilt, site.surface_azimuth, theirs.apparent_zenith, theirs.azimuth)
    np.testing.assert_allclose(ours["cos_aoi"], np.cos(np.radians(aoi)), atol=1e-5)
    np.testing.assert_array_equal(fx.daylight(site, day(date)), theirs.elevation > 0)


@everywhere
@pytest.mark.parametrize("date", DAYS)
def test_the_clear_sky_is_pvlibs_simplified_solis(site: Site, date: str) -> None:
    hours = day(date)
    theirs = sun(site, hours)
    place = pvlib.location.Location(site.latitude, site.longitude, "UTC", site.elevation_m)
    clear = place.get_clearsky(
        theirs.index, model="simplified_solis", solar_position=theirs, aod700=0.1, precipitable_water=1.0
    )
    ours = built(site, hours)
    np.testing.assert_allclose(ours["ghi_clear"], clear.ghi, rtol=1e-5, atol=1e-3)
    poa = transposed(site, theirs, clear.ghi, clear.dni, clear.dhi)
    np.testing.assert_allclose(ours["poa_clear"], poa, rtol=1e-5, atol=1e-3)


@everywhere
@pytest.mark.parametrize("date", DAYS)
def test_plane_of_array_irradiance_is_pvlibs_hay_davies(site: Site, date: str) -> None:
    hours = day(date)
    run = weather(hours)
    ghi, dni, dhi = (run.variables[name][2:-2] for name in ("ghi", "dni", "dhi"))
    expected = transposed(site, sun(site, hours), ghi, dni, dhi)
    assert expected.max() > 50 or site.park_id in ("tromso", "pole")
    np.testing.assert_allclose(built(site, hours, run)["poa"], expected, rtol=1e-5, atol=1e-3)


def transposed(site: Site, position: pd.DataFrame, ghi: object, dni: object, dhi: object) -> np.ndarray:
    """pvlib's get_total_irradiance; nothing below the horizon, at most 1,800 W/m²."""
    extra = pvlib.irradiance.get_extra_radiation(position.index.dayofyear.to_numpy(float))
    total = pvlib.irradiance.get_total_irradiance(
        site.surface_tilt, site.surface_azimuth, position.apparent_zenith.to_numpy(), position.azimuth.to_numpy(),
        np.asarray(dni), np.asarray(ghi), np.asarray(dhi), dni_extra=extra, albedo=0.2, model="haydavies",
    )  # fmt: skip
    return np.where(position.elevation > 0, np.clip(total["poa_global"], 0, 1800), 0.0)


def test_ghi_alone_is_split_by_erbs() -> None:
    site, hours = SITES[0], day("2013-06-21")
    ghi = weather(hours).variables["ghi"]
    nothing = np.full(len(ghi), np.nan)
    ours = built(site, hours, weather(hours, dni=nothing, dhi=nothing))
    split = pvlib.irradiance.erbs(ghi[2:-2], sun(site, hours).zenith.to_numpy(), sun(site, hours).index)
    for name in ("dni", "dhi"):
        np.testing.assert_allclose(ours[name], split[name], rtol=1e-5, atol=1e-4)
    half = built(site, hours, weather(hours, dni=nothing))  # one of the two is not enough
    np.testing.assert_array_equal(half["dhi"], ours["dhi"])


@pytest.mark.parametrize(("missing", "air", "wind"), [((), None, None), (("temp_air", "wind_speed"), 20.0, 1.0)])
def test_the_physical_model_is_pvlibs_faiman_and_pvwatts(
    missing: tuple[str, ...], air: float | None, wind: float | None
) -> None:
    site, hours = SITES[0], day("2013-06-21")
    run = weather(hours)
    for name in missing:
        run.variables[name][:] = np.nan  # type: ignore[index]
    ours = built(site, hours, run)
    air = run.variables["temp_air"][2:-2] if air is None else air
    wind = run.variables["wind_speed"][2:-2] if wind is None else wind
    cell = pvlib.temperature.faiman(ours["poa"], air, wind, u0=25.0, u1=6.84)
    dc = pvlib.pvsystem.pvwatts_dc(ours["poa"], cell, pdc0=1.2, gamma_pdc=-0.004)
    np.testing.assert_allclose(ours["temp_cell"], cell, rtol=1e-5)
    np.testing.assert_allclose(ours["physical_power"], np.clip(dc * 0.86, 0, 1), atol=1e-5)
    assert 0 < ours["physical_power"].max() <= 1


def test_the_clear_sky_index_is_forecast_over_clear_ghi_by_day_only() -> None:
    site, hours = SITES[0], day("2013-06-21")
    run = weather(hours)
    ours = built(site, hours, run)
    by_day = ours["ghi_clear"] > 10
    expected = np.clip(run.variables["ghi"][2:-2][by_day] / ours["ghi_clear"][by_day], 0, 2)
    np.testing.assert_allclose(ours["clear_sky_index"][by_day], expected, rtol=1e-5)
    assert np.isnan(ours["clear_sky_index"][~by_day]).all()
    assert 0 < by_day.sum() < 24


def test_neighbours_are_the_same_runs_values_before_and_after() -> None:
    site, hours = SITES[0], day("2013-06-21")
    run = weather(hours)
    ours = built(site, hours, run)
    for step in (-2, -1, 1, 2):
        np.testing.assert_allclose(ours[f"ghi_{step:+d}h"], run.variables["ghi"][2 + step : 26 + step], rtol=1e-6)
        np.testing.assert_array_equal(
            ours[f"physical_power_{step:+d}h"][2:-2], ours["physical_power"][2 + step : 22 + step]
        )


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issued_at", "first"),
    [
        ("2013-06-01T06:00:00", "2013-06-01T06:00:00"),
        ("2013-06-01T06:00:01", "2013-06-01T07:00:00"),
        ("2013-06-01T06:59:59", "2013-06-01T07:00:00"),
        ("2012-12-31T23:30:00", "2013-01-01T00:00:00"),
    ],
)
def test_the_horizon_begins_with_the_first_whole_hour(issued_at: str, first: str) -> None:
    hours = fx.horizon(np.datetime64(issued_at, "s"), 48)
    assert hours[0] == np.datetime64(first)
    assert (len(hours), set(np.diff(hours))) == (48, {HOUR})
    assert hours.dtype == "datetime64[s]"


def test_the_calendar_is_that_of_the_middle_of_the_hour() -> None:
    hours = np.datetime64("2012-12-31T00:00:00", "s") + np.arange(48) * HOUR
    middle = pd.DatetimeIndex(hours) + pd.Timedelta(minutes=30)
    ours = built(SITES[0], hours)
    angle = 2 * np.pi * (middle.hour + 0.5) / 24
    year = 2 * np.pi * middle.dayofyear / 365.25
    assert middle.dayofyear[0] == 366
    for name, expected in (("hour", angle), ("day_of_year", year)):
        np.testing.assert_allclose(ours[f"{name}_sin"], np.sin(expected), atol=1e-6)
        np.testing.assert_allclose(ours[f"{name}_cos"], np.cos(expected), atol=1e-6)


def test_lead_counts_from_the_issue_to_the_start_of_the_hour() -> None:
    issued_at = np.datetime64("2013-06-01T05:40:00", "s")
    rows = fx.build(FeatureSpec(("lead_hours",)), SITES[0], None, NO_HISTORY, issued_at, fx.horizon(issued_at, 3))
    np.testing.assert_allclose(rows[:, 0], [1 / 3, 4 / 3, 7 / 3], rtol=1e-6)


@everywhere
@pytest.mark.parametrize("date", DAYS)
def test_every_day_everywhere_gives_finite_features(site: Site, date: str) -> None:
    hours = day(date, 48)
    past = np.datetime64(date, "s") - np.arange(15 * 24, 0, -1) * HOUR
    history = History(past, fx.clear_sky_power(site, past) * site.ac_capacity_kw)
    ours = built(site, hours, weather(hours), history)
    dark = ours["ghi_clear"] <= 10
    gone = {name for name, values in ours.items() if not np.isfinite(values[~dark]).all()}
    # Where the sun did not rise in the last hours, nothing is known of output relative to clear sky.
    assert gone <= {"relative_1h", "relative_3h", "relative_24h"}
    assert {name for name in ours if not np.isfinite(ours[name]).all()} <= gone | {
        "clear_sky_index",
        "relative_1h",
        "relative_3h",
        "relative_24h",
    }


def test_polar_night_is_dark_and_polar_day_is_not() -> None:
    tromso = SITES[3]
    assert not fx.daylight(tromso, day("2013-12-21")).any()
    assert fx.daylight(tromso, day("2013-06-21")).all()
    np.testing.assert_array_equal(fx.clear_sky_power(tromso, day("2013-12-21")), 0)
    night = built(tromso, day("2013-12-21"), weather(day("2013-12-21")))
    np.testing.assert_array_equal(night["physical_power"], 0)


def test_no_hours_have_no_sun() -> None:
    nothing = np.zeros(0, "datetime64[s]")
    assert fx.clear_sky_power(SITES[0], nothing).shape == fx.daylight(SITES[0], nothing).shape == (0,)


def test_seasons_are_opposite_south_of_the_equator() -> None:
    june, december = (fx.clear_sky_power(SITES[1], day(date)).sum() for date in ("2013-06-21", "2013-12-21"))
    assert december > 1.2 * june


# --- the second version: the sun at the middle of the sunlit part ---------------------------------------------------


@everywhere
@pytest.mark.parametrize("date", DAYS[:3])
def test_the_sun_stands_at_the_middle_of_the_sunlit_part_of_the_hour(site: Site, date: str) -> None:
    """Against pvlib, minute by minute."""
    hours = day(date)
    minutes = pd.DatetimeIndex(hours[0] + np.arange(24 * 60) * np.timedelta64(60, "s")).tz_localize("UTC")
    pressure = pvlib.atmosphere.alt2pres(site.elevation_m)
    where = pvlib.solarposition.get_solarposition(
        minutes, site.latitude, site.longitude, altitude=site.elevation_m, pressure=pressure, method="nrel_numpy"
    )
    elevation = where.elevation.to_numpy().reshape(24, 60)
    up = elevation > 0
    at = np.where(up.any(axis=1), (up * np.arange(60)).sum(axis=1) / np.maximum(up.sum(axis=1), 1), 29.5)
    expected = np.array([np.interp(minute, range(60), e) for minute, e in zip(at, elevation, strict=True)])
    rows = fx.build(FeatureSpec(("sun_elevation", "sunlit_fraction")), site, None, NO_HISTORY, hours[0], hours)
    np.testing.assert_allclose(rows[:, 0], expected, atol=0.3)
    np.testing.assert_allclose(rows[:, 1], up.mean(axis=1), atol=0.04)
    np.testing.assert_array_equal(rows[:, 1] > 0.5, fx.daylight(site, hours))


def test_an_hour_with_a_sunrise_has_its_share_of_the_clear_sky() -> None:
    site, hours = SITES[0], day("2013-03-20", 48)
    names = ("ghi_clear", "poa_clear", "sunlit_fraction", "sun_elevation")
    rows = fx.build(FeatureSpec(names), site, None, NO_HISTORY, hours[0], hours)
    partly = (rows[:, 2] > 0) & (rows[:, 2] < 1)
    assert partly.sum() == 4  # two sunrises, two sunsets
    assert (rows[partly, 3] > 0).all()
    assert (rows[partly, 0] > 0).all()
    assert (rows[rows[:, 2] == 0][:, :2] == 0).all()


def test_dni_and_dhi_of_a_partly_sunlit_hour_add_up_to_its_ghi() -> None:
    site, hours = SITES[0], day("2013-03-20")
    nothing = np.full(28, np.nan)
    sky = fx.build(FeatureSpec(("ghi_clear",)), site, None, NO_HISTORY, hours[0], hours - 0 * HOUR)[:, 0]
    ghi = np.concatenate([[0, 0], 0.6 * sky, [0, 0]])
    names = ("ghi", "dni", "dhi", "sun_elevation", "sunlit_fraction")
    rows = fx.build(
        FeatureSpec(names), site, weather(hours, ghi=ghi, dni=nothing, dhi=nothing), NO_HISTORY, hours[0], hours
    ).astype(float)
    high = rows[:, 3] > 3
    total = rows[:, 1] * np.sin(np.radians(rows[:, 3])) + rows[:, 2]
    np.testing.assert_allclose(total[high], rows[high, 0], rtol=0.02)


# --- free weather columns --------------------------------------------------------------------------------------------


def test_a_free_column_is_a_feature_with_its_neighbours() -> None:
    site, hours = SITES[0], day("2013-06-21")
    haze = np.arange(28.0)
    spec = with_extra(["x_haze", "x_dust_10m"])
    assert [extra_of(name) for name in spec.names[-3:]] == [("x_haze", 0), ("x_haze", -1), ("x_haze", 1)]
    rows = fx.build(spec, site, weather(hours, x_haze=haze), NO_HISTORY, hours[0], hours)
    np.testing.assert_array_equal(rows[:, -3:], np.stack([haze[2:26], haze[1:25], haze[3:27]], axis=1))
    assert np.isnan(rows[:, -6:-3]).all()  # this run has no dust


@pytest.mark.parametrize("name", ["x", "haze", "ghi_+1h", "lead_hours"])
def test_other_names_are_no_free_columns(name: str) -> None:
    assert extra_of(name) is None


# --- quarter hours ---------------------------------------------------------------------------------------------------

QUARTER = np.timedelta64(900, "s")


def test_quarter_hours_of_hourly_weather_follow_the_sun_and_keep_the_hours_mean() -> None:
    hourly = SITES[0]
    site = replace(hourly, resolution="PT15M")
    hours = day("2013-06-21")
    sky = fx.build(FeatureSpec(("ghi_clear",)), hourly, None, NO_HISTORY, hours[0], day("2013-06-20", 72))[:, 0]
    run = WeatherRun("nwp", hours[0], hours[0], day("2013-06-20", 72), {"ghi": 0.7 * sky.astype(float)})
    quarters = fx.horizon(hours[0], 24, QUARTER)
    assert len(quarters) == 96
    names = ("ghi", "ghi_clear", "physical_power", "sun_elevation")
    rows = fx.build(FeatureSpec(names), site, run, NO_HISTORY, hours[0], quarters).astype(float)
    bright = rows[:, 3] > 10
    np.testing.assert_allclose(rows[bright, 0] / rows[bright, 1], 0.7, atol=0.01)
    whole = fx.build(FeatureSpec(names), hourly, run, NO_HISTORY, hours[0], hours).astype(float)
    noon = whole[:, 3] > 20
    np.testing.assert_allclose(rows[:, 2].reshape(24, 4).mean(axis=1)[noon], whole[noon, 2], rtol=0.02)


def test_the_middle_of_a_quarter_hour_is_where_pvlib_sees_its_sun() -> None:
    site = replace(SITES[0], resolution="PT15M")
    quarters = fx.horizon(np.datetime64("2013-06-21T15:00:00", "s"), 4, QUARTER)
    rows = fx.build(FeatureSpec(("sun_elevation",)), site, None, NO_HISTORY, quarters[0], quarters)
    middle = pd.DatetimeIndex(quarters).tz_localize("UTC") + pd.Timedelta(minutes=7.5)
    theirs = pvlib.solarposition.get_solarposition(middle, site.latitude, site.longitude, altitude=site.elevation_m)
    np.testing.assert_allclose(rows[:, 0], theirs.elevation, atol=2e-3)


# --- history ---------------------------------------------------------------------------------------------------------


def test_lags_are_the_same_hour_of_earlier_days_as_a_fraction_of_capacity() -> None:
    site, issued_at = golden(ac_capacity_kw=2.0), np.datetime64("2013-06-20T06:00:00", "s")
    past = issued_at - np.arange(10 * 24, 0, -1) * HOUR
    back = ((issued_at - past).astype(int) + 86_399) // 86_400  # 1 for the 24 h before the issue
    rows = fx.build(FIRST_SPEC, site, None, History(past, 0.2 * back), issued_at, fx.horizon(issued_at, 96))
    lag = {name: rows[:, FIRST_SPEC.names.index(name)] for name in ("lag_1d", "lag_2d", "lag_7d")}
    mean = rows[:, FIRST_SPEC.names.index("mean_7d_same_hour")]

    def per_day(values: np.ndarray) -> list[float]:
        assert all(len(np.unique(part[~np.isnan(part)])) <= 1 for part in values.reshape(4, 24))
        return [round(float(part[0]), 4) for part in values.reshape(4, 24)]

    # day of lead:      1    2    3    4; `back` n has value 0.1 n, and beyond three days nothing stands in
    assert per_day(lag["lag_1d"])[:3] == [0.1, 0.1, 0.1]
    assert np.isnan(lag["lag_1d"][72:]).all()
    assert per_day(lag["lag_2d"]) == [0.2, 0.1, 0.1, 0.1]
    assert per_day(lag["lag_7d"]) == [0.7, 0.6, 0.5, 0.4]
    assert per_day(mean)[:2] == [0.5, 0.45]  # days 1-9 back, of which the first 24 h of lead know all


def test_recent_output_is_relative_to_clear_sky_over_the_hours_that_can_be_known() -> None:
    site, issued_at = golden(), np.datetime64("2013-06-20T20:00:00", "s")  # 14:00 in Golden
    past = issued_at - np.arange(48, 0, -1) * HOUR
    share = np.where(past >= issued_at - 2 * HOUR, 0.5, np.where(past >= issued_at - 4 * HOUR, 0.7, 0.9))
    clear = fx.clear_sky_power(site, past)
    rows = fx.build(
        DEFAULT_SPEC, site, None, History(past, share * clear * site.ac_capacity_kw), issued_at, day("2013-06-20")
    )
    relative = {n: float(rows[0, DEFAULT_SPEC.names.index(f"relative_{n}h")]) for n in (1, 3, 24)}
    assert relative[1] == pytest.approx(0.5)
    recent = past >= issued_at - 4 * HOUR
    assert relative[3] == pytest.approx(float((share * clear)[recent].sum() / clear[recent].sum()))
    assert 0.7 < relative[24] < 0.9


def test_performance_is_output_against_what_the_run_gave_for_the_same_hours() -> None:
    site, issued_at = golden(), np.datetime64("2013-06-20T20:00:00", "s")  # 14:00 in Golden
    run = weather(day("2013-06-20", 48))
    past = issued_at - np.arange(10, 0, -1) * HOUR
    made = fx.build(FeatureSpec(("physical_power",)), site, run, NO_HISTORY, issued_at, past)[:, 0].astype(float)
    share = np.where(past >= issued_at - 2 * HOUR, 0.5, 0.9)
    history = History(past, share * made * site.ac_capacity_kw)
    spec = FeatureSpec(("performance_1h", "performance_24h"))
    rows = fx.build(spec, site, run, history, issued_at, fx.horizon(issued_at, 4))
    np.testing.assert_allclose(rows[:, 0], 0.5, rtol=1e-5)
    assert 0.5 < rows[0, 1] < 0.9
    later = replace(run, valid_at=run.valid_at[22:], variables={n: v[22:] for n, v in run.variables.items()})
    begun = fx.build(spec, site, later, history, issued_at, fx.horizon(issued_at, 4))
    assert np.isnan(begun).all()  # a run that began only now says nothing of the hours before


def frosty(coldest: float = -3.0, warmest: float = 0.0, share: float = 0.1) -> tuple[Site, Past, np.datetime64]:
    """A day on which a park gave `share` of what physics makes of the weather, up to midnight."""
    site, issued_at = golden(), np.datetime64("2013-12-07T07:00:00", "s")  # midnight in Golden
    run = weather(day("2013-12-06T07:00:00", 24), temp_air=np.linspace(coldest, warmest, 28))
    times = run.valid_at[2:26]
    made = fx.build(FeatureSpec(("physical_power",)), site, run, NO_HISTORY, times[0], times)[:, 0].astype(float)
    return site, Past(run, History(times, share * made * site.ac_capacity_kw)), issued_at


def snow_features(site: Site, past: Past | None, issued_at: np.datetime64, temp_air: np.ndarray) -> np.ndarray:
    hours = issued_at + np.arange(24) * HOUR
    run = weather(hours, temp_air=np.concatenate([[50.0, 50.0], temp_air, [50.0, 50.0]]))
    return fx.build(FeatureSpec(SNOW), site, run, NO_HISTORY, issued_at, hours, past).astype(float)


def test_after_a_day_of_frost_its_output_against_physics_is_known() -> None:
    site, past, issued_at = frosty(share=0.1)
    rows = snow_features(site, past, issued_at, np.full(24, -2.0))
    np.testing.assert_allclose(rows[:, 0], 0.1, rtol=1e-5)
    older = replace(past, metered=History(past.metered.valid_at - 24 * HOUR, past.metered.power_kw))
    assert np.isnan(snow_features(site, older, issued_at, np.full(24, -2.0))[:, 0]).all()  # not of the last day


def test_the_warmest_hour_since_issue_only_rises() -> None:
    site, past, issued_at = frosty()
    temp_air = np.array([-5.0, -3.0, np.nan, -4.0, 2.0, -8.0, *np.full(18, -9.0)])
    warmest = snow_features(site, past, issued_at, temp_air)[:, 1]
    np.testing.assert_array_equal(warmest[:7], [-5.0, -3.0, -3.0, -3.0, 2.0, 2.0, 2.0])


def test_snow_lies_after_frost_and_next_to_no_power_until_it_thaws() -> None:
    cold_then_warm = np.array([*np.full(10, -5.0), *np.full(14, 6.0)])

    def lying(share: float, coldest: float = -3.0) -> list[bool]:
        site, past, issued_at = frosty(coldest, max(0.0, coldest), share)
        rows = snow_features(site, past, issued_at, cold_then_warm)
        return list(lies(rows.astype(np.float32), SNOW))

    assert lying(0.1) == [True] * 10 + [False] * 14
    assert not any(lying(0.6))  # it gave its power
    assert not any(lying(0.1, coldest=3.0))  # there was no frost: an outage, perhaps
    site, _, issued_at = frosty()
    assert not lies(snow_features(site, None, issued_at, cold_then_warm).astype(np.float32), SNOW).any()
    assert not lies(np.zeros((3, 1), np.float32), ("ghi",)).any()


def test_a_park_without_history_still_has_all_other_features() -> None:
    hours = day("2013-06-21")
    ours = built(SITES[0], hours, weather(hours))
    unknown = {name for name, values in ours.items() if np.isnan(values).all()}
    assert unknown == {name for name in ours if name.startswith(("lag_", "mean_7d", "relative_"))}


# --- nothing known only later ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("poison", [np.nan, 1e9, -np.inf], ids=str)
@pytest.mark.parametrize("minutes", [0, 25])
def test_what_is_known_only_after_the_issue_changes_no_bit(poison: float, minutes: int) -> None:
    issued_at = NOW - 5 * 24 * HOUR + np.timedelta64(minutes * 60, "s")
    whole = record(golden())
    late = whole.available_at > issued_at
    runs = tuple(
        run
        if run.available_at <= issued_at
        else replace(run, variables={name: np.full(len(values), poison) for name, values in run.variables.items()})
        for run in whole.runs
    )
    assert late.sum() > 100
    assert sum(a is not b for a, b in zip(runs, whole.runs, strict=True)) > 3
    poisoned = replace(whole, runs=runs, power_kw=np.where(late, poison, whole.power_kw))
    hours = fx.horizon(issued_at, 48)
    clean, dirty = (
        fx.build_known(DEFAULT_SPEC, each.known_at(issued_at), issued_at, hours) for each in (whole, poisoned)
    )
    assert np.isfinite(clean).mean() > 0.7
    np.testing.assert_array_equal(clean.view(np.uint32), dirty.view(np.uint32))


def test_build_ignores_hours_that_are_not_over_even_when_they_are_passed() -> None:
    issued_at = NOW - 5 * 24 * HOUR + 14 * HOUR + np.timedelta64(1800, "s")
    whole = record(golden())
    over = whole.valid_at + HOUR <= issued_at
    hours = fx.horizon(issued_at, 72)
    run = whole.known_at(issued_at).weather
    passed = History(whole.valid_at, np.where(over, whole.power_kw, 1e9))
    known = History(whole.valid_at[over], whole.power_kw[over])
    with_future, without = (fx.build(DEFAULT_SPEC, whole.site, run, h, issued_at, hours) for h in (passed, known))
    np.testing.assert_array_equal(with_future.view(np.uint32), without.view(np.uint32))


# --- one row, whatever request it is part of -------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 7, 24, 47, 168])
def test_a_row_has_the_same_bits_whatever_its_horizon(horizon: int) -> None:
    whole = record(golden())
    known = whole.known_at(NOW)
    reference = fx.build_known(DEFAULT_SPEC, known, NOW, fx.horizon(NOW, 48))
    rows = fx.build_known(DEFAULT_SPEC, known, NOW, fx.horizon(NOW, horizon))
    shared = min(48, horizon)
    np.testing.assert_array_equal(rows[:shared].view(np.uint32), reference[:shared].view(np.uint32))


def test_a_row_has_the_same_bits_in_any_order_of_requests() -> None:
    known = record(golden()).known_at(NOW)
    hours = fx.horizon(NOW, 48)
    warm = fx.build_known(DEFAULT_SPEC, known, NOW, hours)
    _block.cache_clear()
    later = fx.build_known(DEFAULT_SPEC, known, NOW, fx.horizon(NOW, 168))[:48]
    np.testing.assert_array_equal(warm.view(np.uint32), later.view(np.uint32))


def test_extra_history_before_the_lags_changes_no_bit() -> None:
    """Serving has 15 days, the drift job or a backtest may have more."""
    whole = record(golden())
    known = whole.known_at(NOW)
    all_of_it = History(whole.valid_at[whole.valid_at < NOW], whole.power_kw[whole.valid_at < NOW])
    last_hour = known.history.valid_at[-1] == all_of_it.valid_at[-1]
    hours = fx.horizon(NOW, 48)
    short, long = (fx.build(DEFAULT_SPEC, whole.site, known.weather, h, NOW, hours) for h in (known.history, all_of_it))
    assert last_hour
    assert len(all_of_it.valid_at) > len(known.history.valid_at)
    np.testing.assert_array_equal(short.view(np.uint32), long.view(np.uint32))


# --- the spec --------------------------------------------------------------------------------------------------------


def test_every_name_of_the_default_spec_is_built_in_its_order() -> None:
    hours = day("2013-06-21")
    rows = fx.build(DEFAULT_SPEC, SITES[0], weather(hours), NO_HISTORY, hours[0], hours)
    assert rows.shape == (24, len(DEFAULT_SPEC.names))
    assert rows.dtype == np.float32
    assert len(set(DEFAULT_SPEC.names)) == len(DEFAULT_SPEC.names)
    for name in DEFAULT_SPEC.names:
        alone = fx.build(FeatureSpec((name,)), SITES[0], weather(hours), NO_HISTORY, hours[0], hours)
        np.testing.assert_array_equal(alone[:, 0], rows[:, DEFAULT_SPEC.names.index(name)])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="moon_phase"):
        fx.build(
            FeatureSpec(("ghi", "moon_phase")), SITES[0], None, NO_HISTORY, day("2013-06-21")[0], day("2013-06-21")
        )


def test_weather_features_are_exactly_what_is_missing_without_weather() -> None:
    noon = NOW - 10 * HOUR  # 14:00 in Golden: all of the history's features are known
    known = record(golden()).known_at(noon)
    spec = with_extra(["x_haze"])
    rows = fx.build(spec, known.site, None, known.history, noon, fx.horizon(noon, 48))
    columns = dict(zip(spec.names, np.isnan(rows).T, strict=True))
    performance = {*SNOW, *(name for name in RECENT if name.startswith("performance"))}  # output against the run's
    assert {name for name, missing in columns.items() if missing.any()} == {
        name for name in spec.names if from_weather(name)
    } | performance
    assert {name for name, missing in columns.items() if missing.all()} >= set(WEATHER) | performance


def test_where_the_weather_run_ends_only_what_it_says_is_missing() -> None:
    known = record(golden()).known_at(NOW)
    rows = fx.build_known(DEFAULT_SPEC, known, NOW, fx.horizon(NOW, 60))
    ghi = rows[:, DEFAULT_SPEC.names.index("ghi")]
    ahead = rows[:, DEFAULT_SPEC.names.index("ghi_+2h")]
    np.testing.assert_array_equal(np.isnan(ghi), np.arange(60) >= 48)
    np.testing.assert_array_equal(np.isnan(ahead), np.arange(60) >= 46)


def test_the_hash_names_names_order_and_version() -> None:
    base = FeatureSpec(("ghi", "poa"))
    assert base.hash == FeatureSpec(("ghi", "poa")).hash
    others = [FeatureSpec(("poa", "ghi")), FeatureSpec(("ghi",)), FeatureSpec(("ghi", "poa"), version=1)]
    assert len({base.hash, *(other.hash for other in others)}) == 4


def test_features_scale_with_nothing_but_the_fraction_of_capacity() -> None:
    """Two parks that differ in size alone have the same features for the same share of output."""
    small, large = record(golden(ac_capacity_kw=3.0)), record(golden(ac_capacity_kw=3000.0))
    large = ParkRecord(large.site, small.runs, small.valid_at, small.available_at, small.power_kw * 1000.0)
    hours = fx.horizon(NOW, 48)
    rows = [fx.build_known(DEFAULT_SPEC, each.known_at(NOW), NOW, hours) for each in (small, large)]
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-6)
