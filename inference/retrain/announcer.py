"""Sends the events of promotions to the sink, in order, until each is taken or refused for good."""

from __future__ import annotations

import json
import logging
import threading

import httpx

from pvforecast.announcing import Outbox, event
from pvforecast.errors import NotReady

log = logging.getLogger(__name__)

LOOK_S = 5.0
_TIMEOUT_S = 5.0
_TRY_AGAIN = {408, 425, 429}


class Announcer:
    """A thread that looks for promotions nobody was told of; a sink that is away is asked again at the next look."""

    def __init__(self, outbox: Outbox, sink: str, look_s: float = LOOK_S) -> None:
        self._outbox = outbox
        self._sink = sink
        self._look_s = look_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=2 * _TIMEOUT_S)

    def send(self) -> int:
        """Deliver what waits, oldest first; returns how many were taken. Ends at the first that has to wait."""
        taken = 0
        with self._outbox.turn() as mine:
            for promotion in self._outbox.waiting() if mine else []:
                told = event(promotion)
                answer = httpx.post(
                    self._sink,
                    content=json.dumps(told),
                    headers={"content-type": "application/cloudevents+json; charset=utf-8"},
                    timeout=_TIMEOUT_S,
                )
                if answer.status_code >= 500 or answer.status_code in _TRY_AGAIN:
                    raise NotReady(f"{self._sink} answered {answer.status_code}", field="K_SINK")
                outcome = "delivered" if answer.status_code < 300 else "refused"
                self._outbox.settle(
                    promotion.id, outcome, f"HTTP {answer.status_code} {answer.text}".replace("\x00", "")
                )
                log.info("event %s of promotion %d: %s", told["id"], promotion.id, outcome)
                taken += outcome == "delivered"
        return taken

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.send()
            except (NotReady, httpx.HTTPError) as error:
                log.warning("model events wait: %s", error)
            except Exception:
                log.exception("a look at the promotions failed")  # without its thread nobody would be told again
            self._stopping.wait(self._look_s)
