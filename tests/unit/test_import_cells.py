"""Cells of foreign files: numbers, instants, and how a file is read at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.errors import InvalidInput
from pvforecast.importing import cells, tables
from pvforecast.importing.cells import Faults, zone_of
from pvforecast.importing.fleets import arrays, from_north
from pvforecast.importing.mapping import Mapping, conversion, duration, load

AMSTERDAM = zone_of("Europe/Amsterdam", "timezone")


def numbers(*texts: str | None, decimal: str | None = None) -> tuple[list[float], dict[int, str]]:
    faults = Faults(len(texts))
    return cells.numbers(pa.array(texts, pa.string()), "v", faults, decimal).tolist(), faults.reasons


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_every_number_is_read_as_it_was_written(values: list[float]) -> None:
    read, faults = numbers(*map(repr, values))
    assert read == values
    assert faults == {}


@given(st.lists(st.text(max_size=12), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_text_ends_in_an_exception_or_an_infinite_number(texts: list[str]) -> None:
    read, faults = numbers(*texts)
    assert not np.isinf(read).any()
    times = Faults(len(texts))
    cells.instants(pa.array(texts, pa.string()), "t", times, AMSTERDAM)
    for reason in (*faults.values(), *times.reasons.values()):
        assert "\n" not in reason


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [("1,5", None, 1.5), ("1.234,5", ",", 1234.5), ("12", ",", 12.0), (" 3 ", None, 3.0), ("-", None, np.nan)],
)
def test_decimal_commas_are_understood(text: str, decimal: str | None, value: float) -> None:
    read, faults = numbers(text, decimal=decimal)
    assert read == pytest.approx([value], nan_ok=True)
    assert faults == {}


def test_a_point_that_may_be_a_thousand_is_not_guessed() -> None:
    assert "--decimal ," in numbers("1.234", "0,5")[1][0]


def instants(*texts: str, zone: object = None) -> tuple[list[str], dict[int, str]]:
    faults = Faults(len(texts))
    read = cells.instants(pa.array(texts, pa.string()), "t", faults, zone)  # type: ignore[arg-type]
    return [str(t)[:19] for t in read.utc], faults.reasons


def test_instants_are_utc_and_need_an_offset_or_a_zone() -> None:
    read, faults = instants("2024-06-01T12:00:00+02:00", "2024-06-01 10:00Z", "20240601T1000+0000")
    assert set(read) == {"2024-06-01T10:00:00"}
    assert faults == {}
    assert "has no UTC offset" in instants("2024-06-01T12:00:00")[1][0]
    assert instants("2024-06-01T12:00:00", zone=AMSTERDAM)[0] == ["2024-06-01T10:00:00"]
    assert "does not exist" in instants("2024-03-31T02:30:00", zone=AMSTERDAM)[1][0]


def test_numbers_that_are_instants_are_read_only_when_said() -> None:
    seconds = pa.array([1717236000])
    with pytest.raises(InvalidInput, match="time_format"):
        cells.instants(seconds, "t", Faults(1))
    assert str(cells.instants(seconds, "t", Faults(1), pattern="unix").utc[0]) == "2024-06-01T10:00:00.000000"


@given(st.text(alphabet='ab,"\r\n é', max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_table_or_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.encode())
    try:
        for chunk in tables.read(path, tables.Layout()):
            assert all(len(column) == len(chunk) for column in chunk.columns.values())
    except InvalidInput as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said


def test_rows_keep_their_numbers_across_blocks_quotes_and_blank_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", 10)
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,x\n\n"2\n2",y\n3\n4,z\n')
    chunks = list(tables.read(path, tables.Layout()))
    numbered = {
        n: a.as_py() for chunk in chunks for n, a in zip(chunk.numbers.tolist(), chunk.columns["a"], strict=True)
    }
    assert numbered == {2: "1", 4: "2\n2", 6: "4"}
    assert {number: why for chunk in chunks for number, (why, _) in chunk.broken.items()} == {
        5: "1 cells where the header has 2"
    }


@pytest.mark.parametrize(
    ("azimuth", "convention", "north"),
    [(180, "north", 180), (360, "north", 0), (0, "south", 180), (90, "south", 270), (-90, "south", 90),
     (-90, "south-east-positive", 270), (90, "south-east-positive", 90), (180, "south", 0)],
)  # fmt: skip
def test_azimuths_of_every_convention_count_clockwise_from_north(azimuth: float, convention: str, north: float) -> None:
    assert from_north(azimuth, convention) == north
    with pytest.raises(ValueError, match="outside"):
        from_north(-200, convention)


def test_several_arrays_fit_into_one_cell() -> None:
    assert arrays("east=13@-90:59|12@90:40", "south") == [
        {"name": "east", "surface_tilt": 13.0, "surface_azimuth": 90.0, "dc_capacity_kw": 59.0},
        {"name": "", "surface_tilt": 12.0, "surface_azimuth": 270.0, "dc_capacity_kw": 40.0},
    ]


@pytest.mark.parametrize(
    ("column", "unit", "given", "canonical"),
    [("power_kw", "W", 500, 0.5), ("temp_air", "K", 273.15, 0), ("temp_air", "F", 212, 100),
     ("cloud_cover", "%", 55, 0.55), ("ghi", "kJ/m2/h", 3600, 1000),
     ("wind_speed", "km/h", 36, 10), ("precipitation", "m", 0.001, 1)],
)  # fmt: skip
def test_units_are_converted(column: str, unit: str, given: float, canonical: float) -> None:
    factor, offset = conversion(column, unit)
    assert given * factor + offset == pytest.approx(canonical, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rename: [a]", "rename"), ("units: {ghi: lux}", "'lux' is no unit of ghi"), ("colour: 1", "colour"),
        ("label: late", "label"), ("timezone: Mars", "timezone"), ("- a", "is no mapping"), ("a: [", "can't be read"),
        ("delay: long", "delay"), ("a: &x [1]\nb: *x ", "anchors"), ("\x00", "can't be read"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_names_its_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load(path)
    assert says in str(refused.value)
    assert "m.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_add_to_a_mapping_and_win_over_it(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("rename: {a: ghi}\nlabel: end\npark_ids: {1: roof}\n")
    read = load(path, {"rename": {"b": "dni"}, "label": "middle", "delay": None})
    assert read == Mapping(rename={"a": "ghi", "b": "dni"}, label="middle", park_ids={"1": "roof"})
    assert duration("PT6H", "").total_seconds() == duration("6h", "").total_seconds() == 21_600
