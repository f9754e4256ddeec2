"""The measurements that are shipped: labels against the sun, the clock's fault, and nothing from the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import resources

import numpy as np
import pandas as pd
import pvlib
import pytest

from pvforecast.clock import ClockReport, correct, find_faults
from pvforecast.errors import InvalidInput, UnknownPark
from pvforecast.known import WEATHER_VARIABLES
from pvforecast.lake.tables import RAW_GENERATION, RAW_WEATHER
from pvforecast.parks import Park
from pvforecast.sources.catalogue import generation_source as source
from pvforecast.sources.pvdaq_samples import PARKS, PlantedLoss, PvdaqSamples

SYSTEM_50, SERF_EAST = PARKS
BEGIN, END = datetime(2011, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC)
SINCE, UNTIL = datetime(2013, 7, 20, 3, tzinfo=UTC), datetime(2013, 9, 20, 14, tzinfo=UTC)
SAMPLES = PvdaqSamples()
both = pytest.mark.parametrize("park", PARKS, ids=lambda park: park.id)


@pytest.fixture(scope="module")
def generation() -> dict[str, pd.DataFrame]:
    return {park.id: SAMPLES.generation(park, BEGIN, END) for park in PARKS}


@pytest.fixture(scope="module")
def weather() -> dict[str, pd.DataFrame]:
    """Sixty days of runs of each park."""
    begin = datetime(2013, 7, 15, 6, tzinfo=UTC)
    return {park.id: SAMPLES.weather([park], begin, begin + timedelta(days=60)).rows for park in PARKS}


def clear_sky(park: Park, hours: pd.DatetimeIndex) -> pd.DataFrame:
    """pvlib's Ineichen clear sky, horizontal and in the plane of the modules, at the middle of the hours."""
    place = pvlib.location.Location(park.latitude, park.longitude, "UTC", park.elevation_m)
    middle = hours + pd.Timedelta(minutes=30)
    sun = place.get_solarposition(middle)
    sky = place.get_clearsky(middle, solar_position=sun, linke_turbidity=2.5)
    plane = pvlib.irradiance.get_total_irradiance(
        park.surface_tilt, park.surface_azimuth, sun.apparent_zenith, sun.azimuth, sky.dni, sky.ghi, sky.dhi
    )
    return pd.DataFrame({"ghi": sky.ghi.to_numpy(), "poa": plane.poa_global.fillna(0.0).to_numpy()}, index=hours)


def minutes_late(measured: pd.Series, clear: pd.Series, park: Park) -> pd.Series:
    """By day, over the clearest third of days: centre of what was measured, minus that of clear sky."""
    hour = (measured.index - pd.Timedelta(hours=7)).tz_localize(None)  # solar days in Golden
    clock = hour.hour + 0.5
    table = pd.DataFrame({"m": measured.to_numpy(), "c": clear.to_numpy(), "day": hour.normalize()})
    table = table.assign(wm=table.m * clock, wc=table.c * clock, n=1).groupby("day").sum()
    table = table[(table.n == 24) & (table.m > 0)]
    table = table[table.m / table.c > (table.m / table.c).quantile(2 / 3)]
    return (table.wm / table.m - table.wc / table.c) * 60


# --- weather ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("shift", "holds"), [(0, True), (1, False), (-1, False)])
def test_hourly_ghi_is_labelled_by_the_start_of_its_hour(
    weather: dict[str, pd.DataFrame], park: Park, shift: int, holds: bool
) -> None:
    """Clear days are centred on solar noon; labels an hour off would not be."""
    first_day = weather[park.id].drop_duplicates("valid_at").set_index("valid_at").ghi
    labelled = first_day.shift(shift, freq="h")
    late = minutes_late(labelled, clear_sky(park, labelled.index).ghi, park)
    assert len(late) > 10
    assert bool(abs(late.median()) < 20) is holds


def test_an_hour_of_ghi_is_the_mean_over_it() -> None:
    """System 50's NSRDB values are instantaneous at :00 and :30; the hour's mean follows the trapezoid."""
    file = resources.files("pvanalytics") / "data" / "system_50_ac_power_2_full_DST_psm3.parquet"
    raw = pd.read_parquet(str(file)).set_index("index").ghi.tz_convert("UTC")
    at = pd.Timestamp("2013-07-20 15:00", tz="UTC")
    a, b, c = (raw[at + pd.Timedelta(minutes=m)] for m in (0, 30, 60))
    run = SAMPLES.weather([SYSTEM_50], at.floor("D").to_pydatetime(), at.to_pydatetime()).rows
    assert run.set_index("valid_at").ghi[at] == pytest.approx((a + 2 * b + c) / 4)


@both
def test_a_run_is_made_each_local_midnight_and_reaches_48_hours(weather: dict[str, pd.DataFrame], park: Park) -> None:
    rows = weather[park.id]
    stored = [name for name in RAW_WEATHER.schema.names if name not in RAW_WEATHER.partitions]
    assert list(rows.columns) == stored
    assert (rows.available_at == rows.run_at).all()
    local = rows.run_at.dt.tz_convert(park.timezone)
    assert (local == local.dt.normalize()).all()
    leads = (rows.valid_at - rows.run_at) / pd.Timedelta(hours=1)
    assert sorted(leads.unique()) == list(range(48))
    assert rows.run_at.nunique() == 61  # the end of the period is in: its run is available then
    assert rows.groupby("run_at").size().eq(48).all()
    assert set(rows.source) == {"nsrdb_observed"}


@both
def test_weather_is_in_canonical_units(weather: dict[str, pd.DataFrame], park: Park) -> None:
    rows = weather[park.id]
    assert rows.ghi.between(0, 1200).all()
    assert rows.ghi.max() > 900
    assert rows.temp_air.between(-5, 45).all()
    assert rows[[name for name in WEATHER_VARIABLES if name not in ("ghi", "temp_air")]].isna().all().all()


# --- power -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clock(generation: dict[str, pd.DataFrame]) -> dict[str, ClockReport]:
    return {park.id: find_faults(generation[park.id].set_index("measured_at").power_kw, park.site()) for park in PARKS}


@both
def test_by_what_is_found_every_month_of_power_is_in_step_with_the_sun(
    generation: dict[str, pd.DataFrame], clock: dict[str, ClockReport], park: Park
) -> None:
    rows = generation[park.id]
    true = correct(pd.DatetimeIndex(rows.measured_at), park.site(), clock[park.id])
    power = pd.Series(rows.power_kw.clip(lower=0).to_numpy(), index=true)
    hourly = power[power.index.notna()].sort_index().resample("1h").mean().dropna()
    late = minutes_late(hourly, clear_sky(park, hourly.index).poa, park)
    by_month = late.groupby([late.index.year, late.index.month]).median()
    assert len(by_month) >= (30 if park is SYSTEM_50 else 4)
    assert by_month.abs().max() < 20


def test_system_50_follows_daylight_saving_against_its_label_and_serf_east_does_not(
    clock: dict[str, ClockReport],
) -> None:
    found = clock["pvdaq-50"]
    assert found.follows_dst
    assert {"2011-11-06", "2012-03-11", "2012-11-04", "2013-03-10", "2013-11-03"} == set(found.dst_jumps)
    assert not clock["serf-east"].corrected
    assert clock["serf-east"].azimuth_deg is None


def test_labels_are_delivered_as_they_are(generation: dict[str, pd.DataFrame], clock: dict[str, ClockReport]) -> None:
    rows = generation["pvdaq-50"]
    assert (pd.to_datetime(rows.label, utc=True) == rows.measured_at).all()
    true = correct(pd.DatetimeIndex(rows.measured_at), SYSTEM_50.site(), clock["pvdaq-50"])
    shift = pd.Series((pd.DatetimeIndex(rows.measured_at) - true) / pd.Timedelta(minutes=1))
    assert set(shift[rows.measured_at.dt.month.isin([5, 6, 7, 8])]) == {60}
    assert set(shift[rows.measured_at.dt.month.isin([12, 1, 2])]) == {0}


def test_both_parks_have_the_dates_of_one_replay(generation: dict[str, pd.DataFrame]) -> None:
    fifty, serf = (generation[park.id].measured_at for park in PARKS)
    assert (fifty.min().date(), fifty.max().date()) == (datetime(2011, 4, 15).date(), datetime(2014, 1, 1).date())  # noqa: DTZ001
    assert (str(serf.min()), str(serf.max())) == ("2013-07-01 07:00:00+00:00", "2013-10-13 10:45:00+00:00")
    assert serf.min() + timedelta(days=1096) == pd.Timestamp("2016-07-01 00:00", tz="Etc/GMT+7")
    assert "1,096 days" in SERF_EAST.note


@both
def test_power_is_in_kw_and_capacity_is_its_999th_permille(generation: dict[str, pd.DataFrame], park: Park) -> None:
    rows = generation[park.id]
    stored = set(RAW_GENERATION.schema.names) - set(RAW_GENERATION.partitions)
    assert stored - set(RAW_GENERATION.optional) <= set(rows.columns) <= stored
    assert rows.power_kw.quantile(0.999) == pytest.approx(park.ac_capacity_kw, rel=0.02)
    assert rows.power_kw.max() < 1.15 * park.ac_capacity_kw
    assert set(rows.period_s) == {900}
    assert (rows.received_at - rows.measured_at).eq(pd.Timedelta(minutes=20)).all()


@pytest.fixture(scope="module")
def window() -> dict[str, pd.DataFrame]:
    return {park.id: SAMPLES.generation(park, SINCE, UNTIL) for park in PARKS}


@both
def test_a_read_never_gives_what_comes_later(
    generation: dict[str, pd.DataFrame], window: dict[str, pd.DataFrame], park: Park
) -> None:
    rows, whole = window[park.id], generation[park.id]
    assert rows.measured_at.min() >= SINCE
    assert rows.measured_at.max() < UNTIL
    inside = whole[(whole.measured_at >= SINCE) & (whole.measured_at < UNTIL)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, inside)
    runs = SAMPLES.weather([park], SINCE, UNTIL).rows
    assert runs.available_at.min() >= SINCE
    assert runs.available_at.max() <= UNTIL


def test_before_the_first_measurement_there_is_nothing_and_no_error() -> None:
    early = datetime(2012, 6, 1, tzinfo=UTC)
    assert len(SAMPLES.generation(SERF_EAST, BEGIN, early)) == 0
    assert len(SAMPLES.weather([SERF_EAST], BEGIN, early).rows) == 0


# --- drills and options ----------------------------------------------------------------------------------------------


def test_a_planted_loss_begins_at_its_start_and_hits_one_park(generation: dict[str, pd.DataFrame]) -> None:
    start = datetime(2013, 8, 10, 6, tzinfo=UTC)
    drill = PvdaqSamples(PlantedLoss("pvdaq-50", start, 0.1))
    rows, clean = drill.generation(SYSTEM_50, BEGIN, END), generation["pvdaq-50"]
    lost = rows.measured_at >= start
    np.testing.assert_array_equal(rows.power_kw[~lost], clean.power_kw[~lost])
    np.testing.assert_allclose(rows.power_kw[lost], 0.9 * clean.power_kw[lost])
    assert rows.measured_at[lost].min() == start
    assert set(rows.source[lost]) == {"pvdaq_samples+drill"}
    assert set(rows.source[~lost]) == {"pvdaq_samples"}
    pd.testing.assert_frame_equal(drill.generation(SERF_EAST, BEGIN, END), generation["serf-east"])


def test_the_catalogue_gives_the_source_and_its_drill() -> None:
    assert source("pvdaq_samples") == PvdaqSamples()
    options = {"loss": {"park_id": "pvdaq-50", "start": "2013-08-10T00:00:00-06:00", "fraction": 0.1}}
    drill = source("pvdaq_samples", options)
    assert drill == PvdaqSamples(PlantedLoss("pvdaq-50", datetime(2013, 8, 10, 6, tzinfo=UTC), 0.1))


@pytest.mark.parametrize(
    ("name", "loss", "field"),
    [
        ("open_meteo", None, "source"),
        ("pvdaq_samples", {"start": "2013-08-10T06:00:00", "park_id": "pvdaq-50", "fraction": 0.1}, "start"),
        ("pvdaq_samples", {"start": "in August", "park_id": "pvdaq-50", "fraction": 0.1}, "start"),
        ("pvdaq_samples", {"start": "2013-08-10T06:00:00+00:00", "fraction": 0.1}, "loss"),
        (
            "pvdaq_samples",
            {"start": "2013-08-10T06:00:00+00:00", "park_id": "pvdaq-50", "fraction": "a lot"},
            "fraction",
        ),
        ("pvdaq_samples", {"start": "2013-08-10T06:00:00+00:00", "park_id": "pvdaq-50", "fraction": 10}, "fraction"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(
    name: str, loss: dict[str, object] | None, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        source(name, {"loss": loss} if loss else None)
    assert str(caught.value.field).endswith(field)
    assert caught.value.hint
    with pytest.raises(InvalidInput, match="source_options: unknown option 'delay'"):
        source("pvdaq_samples", {"delay": 5})


def test_a_park_without_samples_is_unknown() -> None:
    stranger = SYSTEM_50.model_copy(update={"id": "stranger"})
    with pytest.raises(UnknownPark, match="'stranger' is not in the samples"):
        SAMPLES.generation(stranger, BEGIN, END)
    delivered = SAMPLES.weather([stranger], BEGIN, END)
    assert len(delivered.rows) == 0
    assert "'stranger' is not in the samples" in delivered.failed["stranger"]
