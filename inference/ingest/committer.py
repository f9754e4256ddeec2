"""Messages to committed rows, then acknowledgements. The order of these two is why nothing is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pandas as pd

from inference.ingest.held import Allowance
from inference.ingest.inbox import Batch, Inbox
from inference.ingest.metrics import Metrics
from inference.ingest.touched import Touched
from pvforecast import quarantine
from pvforecast.errors import DataError, NotReady
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.quarantine import Rejected
from pvforecast.telemetry import rows
from pvforecast.telemetry.translate import Message, Reading, Refused, Translator

log = logging.getLogger(__name__)

_PAUSES_S = (0.5, 1.0, 2.0, 5.0)
_REGISTRY_S, _UNKNOWN_S = 60.0, 5.0


class GivenUpError(Exception):
    """The service ends and the lake does not answer: the broker will deliver again."""


class Committer(threading.Thread):
    """Takes batches out of the inbox, for ever.

    Parameters
    ----------
    parks : reads the registry: id -> AC capacity in kW.
    acknowledge : gets connection and packet ids of what is stored.
    touched : is told which hours of which parks changed.
    """

    def __init__(
        self,
        lake: Lake,
        inbox: Inbox,
        translator: Translator,
        parks: Callable[[], dict[str, float]],
        acknowledge: Callable[[int, list[int]], None],
        touched: Touched,
        allowance: Allowance,
        metrics: Metrics,
    ) -> None:
        super().__init__(name="committer", daemon=True)
        self._lake, self._inbox, self._translator = lake, inbox, translator
        self._parks, self._acknowledge, self._touched = parks, acknowledge, touched
        self._allowance, self._metrics = allowance, metrics
        self._registry_at = time.monotonic()
        self._give_up_at = float("inf")
        self.failure = ""  # why nothing is being committed; empty when all is well

    def give_up_after(self, seconds: float) -> None:
        """End with what is at hand, and without it when the lake does not answer in time."""
        self._give_up_at = time.monotonic() + seconds

    def run(self) -> None:
        try:
            while (batch := self._inbox.take()) is not None:
                self.commit(batch)
        except GivenUpError:
            log.warning("committer: ends without the last batch; the broker delivers it again")

    def commit(self, batch: Batch) -> None:
        """Store a batch, and have it acknowledged."""
        began = time.monotonic()
        self._refresh_parks(force=False)
        readings, refused = self._read(batch.messages)
        if readings:
            refused += self._store(rows.frame(readings))
            self._metrics.rows.inc(len(readings))
            self._metrics.last_commit.set(time.time())
        if refused:
            self._hold(refused)
        self._touched.add(readings)
        self._acknowledge(batch.connection, batch.packets)
        self._touched.settled_until(self._oldest_open())
        self._metrics.flush_seconds.observe(time.monotonic() - began)

    def _read(self, messages: Sequence[Message]) -> tuple[list[Reading], list[Rejected]]:
        translate = self._translator.translate
        readings: list[Reading] = []
        refused: list[Rejected] = []
        empty = 0
        for message in messages:
            outcome = translate(message)
            if isinstance(outcome, Refused) and outcome.park_id and outcome.park_id not in self._translator.parks:
                self._refresh_parks(force=True)  # it may have been registered just now
                outcome = translate(message)
            if isinstance(outcome, Refused):
                refused.append(rows.rejected(message, outcome))
            elif outcome:
                readings += outcome
            else:
                empty += 1
        self._metrics.empty.inc(empty)
        self._metrics.quarantined.inc(len(refused))
        return readings, refused

    def _store(self, frame: pd.DataFrame) -> list[Rejected]:
        """Append rows; those that the table can't take, whatever the reason, are given back."""
        try:
            self._insist(lambda: self._lake.append(RAW_GENERATION, frame))
        except DataError as error:
            if len(frame) > 1:
                middle = len(frame) // 2
                return self._store(frame.iloc[:middle]) + self._store(frame.iloc[middle:])
            row = frame.iloc[0]
            text = row.to_json(date_format="iso")
            return [Rejected(RAW_GENERATION.name, row.park_id, row.source, row.inverter_id, str(error), text)]
        return []

    def _hold(self, refused: Sequence[Rejected]) -> None:
        kept, over = self._allowance.admit(refused)
        self._metrics.not_kept.inc(over)
        if not kept:
            return
        try:
            self._insist(lambda: quarantine.hold(self._lake, kept, datetime.now(UTC)))
        except DataError as error:  # what can't even be quarantined must not stop the rows behind it
            self._metrics.not_kept.inc(len(kept))
            log.error("committer: %d refused messages are not kept: %s", len(kept), error)

    def _insist(self, work: Callable[[], object]) -> None:
        """Until it works: the broker keeps what comes meanwhile.

        Raises
        ------
        DataError
            it never will.
        GivenUpError
            the service ends.
        """
        attempt = 0
        while True:
            try:
                work()
                self.failure = ""
                return
            except NotReady as error:
                self.failure = str(error)
            except DataError as error:
                # A lost race against other writers looks like bad data, and passes.
                if attempt >= 1:
                    raise
                self.failure = str(error)
            pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            attempt += 1
            self._metrics.commit_failures.inc()
            log.warning("committer: %s; again in %.1f s", self.failure[:300], pause)
            if time.monotonic() + pause > self._give_up_at:
                raise GivenUpError
            time.sleep(pause)

    def _refresh_parks(self, *, force: bool) -> None:
        age = time.monotonic() - self._registry_at
        if age < (_UNKNOWN_S if force else _REGISTRY_S):
            return
        self._registry_at = time.monotonic()
        try:
            self._translator.parks = self._parks()
        except NotReady as error:
            log.warning("committer: goes on with the parks it knows: %s", error)

    def _oldest_open(self) -> float:
        """Unix seconds: every message that came before is settled."""
        return self._inbox.oldest()
