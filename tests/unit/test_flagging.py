"""Planted snow, outages, curtailment and a meter that hangs are found; healthy hours of any weather are not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvforecast import clocks, dataset, features, flagging, fleet, refining
from pvforecast.features import sun
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import CLOCKS, GENERATION, RAW_GENERATION, WEATHER
from pvforecast.parks import Park
from pvforecast.sources.pvdaq_samples import PARKS

PARK = PARKS[0]
BEGIN, DAYS = pd.Timestamp("2013-01-05T07:00", tz="UTC"), 24  # local midnight
HOURS = pd.date_range(BEGIN, periods=24 * DAYS, freq="h")
TIMES = HOURS.tz_convert(None).to_numpy().astype("datetime64[s]")


def sky(temp_air: float = 8.0, seed: int = 3) -> pd.DataFrame:
    """Weather of bright and dull days."""
    share = np.repeat(np.random.default_rng(seed).choice([1.0, 0.9, 0.5, 0.25], DAYS), 24)
    clear = sun.of(PARK.site(), TIMES)["ghi_clear"]
    frame = pd.DataFrame({"valid_at": HOURS, "ghi": clear * share, "temp_air": temp_air})
    return frame.assign(dni=np.nan, dhi=np.nan, wind_speed=2.0, cloud_cover=np.nan)


def healthy(observed: pd.DataFrame) -> np.ndarray:
    run = flagging._as_run(observed)
    made = features.physical_power(PARK.site(), run, TIMES) * PARK.ac_capacity_kw
    made = np.nan_to_num(made) * np.random.default_rng(1).uniform(0.8, 1.0, len(TIMES))
    return np.asarray(made)


def flags(power: np.ndarray, observed: pd.DataFrame) -> pd.Series:
    rows = pd.DataFrame({"valid_at": HOURS, "available_at": HOURS + pd.Timedelta(minutes=65), "power_kw": power})
    rows = rows.assign(period_s=3600, completeness=1.0, available_fraction=np.nan, export_limit_kw=np.nan, flags="")
    found = flagging.flag(PARK, rows, pd.DataFrame(), observed)
    later = found.available_at > rows.available_at
    day_end = rows.available_at.groupby((HOURS - pd.Timedelta(hours=7)).floor("D")).transform("max")
    assert (found.available_at[later] == day_end[later]).all()
    assert (found["flags"] != "")[later].all()
    return pd.Series(found["flags"].to_numpy(), index=(HOURS - pd.Timedelta(hours=7)).tz_convert(None))


def bright(observed: pd.DataFrame) -> list[pd.Timestamp]:
    """Local days with a bright sky, from the tenth on."""
    daily = observed.ghi.groupby((HOURS - pd.Timedelta(hours=7)).tz_convert(None).normalize()).max()
    return [day for day in daily.index[daily > 400] if day >= daily.index[9]]


@pytest.mark.parametrize("temp_air", [8.0, -5.0])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_healthy_hours_of_any_weather_carry_no_flag(temp_air: float, seed: int) -> None:
    observed = sky(temp_air, seed)
    assert set(flags(healthy(observed), observed)) == {""}


def test_snow_is_named_until_it_melts() -> None:
    observed = sky(-5.0)
    power = healthy(observed)
    first = bright(observed)[0]
    local = (HOURS - pd.Timedelta(hours=7)).tz_convert(None)
    covered = (local >= first) & (local < first + pd.Timedelta(days=2, hours=10))
    found = flags(np.where(covered, 0.05 * power, power), observed)
    assert set(found[~covered]) == {""}
    assert (found[covered & (power > 0.5)] == "snow").all()
    assert set(found) == {"", "snow"}


def test_no_power_in_bright_daylight_is_an_outage_and_a_night_is_not() -> None:
    observed = sky()
    power = healthy(observed)
    day = bright(observed)[0]
    local = (HOURS - pd.Timedelta(hours=7)).tz_convert(None)
    out = (local >= day + pd.Timedelta(hours=11)) & (local < day + pd.Timedelta(hours=14))
    found = flags(np.where(out, 0.0, power), observed)
    assert list(found[out]) == ["outage"] * 3
    assert set(found[~out]) == {""}


def test_a_flat_top_under_a_bright_sky_is_curtailment_where_the_park_can_do_more() -> None:
    observed = sky()
    power = healthy(observed)
    day = bright(observed)[1]
    local = (HOURS - pd.Timedelta(hours=7)).tz_convert(None)
    held = (local >= day) & (local < day + pd.Timedelta(days=1)) & (power > 1.0)
    found = flags(np.where(held, 1.0 + 0.001 * np.sin(np.arange(len(power))), power), observed)
    assert set(found[held]) == {"curtailed"}
    assert set(found[~held]) == {""}


def test_a_meter_that_repeats_itself_is_frozen() -> None:
    observed = sky()
    power = healthy(observed)
    day = bright(observed)[1]
    local = (HOURS - pd.Timedelta(hours=7)).tz_convert(None)
    stuck = (local >= day + pd.Timedelta(hours=8)) & (local < day + pd.Timedelta(hours=20))
    found = flags(np.where(stuck, 1.7, power), observed)
    assert set(found[stuck]) == {"frozen"}


# --- through the lake ------------------------------------------------------------------------------------------------


def load(lake: Lake, power: np.ndarray, minutes_late: int = 0, park: Park = PARK) -> None:
    observed = sky(-5.0)
    fleet.register(lake, park)
    runs = [
        observed.iloc[24 * n : 24 * n + 48].assign(run_at=HOURS[24 * n], available_at=HOURS[24 * n])
        for n in range(DAYS)
    ]
    weather = pd.concat(runs).assign(park_id=park.id, source="s", period_s=np.int32(3600))
    lake.append_new(WEATHER, weather)
    labels = HOURS + pd.Timedelta(minutes=minutes_late)
    raw = pd.DataFrame({"measured_at": labels, "received_at": HOURS + pd.Timedelta(minutes=65), "power_kw": power})
    lake.append_new(RAW_GENERATION, raw.assign(park_id=park.id, inverter_id="1", period_s=np.int32(3600), source="s"))


def test_flagged_hours_are_no_target_and_no_lag_and_still_truth(tmp_path: Path) -> None:
    lake, observed = Lake(str(tmp_path)), sky(-5.0)
    power = healthy(observed)
    local = (HOURS - pd.Timedelta(hours=7)).tz_convert(None)
    day = bright(observed)[0]
    covered = (local >= day) & (local < day + pd.Timedelta(days=1))
    load(lake, np.where(covered, 0.05 * power, power))
    refining.validate(lake, [PARK], BEGIN.to_pydatetime(), (HOURS[-1] + pd.Timedelta(hours=2)).to_pydatetime())
    record: ParkRecord = records.load(lake, PARK.id)
    snow = record.flags_of(TIMES) == "snow"
    assert snow.sum() >= 5
    assert covered[snow].all()
    assert not np.isnan(record.truth(TIMES)).any()
    np.testing.assert_array_equal(np.isnan(record.truth(TIMES, healthy=True)), snow)
    morning = TIMES[np.flatnonzero(covered)[-1]] + np.timedelta64(4 * 3600, "s")
    assert not np.isin(TIMES[snow], record.known_at(morning).history.valid_at).any()
    noon = TIMES[np.flatnonzero(covered)[14]]
    assert len(record.known_at(noon).history.valid_at) > 0  # what was known before the flag was
    issue = [TIMES[np.flatnonzero(covered)[0]]]
    taught = dataset.build(record, features.DEFAULT_SPEC, issue, 24, healthy=True).target
    scored = dataset.build(record, features.DEFAULT_SPEC, issue, 24).target
    assert np.isnan(taught).sum() == snow.sum()
    assert not np.isnan(scored).any()
    before = len(lake.read(GENERATION))
    refining.validate(lake, [PARK], BEGIN.to_pydatetime(), (HOURS[-1] + pd.Timedelta(hours=2)).to_pydatetime())
    assert len(lake.read(GENERATION)) == before


def test_a_clock_that_is_found_moves_what_is_stored(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    power = healthy(sky(-5.0))
    load(lake, power, minutes_late=60)
    early = (BEGIN + pd.Timedelta(days=10)).to_pydatetime()
    refining.validate(lake, [PARK], BEGIN.to_pydatetime(), early)
    assert "20 are needed" in clocks.reports(lake)[PARK.id].sentence()
    end = (HOURS[-1] + pd.Timedelta(hours=1)).to_pydatetime()
    refining.validate(lake, [PARK], early, end)
    assert clocks.reports(lake)[PARK.id].offset_minutes == 60
    record = records.load(lake, PARK.id)
    np.testing.assert_allclose(record.truth(TIMES[:-2]), power[:-2], atol=1e-9)  # also of the days before
    then = np.datetime64(early.astimezone(UTC).replace(tzinfo=None), "s")
    np.testing.assert_allclose(record.truth(TIMES[1:200], then), power[:199], atol=1e-9)  # as it was known
    rows = len(lake.read(GENERATION)), len(lake.read(CLOCKS))
    refining.validate(lake, [PARK], early, end)
    assert (len(lake.read(GENERATION)), len(lake.read(CLOCKS))) == rows


def test_correction_can_be_switched_off(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    power = healthy(sky(-5.0))
    load(lake, power, minutes_late=60)
    end = (HOURS[-1] + pd.Timedelta(hours=1)).to_pydatetime()
    refining.validate(lake, [PARK], datetime(2013, 1, 1, tzinfo=UTC), end, correct_clocks=False)
    assert clocks.reports(lake)[PARK.id].offset_minutes == 60
    np.testing.assert_allclose(records.load(lake, PARK.id).truth(TIMES[1:200]), power[:199], atol=1e-9)
