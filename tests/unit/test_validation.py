"""Bad rows are named and set aside; good rows go on; nothing is lost."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.errors import DataError
from pvforecast.lake.tables import GENERATION, RAW_GENERATION, RAW_WEATHER
from pvforecast.validation import accept, check_generation, check_weather
from pvforecast.validation.contract import check_processed
from pvforecast.validation.generation import wrong_units
from pvforecast.validation.levels import CHECKS, name_of
from pvforecast.validation.sun import extraterrestrial, highest
from pvforecast.validation.weather import flagged

CAPACITY = 3.05
NOON = pd.Timestamp("2013-06-01T19:00", tz="UTC")  # in Golden


def split(rows: pd.DataFrame, sun: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
    return check_generation(rows, "p", np.full(len(rows), CAPACITY), np.full(len(rows), sun))


def generation(*powers: float, park_id: str = "p", period_s: int = 900, **columns: float) -> pd.DataFrame:
    frame = pd.DataFrame({"power_kw": np.array(powers, float)})
    frame = frame.assign(note=[f"row {i}" for i in range(len(powers))], **columns)
    return frame.assign(park_id=park_id, period_s=np.int32(period_s))


def weather(**columns: float) -> pd.DataFrame:
    """Two plausible hours around noon, of which the second has the given values."""
    good = {
        "ghi": 500.0, "dni": 500.0, "dhi": 100.0, "temp_air": 20.0, "wind_speed": 3.0, "cloud_cover": 0.4,
        "relative_humidity": 0.5, "precipitation": 0.0,
    }  # fmt: skip
    return run([good, {**good, **columns}])


def run(hours: list[dict[str, float]], begin: pd.Timestamp = NOON) -> pd.DataFrame:
    return pd.DataFrame(hours).assign(
        park_id="p", source="s", run_at=begin, valid_at=pd.date_range(begin, periods=len(hours), freq="h")
    )


def sunlit(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Held against the sun of Golden."""
    n, times = len(rows), pd.DatetimeIndex(rows.valid_at)
    sun = highest(np.full(n, 39.74), np.full(n, -105.18), times, np.full(n, 3600.0))
    return check_weather(rows, sun, extraterrestrial(times))


def test_good_rows_pass_whole() -> None:
    good, bad = split(generation(0.0, -0.1, 3.05, 3.4))
    assert len(good) == 4
    assert len(bad) == 0
    assert "reason" in bad


def test_watts_taken_for_kilowatts_are_set_aside_with_the_field_and_the_guess() -> None:
    good, bad = split(generation(1.0, 1520.0, 2.0))
    assert list(good.note) == ["row 0", "row 2"]
    [row] = bad.to_dict("records")
    assert row["note"] == "row 1"
    assert "power_kw=1520.0" in row["reason"]
    assert "W or MW?" in row["reason"]
    assert "4.575 kW" in row["reason"]
    assert name_of(row["reason"]) == "above_capacity"


@pytest.mark.parametrize("power", [-0.2, 4.6, np.nan, np.inf, -np.inf])
def test_power_must_be_known_and_between_night_consumption_and_the_peak(power: float) -> None:
    good, bad = split(generation(1.0, power))
    assert (len(good), len(bad)) == (1, 1)
    assert "power_kw" in bad.reason.iloc[0]


def test_power_in_the_dark_is_set_aside_and_a_standby_is_not() -> None:
    good, bad = split(generation(0.0, 0.05, 0.5), sun=-0.2)
    assert list(good.power_kw) == [0.0, 0.05]
    assert name_of(bad.reason.iloc[0]) == "night_power"
    assert len(split(generation(0.5), sun=-0.1)[0]) == 1  # twilight


def test_rows_of_another_park_or_an_odd_period_are_set_aside() -> None:
    for wrong, field in ((generation(1.0, park_id="other"), "park_id"), (generation(1.0, period_s=17), "period_s")):
        good, bad = split(pd.concat([generation(1.0), wrong]))
        assert (len(good), len(bad)) == (1, 1)
        assert field in bad.reason.iloc[0]


def test_every_fault_of_a_row_is_named() -> None:
    _, bad = split(generation(9.9, park_id="other", available_fraction=1.5))
    named = {part.split("=")[0] for part in bad.reason.iloc[0].split("; ")}
    assert {"power_kw", "park_id", "available_fraction"} <= named


def heard(*powers: float) -> pd.DataFrame:
    """Highest power of an inverter in the hours of one day."""
    hours = pd.date_range("2013-06-01T07:00", periods=len(powers), freq="h", tz="UTC")
    return pd.DataFrame({"inverter_id": "1", "hour": hours, "power_kw": powers, "day": hours.floor("D")})


SHAPE = np.sin(np.linspace(0.1, 3.0, 12))


@pytest.mark.parametrize(
    ("powers", "unit"),
    [
        (SHAPE * 3.0, ""),
        (SHAPE * 3.0 * 1000.0, "watts_as_kilowatts"),
        (SHAPE * 3.0 / 1000.0, "a_thousandth"),
        (np.append(SHAPE[:-1], 3000.0), ""),  # one wrong row is no wrong day
        (SHAPE * 0.0, ""),  # out of service
        (np.full(12, 0.002), ""),  # a standby that does not follow the sun... nor make a park
        (SHAPE[::-1] * 0.03, ""),  # under snow
    ],
)
def test_a_day_in_another_unit_is_told_as_a_whole(powers: np.ndarray, unit: str) -> None:
    sun = SHAPE if unit or powers[0] != powers[1] else np.where(np.arange(12) % 2, 0.9, 0.0)
    assert list(wrong_units(heard(*powers), CAPACITY, sun)) == [unit]


@pytest.mark.parametrize(
    ("column", "value"),
    [("ghi", -5.0), ("ghi", 1700.0), ("temp_air", 293.0), ("wind_speed", 95.0), ("cloud_cover", 55.0), ("dni", -1.0),
     ("relative_humidity", 60.0), ("precipitation", -1.0), ("ghi", np.inf)],
)  # fmt: skip
def test_weather_in_other_units_is_set_aside(column: str, value: float) -> None:
    good, bad = sunlit(weather(**{column: value}))
    assert (len(good), len(bad)) == (1, 1)
    assert f"{column}={value!r}" in bad.reason.iloc[0].replace("np.float64(", "").replace(")", "")


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"ghi": 400.0}, "ghi_above_sun"),
        ({"dni": 300.0}, "dni_above_sun"),
        ({"dhi": 90.0, "ghi": 95.0}, "dhi_above_sun"),
    ],
)
def test_radiation_at_night_is_above_what_the_sun_gives(values: dict[str, float], name: str) -> None:
    night = run([{**weather().iloc[0][["temp_air"]].to_dict(), "ghi": 0.0, "dni": 0.0, "dhi": 0.0, **values}] * 2,
                NOON + pd.Timedelta(hours=12)).assign(cloud_cover=0.0)  # fmt: skip
    _, bad = sunlit(night)
    assert name in bad.reason.iloc[0]


def test_a_run_in_kilojoules_kilowatts_or_percent_is_set_aside_whole() -> None:
    clear = [200.0, 400.0, 600.0, 800.0, 900.0, 850.0, 700.0, 500.0, 300.0]
    begin = pd.Timestamp("2013-06-01T14:00", tz="UTC")

    def told(scale: float, cloud: float) -> set[str]:
        rows = [{**weather().iloc[0].to_dict(), "dni": np.nan, "dhi": np.nan, "ghi": scale * g} for g in clear]
        rows = [{**row, "cloud_cover": cloud * n} for n, row in enumerate(rows)]
        good, bad = sunlit(run(rows, begin))
        assert len(good) in (0, 9)
        names = ("run_above_sun", "run_in_kilowatts", "run_in_percent")
        return {name for name in names if len(bad) and bad.reason.str.contains(name).all()}

    assert told(1.0, 0.1) == set()
    assert told(3.6, 0.1) == {"run_above_sun"}
    assert told(0.001, 0.1) == {"run_in_kilowatts"}
    assert told(1.0, 12.0) == {"run_in_percent"}  # its first hour, 0 %, would pass as a fraction


def test_components_that_disagree_and_a_ghi_that_stands_still_are_doubts_and_stay() -> None:
    rows = run([{"ghi": 500.0, "dni": 900.0, "dhi": 400.0}] * 5)
    odd = flagged(rows, np.full(5, 0.9))
    assert list(odd.components_disagree) == [True] * 5
    assert list(odd.frozen_ghi) == [False, False, False, True, True]
    fine = flagged(run([{"ghi": g, "dni": 500.0, "dhi": 100.0} for g in (550.0, 551.0, 552.0, 540.0)]), np.full(4, 0.9))
    assert not fine.to_numpy().any()


def test_weather_that_was_not_delivered_is_no_fault() -> None:
    nothing = dict.fromkeys(("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover"), np.nan)
    assert [len(part) for part in sunlit(weather(**nothing))] == [2, 0]


def test_an_empty_delivery_is_no_fault() -> None:
    assert [len(part) for part in split(generation())] == [0, 0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.floats(-0.15, 4.5), st.floats(4.6, 1e6), st.just(np.nan)), max_size=12))
def test_nothing_is_lost_and_nothing_changed(powers: list[float]) -> None:
    delivered = generation(*powers)
    good, bad = split(delivered)
    together = pd.concat([part for part in (good, bad.drop(columns="reason")) if len(part)] or [delivered])
    pd.testing.assert_frame_equal(together.sort_index(), delivered)
    assert good.power_kw.between(-0.1525, 4.575).all()
    assert not bad.power_kw.between(-0.1525, 4.575).any()


# --- whole deliveries ------------------------------------------------------------------------------------------------


def raw_generation(**changes: object) -> pd.DataFrame:
    rows = pd.DataFrame({"measured_at": [NOON], "received_at": [NOON], "power_kw": [1.0]})
    rows = rows.assign(park_id="p", inverter_id="1", period_s=np.int32(900), source="s", label="")
    return rows.assign(**changes)


def test_a_delivery_of_the_right_shape_is_accepted() -> None:
    accept(RAW_GENERATION, raw_generation())
    accept(RAW_GENERATION, raw_generation(curtailed=None, export_limit_kw=np.nan, power_kw=np.nan))
    accept(RAW_WEATHER, weather().assign(available_at=NOON, period_s=np.int32(3600)))
    accept(RAW_GENERATION, raw_generation().iloc[:0])


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"power_kw": ["a lot"]}, "power_kw"),
        ({"measured_at": [pd.Timestamp("2013-06-01T19:00")]}, "measured_at"),
        ({"measured_at": ["2013-06-01T19:00Z"]}, "measured_at"),
        ({"park_id": [None]}, "park_id"),
        ({"export_limit_kw": ["none"]}, "export_limit_kw"),
    ],
)
def test_a_delivery_of_another_shape_is_refused_with_the_column(changes: dict[str, object], column: str) -> None:
    with pytest.raises(DataError, match=f"raw/generation.{column}"):
        accept(RAW_GENERATION, raw_generation(**changes))
    with pytest.raises(DataError, match=r"raw/generation\.source"):
        accept(RAW_GENERATION, raw_generation().drop(columns="source"))


def test_what_we_store_is_held_against_its_own_contract() -> None:
    row = pd.DataFrame({"park_id": ["p"], "valid_at": [NOON], "available_at": [NOON], "power_kw": [1.0]}).assign(
        period_s=np.int32(3600), completeness=1.0, available_fraction=np.nan, export_limit_kw=np.nan, flags=""
    )
    check_processed(GENERATION, row)
    with pytest.raises(DataError, match="period_s"):
        check_processed(GENERATION, row.assign(period_s=np.int32(1800)))
    with pytest.raises(DataError):
        check_processed(GENERATION, row.assign(power_kw=np.nan))


def test_the_document_shows_every_check_with_its_level() -> None:
    text = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()
    shown = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE))
    assert shown == {(check.name, check.level) for check in CHECKS}
