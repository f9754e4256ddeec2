"""Drift events wait in Postgres until the sink takes them: in order per park, each once, whatever is down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest

from inference.drift import events, outbox
from inference.drift.outbox import Outbox
from pvforecast.errors import NotReady
from pvforecast.settings import Settings

pytestmark = pytest.mark.stack


class Sink:
    """Answers by subject; 202 where nothing else is set."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.taken: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = outer.answers.get(event["subject"], 202)
                if status < 300:
                    outer.taken.append(event["id"])
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def box(infra: Settings, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr(events, "_BACK_OFF_S", 0.001)
    made = Outbox(infra.postgres_dsn.get_secret_value())
    made.flush(sink.url)  # what other tests left
    sink.taken.clear()
    return made


def _event(park: str) -> dict[str, Any]:
    return {"id": uuid4().hex, "subject": park, "type": events.TYPE, "data": {}}


def test_an_event_is_sent_once(box: Outbox, sink: Sink) -> None:
    event = _event("a")
    assert box.put([event, event]) == 1
    assert box.flush(sink.url) == {event["id"]: "delivered"}
    assert (box.put([event]), box.flush(sink.url)) == (0, {})
    assert sink.taken == [event["id"]]


def test_a_park_that_waits_keeps_its_order_and_does_not_hold_up_others(box: Outbox, sink: Sink) -> None:
    first, second, other = _event("a"), _event("a"), _event("b")
    sink.answers["a"] = 503
    box.put([first, second, other])
    assert box.flush(sink.url) == {first["id"]: "waiting", second["id"]: "waiting", other["id"]: "delivered"}
    sink.answers.clear()
    box.flush(sink.url)
    assert sink.taken == [other["id"], first["id"], second["id"]]


def test_a_refused_event_does_not_hold_up_the_next(box: Outbox, sink: Sink) -> None:
    bad, good = _event("a"), _event("a")
    sink.answers["a"] = 400
    box.put([bad])
    assert box.flush(sink.url) == {bad["id"]: "refused"}
    sink.answers.clear()
    box.put([good])
    assert box.flush(sink.url) == {good["id"]: "delivered"}


def test_a_sink_that_is_away_loses_nothing(box: Outbox, sink: Sink) -> None:
    made = [_event(f"p{n}") for n in range(6)]
    box.put(made)
    assert set(box.flush("http://127.0.0.1:9/").values()) == {"waiting"}
    box.flush(sink.url)
    assert sink.taken == [event["id"] for event in made]


def test_without_postgres_it_says_so() -> None:
    with pytest.raises(NotReady, match="drift events"):
        outbox.Outbox("postgresql://nobody@127.0.0.1:9/none").put([])
