"""Sends the pairs to the sink from a thread of its own. Nothing the sink does reaches a prediction.

Queue full, spool full, disk full: events are dropped, and counted. What the sink does not take goes to the spool and
is sent again when the sink is back, also after a restart; the sink drops what it already has by its id.
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import httpx

from inference import metrics
from inference.prediction_log.events import BATCH, MAX_BATCH, Event, Pair, encode, pack
from inference.prediction_log.spool import Spool
from inference.protocol import MODEL_NAME
from pvforecast.errors import InvalidInput, StackError

log = logging.getLogger(__name__)

EVENTS = metrics.counter("pvf_prediction_log_events_total")
SPOOL_BYTES = metrics.gauge("pvf_prediction_log_spool_bytes")
QUEUED = metrics.gauge("pvf_prediction_log_queue_pairs")

_PAIRS_AT_ONCE = 64
_BATCH_BYTES = 4 * 2**20
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.5, 10.0
_REFUSED = (400, 413, 415, 422)


class _Outcome(Enum):
    DELIVERED = 0
    REFUSED = 1  # the sink will never take it
    FAILED = 2  # try again later


class Emitter:
    """One emitter a transformer.

    Parameters
    ----------
    url : of the sink; empty turns the log off.
    folder : of the spool.
    queue_pairs : how many pairs may wait in memory.
    timeout_s : for one batch.

    Raises
    ------
    InvalidInput, StackError
        the URL is none, the folder cannot be made.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        namespace: str = "local",
        verify: ssl.SSLContext | bool = True,
        queue_pairs: int = 1_000,
        timeout_s: float = 2.0,
        spool_bytes: int = 64 * 2**20,
        segment_bytes: int = 2**18,
    ) -> None:
        if url and httpx.URL(url).scheme not in ("http", "https"):
            raise InvalidInput(f"{url!r} is no URL", field="PVF_PREDICTION_LOG_URL", hint="e.g. http://127.0.0.1:9090")
        self._url = url
        self._namespace = namespace
        self._queue: queue.Queue[Pair] = queue.Queue(queue_pairs)
        self._spool = _spool(folder, spool_bytes, segment_bytes)
        self._http = httpx.Client(timeout=timeout_s, trust_env=False, verify=verify)
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._stopping = threading.Event()
        self._retry_at = 0.0
        self._backoff_s = _FIRST_BACKOFF_S

    def start(self) -> None:
        if not self._url:
            log.warning("predictions are not logged: PVF_PREDICTION_LOG_URL is not set")
            return
        SPOOL_BYTES.set(self._spool.size)
        QUEUED.set_function(self._queue.qsize)
        self._thread.start()

    def emit(self, pair: Pair) -> None:
        """Hand over a pair. Returns at once, whatever the state of the sink."""
        if not self._url:
            return
        try:
            self._queue.put_nowait(pair)
        except queue.Full:
            EVENTS.labels("dropped").inc(2)

    def close(self, wait_s: float = 5.0) -> None:
        """Deliver or spool what is queued."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)
        self._http.close()

    def _run(self) -> None:
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                self._step()
            except OSError as error:
                log.error("the prediction log's spool cannot be used: %s", error)
                time.sleep(0.2)
            except Exception:
                log.exception("a step of the prediction log failed")
                time.sleep(0.2)
        self._spool.close()

    def _step(self) -> None:
        events = self._take()
        if events:
            failed = self._send(events) if time.monotonic() >= self._retry_at else events
            if failed:
                self._keep(failed)
        # also between requests that never pause: a spool that waits for quiet would only ever grow
        if not self._stopping.is_set() and time.monotonic() >= self._retry_at:
            self._replay()
        SPOOL_BYTES.set(self._spool.size)

    def _take(self) -> list[Event]:
        """What is queued, encoded; waits a moment for the first."""
        pairs: list[Pair] = []
        try:
            pairs.append(self._queue.get(timeout=0.1))
            while len(pairs) < _PAIRS_AT_ONCE:
                pairs.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return [
            event for pair in pairs for event in encode(pair, inferenceservice=MODEL_NAME, namespace=self._namespace)
        ]

    def _keep(self, events: Sequence[Event]) -> None:
        try:
            dropped = self._spool.append(events)
        except OSError:
            EVENTS.labels("dropped").inc(len(events))
            raise
        EVENTS.labels("spooled").inc(len(events))
        EVENTS.labels("dropped").inc(dropped)

    def _replay(self) -> None:
        segment = self._spool.oldest()
        if segment is None:
            return
        events, broken = self._spool.read(segment)
        if not self._send(events):
            EVENTS.labels("dropped").inc(broken)
            self._spool.remove(segment)
            log.info("delivered %d spooled events", len(events))

    def _send(self, events: Sequence[Event]) -> list[Event]:
        """Send in batches; one by one where the sink refuses a batch. Stops at the first failure.

        Returns what must be kept.
        """
        at = 0
        while at < len(events):
            batch = _first(events[at:])
            outcome = self._post(pack(batch), {"content-type": BATCH})
            if outcome is _Outcome.DELIVERED:
                EVENTS.labels("delivered").inc(len(batch))
            left = self._send_each(batch) if outcome is _Outcome.REFUSED else batch
            at += len(batch)
            if outcome is not _Outcome.DELIVERED and left:
                self._retry_at = time.monotonic() + self._backoff_s
                self._backoff_s = min(2 * self._backoff_s, _LAST_BACKOFF_S)
                return [*left, *events[at:]]
        self._backoff_s = _FIRST_BACKOFF_S
        return []

    def _send_each(self, events: Sequence[Event]) -> list[Event]:
        """Returns those that the sink may take later."""
        left: list[Event] = []
        for event in events:
            outcome = _Outcome.FAILED if left else self._post(event.body, event.headers)
            if outcome is _Outcome.FAILED:
                left.append(event)
            else:
                EVENTS.labels(outcome.name.lower()).inc()
        return left

    def _post(self, body: bytes, headers: dict[str, str]) -> _Outcome:
        try:
            status = self._http.post(self._url, content=body, headers=headers).status_code
        except httpx.HTTPError as error:
            log.warning("the prediction log's sink did not take events: %r", error)
            return _Outcome.FAILED
        if status < 300:
            return _Outcome.DELIVERED
        log.warning("the prediction log's sink answered %d", status)
        return _Outcome.REFUSED if status in _REFUSED else _Outcome.FAILED


def _first(events: Sequence[Event]) -> Sequence[Event]:
    """As many as one batch may hold."""
    size = 0
    for at, event in enumerate(events[:MAX_BATCH]):
        size += len(event.body)
        if at and size > _BATCH_BYTES:
            return events[:at]
    return events[:MAX_BATCH]


def _spool(folder: Path, max_bytes: int, segment_bytes: int) -> Spool:
    try:
        return Spool(folder, max_bytes, segment_bytes)
    except OSError as error:
        raise StackError(
            f"the prediction log's spool cannot be made: {error}",
            field="PVF_HOME",
            hint="name a folder that is writable",
        ) from error
