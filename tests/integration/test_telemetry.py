"""The telemetry service with a real broker and a real object store: what plants send, and what breaks."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.lake import mqtt as bench
from benchmarks.lake.rig import Rig, fleet_of, register, rig
from pvf.stack import mosquitto
from pvforecast import quarantine, snapshot
from pvforecast.lake.tables import GENERATION, RAW_GENERATION
from tests.debian import requires_debian

pytestmark = [pytest.mark.stack, pytest.mark.debian, requires_debian("mosquitto")]

OPTIONS = {
    "PVF_MQTT_FLUSH_S": "0.5",
    "PVF_MQTT_REFRESH_S": "2",
    "PVF_MQTT_QUARANTINE_PER_MINUTE": "30",
    "PVF_MQTT_TAKEOVER_PAUSE_S": "1",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Rig]:
    with rig(OPTIONS, message_bytes=0) as made:
        made.start("seaweedfs")
        register(made.lake, fleet_of(12, time.time()))
        made.start("mosquitto")
        made.start("telemetry")
        yield made


@pytest.fixture
def plant(servers: Rig) -> Iterator[mqtt.Client]:
    client = connect(servers, "a-plant", "plant", mosquitto.passwords(servers.home).plant)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def connect(servers: Rig, name: str, user: str, password: str, **more: Any) -> mqtt.Client:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.connect("127.0.0.1", servers.port, **more)
    return client


def publish(client: mqtt.Client, park: str, payload: Any, device: str = "inv-1") -> None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload)
    client.publish(f"pv/{park}/{device}/telemetry", data, qos=1).wait_for_publish(30)


def rows(servers: Rig, park: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = servers.lake.read(RAW_GENERATION, park_id=park).to_pylist()
    return found


def ask(servers: Rig, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{servers.settings.telemetry_url}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metric(servers: Rig, name: str) -> float:
    text = ask(servers, "/metrics")[1]
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"pvf_telemetry_{name} "))


def eventually(holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def full_hour(servers: Rig, client: mqtt.Client, park: str, kw: float) -> int:
    """Sixty samples of the hour before the last; returns its start in ms."""
    begin = (int(time.time()) // 3600 - 2) * 3_600_000
    for minute in range(60):
        sample = {"v": 1, "ts": begin + minute * 60_000, "p_ac_w": kw * 1000 + minute - 29.5}
        last = client.publish(f"pv/{park}/inv-1/telemetry", json.dumps(sample), qos=1)
    last.wait_for_publish(10)
    return begin


def test_a_plants_hour_is_stored_rolled_up_and_in_the_snapshot(servers: Rig, plant: mqtt.Client) -> None:
    begin = full_hour(servers, plant, "sim-001", 40.0)
    eventually(lambda: len(rows(servers, "sim-001")) == 60)
    eventually(lambda: len(servers.lake.read(GENERATION, park_id="sim-001")))
    (hour,) = (r for r in servers.lake.read(GENERATION, park_id="sim-001").to_pylist() if r["period_s"] == 3600)
    assert hour["power_kw"] == pytest.approx(40.0)
    entry = eventually(lambda: snapshot.latest_entry(servers.store, "sim-001"))
    history = snapshot.read(servers.store, "sim-001", entry["snapshot_id"]).history
    assert history.valid_at.astype("datetime64[ms]").astype(int).tolist() == [begin]
    assert eventually(lambda: ask(servers, "/readyz")[0] == 200)
    assert ask(servers, "/healthz")[0] == 200


def test_poison_is_held_and_never_blocks_what_comes_behind(servers: Rig, plant: mqtt.Client) -> None:
    now = int(time.time() * 1000)
    good = {"ts": now, "p_ac_w": 1000}
    for payload in (b"\0\xff", b"[" * 20_000, b"", {**good, "p_ac_w": "NaN"}, {**good, "ts": now + 10**9}, good):
        publish(plant, "sim-002", payload)
    publish(plant, "../../etc", good)
    publish(plant, "sim-002", good, device="..")
    eventually(lambda: len(rows(servers, "sim-002")) == 1)
    eventually(lambda: metric(servers, "unacknowledged") == 0)
    reasons = [row["reason"] for row in quarantine.held(servers.lake) if row["park_id"] == "sim-002"]
    assert len(reasons) == 6
    assert any(" s after it arrived" in reason for reason in reasons)


def test_a_payload_of_100_megabytes_is_let_go_at_once(servers: Rig, plant: mqtt.Client) -> None:
    publish(plant, "sim-003", b"x" * 100_000_000)
    publish(plant, "sim-003", {"ts": int(time.time() * 1000), "p_ac_w": 1000})
    eventually(lambda: len(rows(servers, "sim-003")) == 1)
    (held,) = eventually(lambda: quarantine.held(servers.lake, park_id="sim-003"))  # after the rows beside it
    assert "100000000 bytes" in held["reason"]
    assert len(held["payload"]) <= 4000


def test_a_flood_of_poison_is_bounded_and_counted(servers: Rig, plant: mqtt.Client) -> None:
    before = metric(servers, "quarantined_total")
    for number in range(300):
        last = plant.publish("pv/sim-004/inv-1/telemetry", f"poison {number}", qos=1)
    last.wait_for_publish(10)
    eventually(lambda: metric(servers, "quarantined_total") == before + 300)
    eventually(lambda: metric(servers, "unacknowledged") == 0)
    assert len(quarantine.held(servers.lake, park_id="sim-004")) <= 60  # of two minutes at most
    assert metric(servers, "quarantine_not_kept_total") >= 200


def test_a_restart_stores_what_is_at_hand_and_misses_nothing(servers: Rig, plant: mqtt.Client) -> None:
    """And of a topic that is published retained, the live message is a measurement, the broker's stored one is not."""
    now = int(time.time() * 1000)
    sample = json.dumps({"ts": now, "p_ac_w": 1000})
    plant.publish("pv/sim-005/inv-1/telemetry", sample, qos=1, retain=True).wait_for_publish(5)
    for minute in range(500):
        sample = json.dumps({"ts": now - minute * 60_000, "p_ac_w": 1})
        last = plant.publish("pv/sim-006/inv-1/telemetry", sample, qos=1)
    last.wait_for_publish(10)
    servers.stop("telemetry")
    publish(plant, "sim-006", {"ts": now - 600 * 60_000, "p_ac_w": 2})  # the session waits for the service
    servers.start("telemetry")
    eventually(lambda: len(rows(servers, "sim-006")) >= 501)
    assert len(rows(servers, "sim-006")) == 501
    assert len(rows(servers, "sim-005")) == 1


def test_while_the_lake_is_away_nothing_is_acknowledged(servers: Rig, plant: mqtt.Client) -> None:
    servers.stop("seaweedfs")
    publish(plant, "sim-007", {"ts": int(time.time() * 1000), "p_ac_w": 1000})
    assert eventually(lambda: "lake" in json.loads(ask(servers, "/readyz")[1]))
    assert metric(servers, "unacknowledged") >= 1
    assert ask(servers, "/healthz")[0] == 200
    servers.start("seaweedfs")
    eventually(lambda: len(rows(servers, "sim-007")) == 1, 60)
    eventually(lambda: metric(servers, "unacknowledged") == 0)


def test_a_second_process_with_its_client_id_is_noticed_and_said(servers: Rig, plant: mqtt.Client) -> None:
    eventually(lambda: metric(servers, "connected") == 1)
    other_session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    other_session.SessionExpiryInterval = 3600
    password = mosquitto.passwords(servers.home).ingest
    other = connect(servers, "pvf-telemetry", "ingest", password, clean_start=False, properties=other_session)
    other.loop_start()  # it takes the session back each time it loses it
    eventually(lambda: metric(servers, "takeovers_total") >= 1)
    log = (servers.home / "log" / "telemetry.log").read_text()
    assert "another process took the session of client id 'pvf-telemetry'" in log
    other.disconnect()
    other.loop_stop()
    eventually(lambda: metric(servers, "connected") == 1)
    publish(plant, "sim-008", {"ts": int(time.time() * 1000), "p_ac_w": 1000})
    eventually(lambda: len(rows(servers, "sim-008")) >= 1)


def test_the_broker_wants_a_password_and_lets_plants_only_write(servers: Rig) -> None:
    refused: list[Any] = []
    stranger = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "stranger", protocol=mqtt.MQTTv5)
    stranger.on_connect = lambda _c, _u, _f, reason, _p: refused.append(reason)
    stranger.connect("127.0.0.1", servers.port)
    stranger.loop_start()
    eventually(lambda: refused)
    stranger.disconnect()
    stranger.loop_stop()
    assert refused[0].is_failure


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_service_broker_and_store_fail() -> None:
    found = bench.faults(bench.SHORT)
    assert found["mqtt_lost"] == 0
    assert found["mqtt_duplicated_rows"] == 0
    assert found["processed_hours_missing"] == 0
    assert found["drain_seconds"] < 120
    assert found["hours_in_snapshots"] == 1
    assert found["peak_rss_mb"]["service"] < 800
