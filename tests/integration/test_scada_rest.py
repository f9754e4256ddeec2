"""SCADA by REST, against a real local server that fails in all the ways servers fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from inference.ingest.poller import Poller
from pvforecast import quarantine
from pvforecast.errors import DataError, InvalidInput, NotReady
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.parks import Park
from pvforecast.quarantine import Rejected
from pvforecast.sources import scada_rest
from pvforecast.sources.fetching import Patience
from pvforecast.sources.scada_rest import RestSource, ScadaRest

NOW = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)
PARK = Park(
    id="roof-7", name="roof", latitude=52, longitude=5, elevation_m=0, timezone="Europe/Amsterdam", ac_capacity_kw=100,
    surface_tilt=30, surface_azimuth=180, source="rest:scada",
)  # fmt: skip
FAST = Patience(attempts=3, timeout_s=0.5, first_pause_s=0.01, longest_pause_s=0.2)

Fault = Callable[["_Handler"], bool]


class _Handler(BaseHTTPRequestHandler):
    """Serves `server.items` by time, two a page; `server.faults` come first."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.keys.append(self.headers.get("Authorization"))
        if self.server.faults and self.server.faults.pop(0)(self):
            return
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        since, until = (datetime.fromisoformat(query[name]) for name in ("from", "to"))
        found = [one for one in self.server.items if since <= datetime.fromisoformat(one["end"]) <= until]
        at = int(query.get("cursor", "0"))
        page: dict[str, Any] = {"data": found[at : at + 2]}
        if at + 2 < len(found):
            page["next_cursor"] = at + 2
        self.answer(200, json.dumps(page).encode())

    def answer(self, status: int, body: bytes, **headers: str) -> bool:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        return True

    def log_message(self, format: str, *args: Any) -> None:
        return


def status(code: int, **headers: str) -> Fault:
    return lambda handler: handler.answer(code, b"sorry", **headers)


def truncated(handler: _Handler) -> bool:
    return handler.answer(200, b'{"data": [{"inverter": "a", "kw": 1')


def broken_off(handler: _Handler) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.close_connection = True
    return True


def silent(handler: _Handler) -> bool:
    handler.server.stopping.wait(1.0)
    handler.close_connection = True
    return True


def html(handler: _Handler) -> bool:
    return handler.answer(200, b"<html>maintenance</html>")


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made.items, made.faults, made.asked, made.keys = [], [], [], []
    made.stopping = threading.Event()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    made.stopping.set()
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))


def item(minutes_ago: int, kw: float = 50.0, inverter: object = "a") -> dict[str, Any]:
    return {"inverter": inverter, "end": (NOW - timedelta(minutes=minutes_ago)).isoformat(), "kw": kw}


def config(server: Any, **more: Any) -> RestSource:
    fields = {
        "name": "scada",
        "url": f"http://127.0.0.1:{server.server_port}/sites/{{park}}/power",
        "items": "data",
        "next": {"path": "next_cursor", "param": "cursor"},
        "parks": {"roof-7": "47/11"},
        "device_path": "inverter",
        "overlap_s": 3600,
        "rule": {
            "name": "scada",
            "power": {"path": "kw", "unit": "kW"},
            "time": {"path": "end"},
            "values": "mean",
            "label": "end",
            "period_s": 900,
        },
    }
    return RestSource.model_validate({**fields, **more})


def poll(server: Any, lake: Lake, now: datetime = NOW, rejected: list[Rejected] | None = None, **more: Any) -> int:
    held = rejected if rejected is not None else []
    source = ScadaRest(config(server, **more), on_rejected=held.extend, patience=FAST, now=lambda: now)
    return scada_rest.poll(lake, source, PARK, now).rows


def test_all_pages_come_as_means_labelled_by_their_start(server: Any, lake: Lake) -> None:
    server.items = [item(15 * k, kw=float(k)) for k in range(1, 8)]
    assert poll(server, lake) == 7
    assert len(server.asked) == 4
    assert server.asked[0].startswith("/sites/47%2F11/power?from=2026-07-30T12")
    rows = lake.read(RAW_GENERATION).to_pylist()
    assert rows[-1]["measured_at"] == NOW - timedelta(minutes=30)
    assert (rows[-1]["power_kw"], rows[-1]["period_s"], rows[-1]["source"]) == (1.0, 900, "rest:scada")
    assert rows[-1]["received_at"] == NOW


def test_a_poll_adds_what_is_new_late_or_corrected_and_nothing_twice(server: Any, lake: Lake) -> None:
    server.items = [item(60), item(30)]
    assert poll(server, lake) == 2
    assert poll(server, lake, NOW + timedelta(minutes=5)) == 0
    server.items += [item(45), item(-15)]  # one late, one new
    server.items[1] = item(30, kw=12.0)  # one corrected
    assert poll(server, lake, NOW + timedelta(minutes=20)) == 3
    assert poll(server, lake, NOW + timedelta(minutes=25)) == 0
    assert "from=2026-08-01T11" in server.asked[-1]  # the overlap before the newest row, not the first look
    assert len(lake.read(RAW_GENERATION)) == 5


@pytest.mark.parametrize(
    "fault", [status(500), status(503), status(429, Retry_After="0"), truncated, broken_off, silent, html]
)
def test_a_fault_that_passes_costs_nothing(server: Any, lake: Lake, fault: Fault) -> None:
    server.items = [item(15 * k) for k in range(1, 4)]
    server.faults = [lambda _handler: False, fault]  # in the middle of the pages
    assert poll(server, lake) == 3


@pytest.mark.parametrize(
    ("fault", "error"), [(status(500), NotReady), (truncated, DataError), (status(401), InvalidInput)]
)
def test_a_fault_that_stays_stores_nothing_and_the_next_poll_has_it_all(
    server: Any, lake: Lake, fault: Fault, error: type[Exception]
) -> None:
    server.items = [item(15 * k) for k in range(1, 4)]
    server.faults = [lambda _handler: False, fault, fault, fault]
    with pytest.raises(error):
        poll(server, lake)
    assert len(lake.read(RAW_GENERATION)) == 0
    server.faults = []
    assert poll(server, lake) == 3


def test_a_wrong_item_is_held_with_its_place_and_the_others_are_stored(server: Any, lake: Lake) -> None:
    server.items = [item(15), {**item(30), "kw": "fifty"}, item(45, inverter="../b"), {**item(60), "kw": 1e12}]
    held: list[Rejected] = []
    assert poll(server, lake, rejected=held) == 1
    assert [(one.origin, one.source) for one in held] == [
        ("/sites/47%2F11/power item 1", "rest:scada"),
        ("/sites/47%2F11/power item 0", "rest:scada"),
        ("/sites/47%2F11/power item 1", "rest:scada"),
    ]
    assert "kw is text" in held[0].reason


def test_the_key_goes_into_its_header_and_nowhere_else(
    server: Any, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="SCADA_KEY"):
        poll(server, lake, key_variable="SCADA_KEY")
    monkeypatch.setenv("SCADA_KEY", "very-secret")
    server.faults = [status(403)]
    with pytest.raises(InvalidInput) as caught:
        poll(server, lake, key_variable="SCADA_KEY")
    assert server.keys == ["Bearer very-secret"]
    assert "very-secret" not in str(caught.value) + server.asked[0]


def test_pages_may_not_lead_to_another_server_or_in_circles(server: Any, lake: Lake) -> None:
    def elsewhere(handler: _Handler) -> bool:
        return handler.answer(200, b'{"data": [], "next": "http://127.0.0.1:1/x"}')

    def circle(handler: _Handler) -> bool:
        return handler.answer(200, b'{"data": [], "next": "/same"}')

    server.faults = [elsewhere]
    with pytest.raises(DataError, match="another server"):
        poll(server, lake, next={"path": "next"})
    server.faults = [circle] * 5
    with pytest.raises(DataError, match="lead back"):
        poll(server, lake, next={"path": "next"})


def test_the_poller_asks_when_it_is_due_and_names_what_failed(server: Any, lake: Lake) -> None:
    clock = [0.0]
    now = datetime.now(UTC)
    server.items = [{"inverter": "a", "end": (now - timedelta(minutes=20)).isoformat(), "kw": 5.0}, {"end": "x"}]
    server.items[1] = {"inverter": "a", "end": (now - timedelta(minutes=10)).isoformat(), "kw": None}
    poller = Poller([config(server, every_s=60, attempts=1, parks={"roof-7": "1", "unknown": "2"})], lambda: clock[0])
    outcome = poller.poll(lake, [PARK], now)
    assert (outcome.rows, list(outcome.hours), outcome.failed) == (1, ["roof-7"], {})
    asked = len(server.asked)
    poller.poll(lake, [PARK], now)
    assert len(server.asked) == asked
    clock[0] = 61.0
    server.faults = [status(500)]
    assert "500" in poller.poll(lake, [PARK], now).failed["roof-7"]
    assert quarantine.held(lake) == []
