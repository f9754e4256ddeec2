"""Mapping files: what foreign senders' messages become, and that a wrong file is told where it is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pvforecast.errors import InvalidInput
from pvforecast.sources import scada_rest
from pvforecast.telemetry import mapping
from pvforecast.telemetry.topics import Pattern
from pvforecast.telemetry.translate import Message, Reading, Refused, Translator

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "telemetry"
NOON = datetime(2026, 8, 1, 12, 0, 10, tzinfo=UTC)


def us(moment: datetime) -> int:
    return round(moment.timestamp()) * 1_000_000


def translator(name: str) -> Translator:
    return Translator(mapping.load(EXAMPLES / f"{name}.yaml"), {"roof-7": 100.0})


def only(found: list[Reading] | Refused) -> Reading:
    assert isinstance(found, list), found
    assert len(found) == 1
    return found[0]


def test_victron_counts_as_measured_when_it_arrives() -> None:
    message = Message("N/c0619ab12345/pvinverter/20/Ac/Power", b'{"value": 936}', us(NOON), 14)
    reading = only(translator("victron").translate(message))
    assert (reading.park_id, reading.inverter_id, reading.power_kw) == ("roof-7", "20", 0.936)
    assert reading.measured_at == us(NOON.replace(second=0))
    assert reading.source == "mqtt:victron"


def test_victrons_null_is_no_value_and_no_fault() -> None:
    message = Message("N/c0619ab12345/pvinverter/20/Ac/Power", b'{"value": null}', us(NOON), 15)
    assert translator("victron").translate(message) == []


def test_opendtus_payload_is_the_number_and_retained_ones_are_set_aside() -> None:
    message = Message("solar/114180/0/power", b"512.5", us(NOON), 5)
    assert only(translator("opendtu").translate(message)).power_kw == 0.5125
    refused = translator("opendtu").translate(message._replace(retained=True))
    assert isinstance(refused, Refused)
    assert "retained" in refused.reason


def test_sunspecs_scale_factor_and_end_label_are_applied() -> None:
    payload = b'{"ts": 1785585600, "W": 12345, "W_SF": -1, "WH": 4294967290}'
    reading = only(translator("sunspec").translate(Message("sunspec/roof-7/inv-1/103", payload, us(NOON), 60)))
    assert reading.power_kw == pytest.approx(1.2345)
    assert reading.energy_total_kwh == pytest.approx(4294967.290)
    assert reading.measured_at == (1785585600 - 300) * 1_000_000
    assert reading.period_s == 300


def test_home_assistants_counter_becomes_mean_power_in_local_time() -> None:
    reader = translator("home-assistant")
    found: list[Reading] = []
    for minute, total in ((0, "1234.0"), (4, "1234.4"), (6, "1234.6"), (10, "1235.4")):
        text = json.dumps({"state": total, "last_updated": f"2026-08-01T13:{minute:02d}:00"}).encode()
        outcome = reader.translate(Message("homeassistant/sensor/meter/energy", text, us(NOON), len(text)))
        assert isinstance(outcome, list), outcome
        found += outcome
    assert [reading.measured_at for reading in found] == [
        us(datetime(2026, 8, 1, 11, 0, tzinfo=UTC)),  # 13:00 in Amsterdam
        us(datetime(2026, 8, 1, 11, 5, tzinfo=UTC)),
    ]
    assert [reading.power_kw for reading in found] == [pytest.approx(6.0), pytest.approx(10.8)]


@pytest.mark.parametrize("hour", ["2026-03-29T02:30:00", "2026-10-25T02:30:00"])
def test_a_local_time_that_is_not_just_one_instant_is_refused(hour: str) -> None:
    text = json.dumps({"state": "1", "last_updated": hour}).encode()
    outcome = translator("home-assistant").translate(Message("homeassistant/sensor/m/energy", text, us(NOON), 50))
    assert isinstance(outcome, Refused)
    assert "in Europe/Amsterdam: send an offset" in outcome.reason


def test_the_rest_example_is_read() -> None:
    (source,) = scada_rest.load(EXAMPLES / "rest.yaml")
    assert source.parks == {"roof-7": "4711"}


def test_the_canonical_topic_is_read_beside_foreign_ones() -> None:
    topics = [rule.topic for rule in mapping.load(EXAMPLES / "victron.yaml").rules]
    assert topics == ["N/{park}/pvinverter/{device}/Ac/Power", "pv/{park}/{device}/telemetry"]


RULE = {"name": "x", "topic": "a/{park}/{device}", "power": {"path": "p", "unit": "W"}}


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"power": {"path": "p", "unit": "GW"}}, "rules.0.power.unit", "'W', 'kW' or 'MW'"),
        ({"power": {"path": "p..q", "unit": "W"}}, "rules.0.power.path", "keys by dots"),
        ({"topic": "a/{plant}/x"}, "rules.0.topic", "{plant} is no place"),
        ({"topic": "a/#/x"}, "rules.0.topic", "# may only stand at the end"),
        ({"topic": "a/{park}/x"}, "", "device must stand in the topic as {device} or be given"),
        ({"park": "roof-7"}, "", "park must stand in the topic"),
        ({"period_s": 42}, "rules.0.period_s", "one of 60, 300"),
        ({"time": {"path": "t", "timezone": "Mars/Olympus"}}, "rules.0.time.timezone", "no IANA time zone"),
        ({"values": "counter"}, "rules.0", "needs energy_total"),
        ({"colour": "red"}, "rules.0.colour", "not permitted"),
    ],
)
def test_a_wrong_mapping_names_its_field(tmp_path: Path, change: dict[str, object], field: str, said: str) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(json.dumps({"version": 1, "rules": [{**RULE, **change}]}))
    with pytest.raises(InvalidInput) as caught:
        mapping.load(file)
    assert caught.value.field == (f"{file}: {field}" if field else str(file))
    assert said in caught.value.message


@pytest.mark.parametrize("content", [b"\xff\xfe", b"rules: [", b"", b"42", b'{"version": 2, "rules": []}'])
def test_a_file_that_is_no_mapping_is_an_error_and_no_traceback(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidInput):
        mapping.load(file)
    with pytest.raises(InvalidInput):
        mapping.load(tmp_path / "absent.yaml")


def test_a_pattern_subscribes_and_matches() -> None:
    pattern = Pattern.parse("N/{park}/+/{device}/#")
    assert pattern.filter == "N/+/+/+/#"
    assert pattern.match("N/p/x/d/a/b") == {"park": "p", "device": "d"}
    assert pattern.match("N/p/x") is None
    assert Pattern.parse("a/{park}").match("a/b/c") is None
