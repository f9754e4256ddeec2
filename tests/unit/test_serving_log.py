"""Spool, emitter, events, park access: what they keep, and what they give up and count."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inference.prediction_log import events
from inference.prediction_log.emitter import EVENTS, Emitter
from inference.prediction_log.events import Event, Pair
from inference.prediction_log.record import REQUEST, RESPONSE
from inference.prediction_log.spool import Spool
from inference.protocol import Refusal
from inference.transformer.access import ParkAccess
from pvforecast.errors import InvalidInput, StackError, UnknownPark
from tests.serving import HangingServer, eventually, free_ports

PAIR = Pair({"instances": [{"park_id": "a"}]}, {"predictions": [{"park_id": "a"}]}, "request-1")


@dataclass
class Sink:
    """Takes every event, or answers 503 while it is away."""

    url: str = ""
    taken: list[str] = field(default_factory=list)
    away: bool = False


@pytest.fixture
def counting_sink() -> Iterator[Sink]:
    sink = Sink()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            batch = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not sink.away:
                sink.taken += [one["id"] for one in batch]
            self.send_response(503 if sink.away else 202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sink.url = f"http://127.0.0.1:{server.server_port}"
    yield sink
    server.shutdown()
    server.server_close()


def event(number: int) -> Event:
    return Event({"ce-id": str(number)}, json.dumps({"n": number, "pad": "ü" * 100}).encode())


def spooled(spool: Spool) -> list[Event]:
    found = []
    while (segment := spool.oldest()) is not None:
        found += spool.read(segment)[0]
        spool.remove(segment)
    return found


def test_spooled_events_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=500)
    for number in range(20):
        assert spool.append([event(number)]) == 0
    spool.close()
    again = Spool(tmp_path, segment_bytes=500)
    assert again.size == sum(path.stat().st_size for path in tmp_path.iterdir()) > 20 * 200
    again.append([event(20)])
    assert spooled(again) == [event(number) for number in range(21)]
    assert again.size == 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_drops_the_oldest_and_says_how_many(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=3_000, segment_bytes=500)
    dropped = sum(spool.append([event(number)]) for number in range(100))
    assert spool.size <= 3_000
    kept = spooled(spool)
    assert 0 < len(kept) == 100 - dropped
    assert kept == [event(number) for number in range(dropped, 100)]


def test_a_line_torn_by_a_crash_is_skipped_and_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([event(1), event(2)])
    spool.close()
    [segment] = tmp_path.iterdir()
    segment.write_bytes(segment.read_bytes()[:-10])
    assert Spool(tmp_path).read(segment) == ([event(1)], 1)


def outcome(name: str) -> float:
    return EVENTS.labels(name)._value.get()


def test_a_full_queue_drops_at_once_and_counts(tmp_path: Path) -> None:
    emitter = Emitter("http://127.0.0.1:1", tmp_path, queue_pairs=3)  # not started: nothing empties the queue
    before = outcome("dropped")
    begin = time.monotonic()
    for _ in range(5):
        emitter.emit(PAIR)
    assert time.monotonic() - begin < 0.1
    assert outcome("dropped") - before == 4


def test_a_spool_is_emptied_between_requests_that_never_pause(tmp_path: Path, counting_sink: Sink) -> None:
    left = Spool(tmp_path)
    left.append([event(number) for number in range(50)])
    left.close()
    emitter = Emitter(counting_sink.url, tmp_path)
    emitter.start()
    deadline = time.monotonic() + 60
    while emitter._spool.size and time.monotonic() < deadline:
        emitter.emit(PAIR)
        time.sleep(0.01)  # ten times as often as the emitter would call quiet
    assert emitter._spool.size == 0
    emitter.close()
    assert set(map(str, range(50))) <= set(counting_sink.taken)


def test_every_event_is_delivered_or_counted(tmp_path: Path, counting_sink: Sink) -> None:
    """The sink is away for longer than the spool is deep: what does not fit is dropped, the oldest first, and told."""
    counted = {name: outcome(name) for name in ("delivered", "dropped", "refused")}
    counting_sink.away = True
    emitter = Emitter(counting_sink.url, tmp_path, spool_bytes=60_000, segment_bytes=10_000)
    emitter.start()
    pairs = [Pair(PAIR.request, PAIR.response, "r", event_id=f"pair-{number}") for number in range(600)]
    for pair in pairs:
        emitter.emit(pair)
        time.sleep(0.001)
    eventually(lambda: emitter._queue.empty() and outcome("dropped") > counted["dropped"], 60)
    counting_sink.away = False
    eventually(lambda: emitter._spool.size == 0 and pairs[-1].event_id in counting_sink.taken, 60)
    emitter.close()
    grown = {name: outcome(name) - before for name, before in counted.items()}
    assert grown["delivered"] + grown["dropped"] == 2 * len(pairs)
    assert grown["delivered"] == len(counting_sink.taken)
    assert 0 < grown["dropped"] < 2 * len(pairs)
    assert grown["refused"] == 0


def test_without_a_sink_nothing_is_kept(tmp_path: Path) -> None:
    emitter = Emitter("", tmp_path)
    emitter.start()
    emitter.emit(PAIR)
    emitter.close()
    assert list(tmp_path.iterdir()) == []


def test_what_is_queued_when_the_service_stops_is_spooled(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    hanging = HangingServer(port)
    emitter = Emitter(f"http://127.0.0.1:{port}", tmp_path, timeout_s=0.3)
    emitter.start()
    for _ in range(200):
        emitter.emit(PAIR)
    emitter.close()
    hanging.close()
    assert len(spooled(Spool(tmp_path))) == 400


def test_a_sink_that_is_no_url_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        Emitter("localhost:80", tmp_path)
    assert caught.value.field == "PVF_PREDICTION_LOG_URL"


def test_a_spool_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError) as caught:
        Emitter("http://127.0.0.1:1", tmp_path / "file" / "spool")
    assert caught.value.field == "PVF_HOME"


@pytest.fixture
def picky_sink() -> Iterator[tuple[str, list[str]]]:
    """Knows no batches, refuses request events for good, fails the first response event, takes the rest."""
    taken: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        failed = False

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = 400
            if self.headers.get("ce-type") == RESPONSE:
                status, type(self).failed = (202, True) if self.failed else (503, True)
                if status == 202:
                    taken.append(self.headers["ce-id"])
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    server.server_close()


def test_what_is_refused_is_given_up_and_what_failed_is_sent_again(
    tmp_path: Path, picky_sink: tuple[str, list[str]]
) -> None:
    url, taken = picky_sink
    refused, emitter = outcome("refused"), Emitter(url, tmp_path)
    emitter.start()
    emitter.emit(PAIR)
    eventually(lambda: taken == [PAIR.event_id] and not list(tmp_path.iterdir()))
    emitter.close()
    assert outcome("refused") - refused == 1


def test_a_pair_is_written_and_read_as_kserves_logger_does() -> None:
    pair = events.encode(PAIR, inferenceservice="pv-forecast", namespace="here")
    request, response = (events.decode(one.headers, one.body) for one in pair)
    assert (request.type, response.type) == (REQUEST, RESPONSE)
    assert request.id == response.id == PAIR.event_id
    assert (request.time, request.request_id, request.park_ids) == (PAIR.time, "request-1", ["a"])
    assert (response.inferenceservice, response.namespace, response.endpoint) == ("pv-forecast", "here", "default")
    assert json.loads(response.data) == PAIR.response


def test_a_batch_holds_what_its_events_hold_alone() -> None:
    pair = events.encode(PAIR, inferenceservice="pv-forecast", namespace="here")
    assert events.unpack(events.pack(pair)) == [events.decode(one.headers, one.body) for one in pair]


@pytest.mark.parametrize("body", [b"{", b"{}", b"[1]", b"[{}]", json.dumps([{}] * 201).encode()])
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        events.unpack(body)


def test_a_refusal_survives_the_way_and_a_broken_connection_is_unavailable() -> None:
    refusal = Refusal("spec_mismatch", "no", "abc")
    assert Refusal.decode(refusal.encode()) == refusal
    for details in ("failed to connect to 127.0.0.1:81", "", None, "[]", "{}"):
        decoded = Refusal.decode(details)
        assert decoded.code == "unavailable"
        assert "127" not in decoded.message


def test_park_access_follows_its_file_and_keeps_the_last_good_one(tmp_path: Path) -> None:
    file = tmp_path / "access.json"
    file.write_text('{"a": ["p1"], "b": "*"}')
    access = ParkAccess(file)
    access.check("a", {"f": "p1"})
    access.check("b", {"f": "anything"})
    with pytest.raises(UnknownPark, match="'p2'"):
        access.check("a", {"f": "p2"})

    write(file, '{"a": ["p2"]}')
    access.refresh()
    access.check("a", {"f": "p2"})
    for broken in ("{", "[]", '{"a": "p1"}', '{"a": [1]}'):
        write(file, broken)
        access.refresh()
        access.check("a", {"f": "p2"})
    file.unlink()
    access.refresh()
    access.check("a", {"f": "p2"})


@pytest.mark.parametrize("content", [None, "{", "[]", '{"a": 3}', '{"a": "p1"}'])
def test_a_bad_access_file_stops_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "access.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidInput) as caught:
        ParkAccess(file)
    assert caught.value.field == "PVF_PARK_ACCESS_FILE"


def test_without_an_access_file_every_client_sees_every_park() -> None:
    ParkAccess(None).check(None, {"f": "p"})


def write(file: Path, content: str) -> None:
    """With another time stamp, however fast the tests are."""
    stamp = file.stat().st_mtime_ns + 1_000_000
    file.write_text(content)
    os.utime(file, ns=(stamp, stamp))
