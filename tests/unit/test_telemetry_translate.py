"""Canonical messages: what a good one becomes, and that no bad one passes or raises."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.telemetry import rows
from pvforecast.telemetry.mapping import CANONICAL
from pvforecast.telemetry.translate import Message, Reading, Refused, Translator

NOW = int(time.time()) * 1_000_000
TOPIC = "pv/roof-7/inv-1/telemetry"
GOOD = {"v": 1, "site": "roof-7", "dev": "inv-1", "ts": NOW // 1000, "seq": 1, "p_ac_w": 5000, "e_total_wh": 123456}


def translate(payload: Any, topic: str = TOPIC, **more: Any) -> list[Reading] | Refused:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    made = Message(topic, data, NOW, len(data))._replace(**more)
    return Translator(CANONICAL, {"roof-7": 10.0}).translate(made)


def test_a_good_message_is_a_row_in_kw_at_the_start_of_its_minute() -> None:
    (reading,) = translate({**GOOD, "export_limit_w": 8000, "curtailed": True, "available_fraction": 0.5})  # type: ignore[misc]
    assert reading == Reading(
        "roof-7", "inv-1", NOW - NOW % 60_000_000, 60, 5.0, 123.456, 0.5, 8.0, True, NOW, "mqtt"
    )  # fmt: skip


BAD: list[tuple[str, Any, str]] = [
    ("no JSON", b"12:00;5000", "no JSON"),
    ("empty", b"", "no JSON"),
    ("cut", b'{"v": 1, "p_ac', "no JSON"),
    ("not UTF-8", b"\xff\xfe{}", "no JSON"),
    ("NaN", b'{"p_ac_w": NaN}', "no JSON"),
    ("infinity", b'{"p_ac_w": Infinity}', "no JSON"),
    ("deep", b"[" * 5000 + b"]" * 5000, "no JSON"),
    ("a list", [1, 2], "ts is None"),
    ("a text", "hello", "ts is None"),
    ("null", None, "ts is None"),
    ("no power", {k: v for k, v in GOOD.items() if k != "p_ac_w"}, "p_ac_w is missing"),
    ("power as text", {**GOOD, "p_ac_w": "5000"}, "p_ac_w is text"),
    ("power as boolean", {**GOOD, "p_ac_w": True}, "p_ac_w is a boolean"),
    ("power as list", {**GOOD, "p_ac_w": [5000]}, "p_ac_w is a list"),
    ("huge power", {**GOOD, "p_ac_w": 1e300}, "p_ac_w is 1e+300: beyond"),
    ("overflowing power", json.dumps(GOOD).replace("5000", "1e999").encode(), ""),
    ("a number of 400 digits", json.dumps(GOOD).replace("5000", "9" * 400).encode(), ""),
    ("a number of 5,000 digits", json.dumps(GOOD).replace("5000", "9" * 5000).encode(), ""),
    ("huge energy", {**GOOD, "e_total_wh": 1e30}, "e_total_wh"),
    ("no time", {k: v for k, v in GOOD.items() if k != "ts"}, "ts is None"),
    ("time as text", {**GOOD, "ts": "now"}, "ts is 'now'"),
    ("time in seconds", {**GOOD, "ts": NOW // 1_000_000}, "days ago"),
    ("time in the future", {**GOOD, "ts": NOW // 1000 + 3_600_000}, "3600 s after it arrived"),
    ("negative time", {**GOOD, "ts": -5}, "no instant"),
    ("endless time", {**GOOD, "ts": 10**30}, "not a number of ms"),
    ("another site", {**GOOD, "site": "roof-8"}, "site is 'roof-8'"),
    ("another device", {**GOOD, "dev": ["inv-1"]}, "dev is"),
    ("bad quality", {**GOOD, "q": "stale"}, "q is 'stale'"),
    ("unhashable quality", {**GOOD, "q": {"a": []}}, "q is"),
    ("another version", {**GOOD, "v": 2}, "v is '2'"),
    ("curtailed as number", {**GOOD, "curtailed": 1}, "curtailed is"),
    ("negative availability", {**GOOD, "available_fraction": -0.5}, "available_fraction"),
    ("availability in percent", {**GOOD, "available_fraction": 95}, "available_fraction"),
]


@pytest.mark.parametrize(("payload", "said"), [(p, s) for _, p, s in BAD], ids=[name for name, _, _ in BAD])
def test_a_bad_payload_is_refused_with_its_field(payload: Any, said: str) -> None:
    outcome = translate(payload)
    assert isinstance(outcome, Refused)
    assert said in outcome.reason
    assert len(outcome.reason) < 300


@pytest.mark.parametrize(
    "topic",
    ["pv/../inv-1/telemetry", "pv/ROOF-7/inv-1/telemetry", "pv//inv-1/telemetry", "pv/roof-7//telemetry",
     "pv/roof-7/..%2f/telemetry", "pv/roof-7/a b/telemetry", "pv/roof-7/" + "x" * 200 + "/telemetry", "other", ""],
)  # fmt: skip
def test_a_topic_that_names_no_park_or_device_is_refused(topic: str) -> None:
    assert isinstance(translate(GOOD, topic), Refused)


def test_a_retained_message_and_a_cut_one_are_refused() -> None:
    assert "retained" in translate(GOOD, retained=True).reason  # type: ignore[union-attr]
    assert "104857600 bytes" in translate(GOOD, size=104_857_600).reason  # type: ignore[union-attr]


def test_what_was_refused_can_be_stored_whatever_it_was() -> None:
    held = rows.rejected(Message("pv/\0/x", b"\0\xff" * 9000, NOW, 18_000), Refused("\ud800 and \0", "roof-7"))
    for text in (held.origin, held.reason, held.payload):
        assert "\0" not in text
        text.encode()
    assert len(held.payload) <= 4000


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.sampled_from([*GOOD, "q", "curtailed", "export_limit_w", "available_fraction"]), json_values))
def test_no_payload_raises_and_no_reading_is_out_of_range(some: dict[str, Any]) -> None:
    outcome = translate({**GOOD, **some})
    if isinstance(outcome, list):
        for reading in outcome:
            assert math.isfinite(reading.power_kw)
            assert abs(reading.power_kw) <= 5e6
            assert NOW - 31 * 86_400_000_000 < reading.measured_at <= NOW + 300_000_000
        assert len(rows.frame(outcome)) == len(outcome)


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_no_bytes_raise(payload: bytes) -> None:
    assert isinstance(translate(payload), Refused)


def test_readings_are_rows_of_the_raw_table() -> None:
    outcome = translate(GOOD)
    assert isinstance(outcome, list)
    frame = rows.frame(outcome * 2)
    assert set(frame) <= set(RAW_GENERATION.schema.names)
    assert str(frame["measured_at"].dt.tz) == "UTC"
    assert rows.frame([]).empty
