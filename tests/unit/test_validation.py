"""Bad rows are named and set aside; good rows go on; nothing is lost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.sources.pvdaq_samples import PARKS
from pvforecast.validation import WEATHER_CONTRACT, generation_contract, split

PARK = PARKS[0]  # 3.05 kW
CONTRACT = generation_contract(PARK)


def generation(*powers: float, park_id: str = PARK.id, period_s: int = 900) -> pd.DataFrame:
    frame = pd.DataFrame({"power_kw": np.array(powers, float)})
    return frame.assign(park_id=park_id, period_s=np.int32(period_s), note=[f"row {i}" for i in range(len(powers))])


def weather(**columns: float) -> pd.DataFrame:
    """Two plausible hours, of which the second has the given values."""
    good = {"ghi": 500.0, "dni": 600.0, "dhi": 100.0, "temp_air": 20.0, "wind_speed": 3.0, "cloud_cover": 0.4}
    return pd.DataFrame([good, {**good, **columns}])


def test_good_rows_pass_whole() -> None:
    good, bad = split(generation(0.0, -0.1, 3.05, 3.4), CONTRACT)
    assert len(good) == 4
    assert len(bad) == 0
    assert "reason" in bad


def test_watts_taken_for_kilowatts_are_set_aside_with_the_field_and_the_guess() -> None:
    good, bad = split(generation(1.0, 1520.0, 2.0), CONTRACT)
    assert list(good.note) == ["row 0", "row 2"]
    [row] = bad.to_dict("records")
    assert row["note"] == "row 1"
    assert "power_kw=1520.0" in row["reason"]
    assert "W or MW?" in row["reason"]
    assert "4.575 kW" in row["reason"]


@pytest.mark.parametrize("power", [-0.2, 4.6, np.nan, np.inf, -np.inf])
def test_power_must_be_known_and_between_night_consumption_and_the_peak(power: float) -> None:
    good, bad = split(generation(1.0, power), CONTRACT)
    assert (len(good), len(bad)) == (1, 1)
    assert "power_kw" in bad.reason.iloc[0]


def test_rows_of_another_park_or_an_odd_period_are_set_aside() -> None:
    for wrong, field in ((generation(1.0, park_id="other"), "park_id"), (generation(1.0, period_s=17), "period_s")):
        good, bad = split(pd.concat([generation(1.0), wrong]), CONTRACT)
        assert (len(good), len(bad)) == (1, 1)
        assert field in bad.reason.iloc[0]


def test_every_fault_of_a_row_is_named() -> None:
    _, bad = split(generation(9.9, park_id="other"), CONTRACT)
    assert {"power_kw", "park_id"} <= {part.split("=")[0] for part in bad.reason.iloc[0].split("; ")}


@pytest.mark.parametrize(
    ("column", "value"),
    [("ghi", -5.0), ("ghi", 1600.0), ("temp_air", 293.0), ("wind_speed", 90.0), ("cloud_cover", 55.0), ("dni", -1.0)],
)
def test_weather_in_other_units_is_set_aside(column: str, value: float) -> None:
    good, bad = split(weather(**{column: value}), WEATHER_CONTRACT)
    assert (len(good), len(bad)) == (1, 1)
    assert f"{column}={value!r}" in bad.reason.iloc[0].replace("np.float64(", "").replace(")", "")


def test_weather_that_was_not_delivered_is_no_fault() -> None:
    nothing = dict.fromkeys(("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover"), np.nan)
    assert [len(part) for part in split(weather(**nothing), WEATHER_CONTRACT)] == [2, 0]


def test_an_empty_delivery_is_no_fault() -> None:
    assert [len(part) for part in split(generation(), CONTRACT)] == [0, 0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.floats(-0.15, 4.5), st.floats(4.6, 1e6), st.just(np.nan)), max_size=12))
def test_nothing_is_lost_and_nothing_changed(powers: list[float]) -> None:
    delivered = generation(*powers)
    good, bad = split(delivered, CONTRACT)
    together = pd.concat([part for part in (good, bad.drop(columns="reason")) if len(part)] or [delivered])
    pd.testing.assert_frame_equal(together.sort_index(), delivered)
    assert good.power_kw.between(-0.1525, 4.575).all()
    assert not bad.power_kw.between(-0.1525, 4.575).any()
