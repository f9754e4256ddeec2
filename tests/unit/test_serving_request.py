"""How a request body is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.transformer.clock import SKEW, Clock
from inference.transformer.request import MAX_HORIZON_HOURS, parse, to_utc64
from inference.transformer.snapshots import Snapshot, plausible
from pvforecast.errors import InvalidInput
from tests.bundles import NOW, record, site

FIELDS = ("park_id", "horizon_hours", "issued_at", "weather", "quantiles", "valid_at", "ghi", "instances", "x")
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["sim-a", "2013-06-01T00:00Z"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


@given(values | st.fixed_dictionaries({"instances": st.lists(values, max_size=3)}) | st.binary())
@settings(max_examples=300, deadline=None)
def test_whatever_comes_it_is_read_or_refused_with_field_and_hint(body: Any) -> None:
    try:
        instances = parse(body)
    except InvalidInput as refused:
        complete = bool(refused.field and refused.hint and refused.message)
    else:
        complete = all(one.horizon_hours is None or 1 <= one.horizon_hours <= MAX_HORIZON_HOURS for one in instances)
    assert complete


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001  # hypothesis wants naive bounds
def test_an_instant_is_the_same_in_every_zone(naive: datetime, offset_minutes: int) -> None:
    instant = naive.replace(tzinfo=UTC)
    local = instant.astimezone(timezone(timedelta(minutes=offset_minutes))).isoformat()
    [instance] = parse({"instances": [{"park_id": "p", "issued_at": local}]})
    assert instance.issued_at == instant
    assert to_utc64(instance.issued_at) == np.datetime64(naive.replace(microsecond=0), "s")


def test_a_callers_weather_becomes_a_run_known_at_the_issue_time() -> None:
    hours = ["2013-06-01T05:00:00+05:00", "2013-06-01T01:00:00Z"]
    body = {"instances": [{"park_id": "p", "weather": {"valid_at": hours, "ghi": [1, None], "temp_air": [2.5, 3]}}]}
    [instance] = parse(json.dumps(body).encode())
    assert instance.weather is not None
    run = instance.weather.as_run(NOW)
    assert (run.run_at, run.available_at) == (NOW, NOW)
    np.testing.assert_array_equal(run.valid_at, np.array(["2013-06-01T00", "2013-06-01T01"], "datetime64[s]"))
    np.testing.assert_array_equal(run.variables["ghi"], [1.0, np.nan])
    assert set(run.variables) == {"ghi", "temp_air"}


@pytest.mark.parametrize("between", ["\x00", "\n", "\u2003"])
def test_a_time_holds_nothing_that_the_log_cannot_keep(between: str) -> None:
    with pytest.raises(InvalidInput, match="issued_at"):
        parse({"instances": [{"park_id": "p", "issued_at": f"2013-06-01{between}06:00:00Z"}]})


@pytest.mark.parametrize("park_id", ["..", ".", "a/b", "a b", "ä", "a\n", "%2e%2e", "a\\b", ""])
def test_what_cannot_be_part_of_a_key_is_no_park(park_id: str) -> None:
    assert not plausible(park_id)
    assert plausible("pvdaq-50")


def test_now_is_the_machines_clock_or_the_newest_snapshot() -> None:
    newest = Snapshot("s", record(site()).known_at(NOW))
    assert Clock("snapshot").issue_time(None, newest, "f") == NOW
    asked = Clock("system").issue_time(None, newest, "f")
    assert asked == asked.astype("datetime64[m]")
    assert abs(asked - to_utc64(datetime.now(UTC))) < np.timedelta64(65, "s")


def test_a_snapshot_of_a_machine_that_is_ahead_is_still_asked() -> None:
    ahead = to_utc64(datetime.now(UTC)) + np.timedelta64(60, "s")
    assert Clock("system").issue_time(None, Snapshot("s", record(site()).known_at(ahead)), "f") == ahead


def test_a_small_skew_is_allowed_and_no_more() -> None:
    newest = Snapshot("s", record(site()).known_at(NOW))
    now = datetime.fromisoformat(f"{NOW}Z")
    skew = timedelta(seconds=int(SKEW.astype(int)))
    assert Clock("snapshot").issue_time(now + skew, newest, "f") == NOW + SKEW
    with pytest.raises(InvalidInput, match="future") as caught:
        Clock("snapshot").issue_time(now + skew + timedelta(seconds=1), newest, "f")
    assert caught.value.field == "f"
