"""A snapshot's bytes: the inverse comes back bit for bit, and equal content has equal bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast import features, snapshot
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR, History, Known, WeatherRun
from tests.bundles import NOW, record, site

KNOWN = record(site()).known_at(NOW)
assert KNOWN.weather is not None
RUN: WeatherRun = KNOWN.weather

any_float = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)


def bits(known: Known) -> list[object]:
    """Everything in it; floats as bits, so that NaN equals NaN and 0.0 is not -0.0."""
    found: list[object] = [known.site, known.as_of, known.history.valid_at.tobytes(), known.history.power_kw.tobytes()]
    if known.weather is not None:
        run = known.weather
        found += [run.source, run.run_at, run.available_at, run.valid_at.tobytes()]
        found += [(name, run.variables[name].tobytes()) for name in sorted(run.variables)]
    if known.past is not None:
        metered = known.past.metered
        found += [metered.valid_at.tobytes(), metered.power_kw.tobytes()]
        found += bits(replace(known, weather=known.past.weather, past=None))
    return found


def test_the_last_day_is_part_of_it_where_an_older_reader_passes_over_it() -> None:
    assert KNOWN.past is not None
    with pa.ipc.open_file(pa.BufferReader(snapshot.encode(KNOWN))) as reader:
        names = reader.schema.names
    assert {name.partition(".")[0] for name in names} == {"history", "weather"}
    assert [name for name in names if name.endswith(".valid_at") and name.count(".") == 1] == [
        "history.valid_at", "weather.valid_at",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "known",
    [
        KNOWN,
        replace(KNOWN, weather=None),
        replace(KNOWN, history=History(KNOWN.history.valid_at[:0], np.zeros(0))),
        replace(KNOWN, weather=replace(RUN, variables={**RUN.variables, "x_aerosol": RUN.variables["ghi"] * np.nan})),
        replace(KNOWN, weather=replace(RUN, valid_at=RUN.valid_at[:0], variables={"ghi": np.zeros(0)})),
        replace(KNOWN, site=replace(KNOWN.site, park_id="ümläut", latitude=-0.1 + 0.3)),
        replace(KNOWN, past=None),
    ],
    ids=["whole", "no weather", "no history", "free column", "empty run", "odd site", "no past"],
)
def test_what_is_decoded_is_what_was_encoded(known: Known) -> None:
    again = snapshot.decode(snapshot.encode(known))
    assert bits(again) == bits(known)
    assert again.history.valid_at.dtype == "datetime64[s]"


@settings(max_examples=50, deadline=None)
@given(st.lists(any_float, max_size=20))
def test_every_float_keeps_its_bits(values: list[float]) -> None:
    hours = NOW + np.arange(len(values)) * HOUR
    known = Known(site(), NOW, None, History(hours, np.array(values, np.float64)))
    assert bits(snapshot.decode(snapshot.encode(known))) == bits(known)


def test_features_from_a_snapshot_have_the_bits_of_those_from_the_record() -> None:
    hours = features.horizon(NOW, 48)
    of_record, of_snapshot = (
        features.build_known(DEFAULT_SPEC, known, NOW, hours)
        for known in (KNOWN, snapshot.decode(snapshot.encode(KNOWN)))
    )
    np.testing.assert_array_equal(of_record.view(np.uint32), of_snapshot.view(np.uint32))


def test_equal_content_has_equal_bytes_however_it_lies_in_memory() -> None:
    reordered = dict(reversed(RUN.variables.items()))
    strided = {name: np.stack([values, values], 1)[:, 0] for name, values in reordered.items()}
    minutes = History(KNOWN.history.valid_at.astype("datetime64[ms]"), KNOWN.history.power_kw)
    other = replace(KNOWN, weather=replace(RUN, variables=strided), history=minutes)
    assert snapshot.encode(other) == snapshot.encode(KNOWN)


@pytest.mark.parametrize(
    "other",
    [
        replace(KNOWN, as_of=NOW + np.timedelta64(1, "s")),
        replace(KNOWN, site=replace(KNOWN.site, ac_capacity_kw=3.06)),
        replace(KNOWN, weather=None),
        replace(KNOWN, weather=replace(RUN, available_at=NOW - HOUR)),
        replace(KNOWN, history=History(KNOWN.history.valid_at, np.nextafter(KNOWN.history.power_kw, 9.0))),
    ],
    ids=["as_of", "site", "no weather", "run", "power"],
)
def test_other_content_has_other_bytes(other: Known) -> None:
    assert snapshot.encode(other) != snapshot.encode(KNOWN)
