"""From a planted fault to a message: real Prometheus, real Alertmanager, the committed rules, routes and templates.

Only waiting times are shortened, and the addresses of Slack and PagerDuty are those of a local server.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from pvf.monitoring import rules
from tests.contract.tree import ROOT
from tests.debian import requires_debian
from tests.monitoring import alertmanager, prometheus
from tests.receiver import Posted, Receiver
from tests.retrain_trigger import until

pytestmark = requires_debian("prometheus", "prometheus-alertmanager")
FOLDER = ROOT / "kustomize" / "components" / "monitoring" / "alertmanager"
DRIFT = (
    'pvf_drift_open{park="park-a",severity="critical",cause="outage",advice="fix_data",event_id="e1",'
    'evidence="power_ratio 0.01, since 2026-03-01"} 1\n'
)
STALE = "pvf_parks 100\npvf_parks_stale_weather 100\n"
ALIVE = "pvf_lake_up 1\npvf_retrain_database_up 1\n"
DEAD = "pvf_lake_up 0\npvf_retrain_database_up 1\n"
WAIT_S = 120.0


class Exporter:
    """Shows Prometheus whatever text it is given."""

    def __init__(self) -> None:
        self.text = ""
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.text.encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_unused: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"


@dataclass(frozen=True)
class World:
    """A platform of which we choose the metrics, and people of whom we see what they are told."""

    exporter: Exporter
    receiver: Receiver
    manager: str

    def suppressed(self, alert: str) -> bool:
        """Whether Alertmanager has this alert and holds it back."""
        found = httpx.get(f"{self.manager}/api/v2/alerts", params={"filter": f"alertname={alert}"}, timeout=30).json()
        return any(one["status"]["inhibitedBy"] for one in found)

    def told(self, path: str, what: str) -> list[Posted]:
        return [posted for posted in self.receiver.posted if posted.path == path and what in posted.body.decode()]


def _config(folder: Path, url: str) -> str:
    """The committed configuration with short waits, our addresses and no mail server."""
    (folder / "slack-url").write_text(f"{url}/slack")
    (folder / "pagerduty-key").write_text("0123456789abcdef0123456789abcdef")
    text = (FOLDER / "alertmanager.yaml").read_text()
    for old, new in (
        ("/etc/alertmanager/config/", f"{FOLDER}/"),
        ("/etc/alertmanager/secrets/pvforecast-alert-keys/", f"{folder}/"),
        ("https://events.pagerduty.com/v2/enqueue", f"{url}/pagerduty"),
        ("https://dead-mans-switch.example.org/pvforecast", f"{url}/dead-mans-switch"),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"(group_wait|group_interval): \d+[sm]", r"\1: 1s", text)
    config = yaml.safe_load(text)
    for receiver in config["receivers"]:
        receiver.pop("email_configs", None)
    return yaml.safe_dump(config)


def _hurried() -> list[dict[str, Any]]:
    """The rules, without waiting for a fault to last."""
    groups = rules.groups()
    for group in groups:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule.pop("for", None)
    return groups


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("alerts")
    exporter = Exporter()
    exporter.text = ALIVE
    threading.Thread(target=exporter.server.serve_forever, args=(0.05,), daemon=True).start()
    with (
        Receiver() as receiver,
        alertmanager(folder / "am", _config(folder, receiver.url)) as manager,
        prometheus(folder / "prom", {"pvf-all": (exporter.address, "/metrics")}, _hurried(), manager),
    ):
        yield World(exporter, receiver, manager)
    exporter.server.shutdown()
    exporter.server.server_close()


def test_a_drifted_park_is_told_with_cause_evidence_next_step_and_resolved(world: World) -> None:
    world.exporter.text = ALIVE + DRIFT
    until(lambda: bool(world.told("/pagerduty", "DriftDetected") and world.told("/slack", "DriftDetected")), WAIT_S)
    page = json.loads(world.told("/pagerduty", "DriftDetected")[0].body)
    assert (page["event_action"], page["payload"]["severity"]) == ("trigger", "critical")
    assert page["routing_key"] == "0123456789abcdef0123456789abcdef"
    (attachment,) = json.loads(world.told("/slack", "DriftDetected")[0].body)["attachments"]
    assert attachment["title"] == "[FIRING 1] DriftDetected park-a"
    for text in (attachment["text"], page["payload"]["custom_details"]["text"]):
        assert "Park: park-a\nCause: outage\nEvidence: power_ratio 0.01, since 2026-03-01\n" in text
        assert "Next step: repair the data: its hours are kept from training\n" in text
        assert "/docs/runbooks/DriftDetected.md" in text
    world.exporter.text = ALIVE + DRIFT.replace("} 1", "} 0")
    until(lambda: bool(world.told("/pagerduty", '"resolve"')), WAIT_S)


def test_a_hundred_parks_with_one_cause_are_one_message(world: World) -> None:
    many = "".join(
        DRIFT.replace("park-a", f"many-{at}").replace("outage", "provider_bias").replace("critical", "warning")
        for at in range(100)
    )
    world.exporter.text = ALIVE + many
    until(lambda: bool(world.told("/slack", "many-99")), WAIT_S)
    assert len(world.told("/slack", "many-99")) == 1
    assert world.told("/pagerduty", "many-") == []


def test_the_object_store_down_silences_what_follows_from_it(world: World) -> None:
    world.exporter.text = DEAD
    until(lambda: bool(world.told("/pagerduty", "ObjectStoreDown")), WAIT_S)
    world.exporter.text = DEAD + STALE
    until(lambda: world.suppressed("WeatherStale"), WAIT_S)
    assert world.told("/slack", "WeatherStale") == []
    assert world.told("/dead-mans-switch", "DeadMansSwitch")  # alerting itself goes on
    assert not world.suppressed("DeadMansSwitch")
    world.exporter.text = ALIVE + STALE
    until(lambda: bool(world.told("/slack", "WeatherStale")), WAIT_S)
