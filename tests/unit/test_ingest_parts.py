"""The telemetry service's parts without servers: what waits, what is held, which hours are rolled up."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inference.ingest import options, refresh
from inference.ingest.agenda import Agenda
from inference.ingest.committer import Committer
from inference.ingest.held import Allowance
from inference.ingest.inbox import Inbox
from inference.ingest.metrics import Metrics
from inference.ingest.touched import Touched
from pvforecast import quarantine
from pvforecast.errors import DataError, InvalidInput, NotReady
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION, Table
from pvforecast.quarantine import Rejected
from pvforecast.telemetry.mapping import CANONICAL
from pvforecast.telemetry.translate import Message, Reading, Translator

NOW = int(time.time()) * 1_000_000


def message(device: str = "inv-1", power: float = 5000.0, park: str = "roof-7", at: int = NOW) -> Message:
    payload = b'{"ts": %d, "p_ac_w": %f}' % (at // 1000, power)
    return Message(f"pv/{park}/{device}/telemetry", payload, NOW, len(payload))


def rejected(text: str) -> Rejected:
    return Rejected("raw/generation", "roof-7", "mqtt", "topic", "why", text)


def test_a_batch_is_taken_when_it_is_full_or_old() -> None:
    inbox = Inbox(rows=3, size=10_000, seconds=0.2)
    for packet in range(3):
        inbox.put(message(), packet)
    batch = inbox.take()
    assert batch is not None
    assert batch.packets == [0, 1, 2]
    inbox.put(message(), 3)
    began = time.monotonic()
    late = inbox.take()
    assert late is not None
    assert late.packets == [3]
    assert time.monotonic() - began >= 0.15


def test_a_new_connection_forgets_what_will_be_delivered_again() -> None:
    inbox = Inbox(rows=10, size=10_000, seconds=60)
    inbox.put(message(), 1)
    inbox.restart(2)
    inbox.put(message(), 7)
    inbox.close()
    batch = inbox.take()
    assert batch is not None
    assert (batch.connection, batch.packets) == (2, [7])
    assert inbox.take() is None


def test_payload_counts_until_it_is_committed() -> None:
    inbox = Inbox(rows=1, size=10_000, seconds=60)
    inbox.put(message(), 1)
    size = inbox.size
    inbox.take()
    assert inbox.size == size > 0
    inbox.close()
    inbox.take()
    assert inbox.size == 0


def test_a_flood_of_refused_messages_is_bounded_and_counted() -> None:
    clock = [0.0]
    allowance = Allowance(10, lambda: clock[0])
    kept, over = allowance.admit([rejected(str(number)) for number in range(25)])
    assert (len(kept), over) == (10, 15)
    assert allowance.admit([rejected("another")]) == ([], 1)
    clock[0] = 61.0
    kept, over = allowance.admit([rejected("next minute")])
    assert over == 0
    assert [item.reason[:16] for item in kept] == ["16 more messages", "why"]


def test_the_same_message_is_held_once() -> None:
    allowance = Allowance(10, lambda: 0.0)
    assert len(allowance.admit([rejected("a"), rejected("a"), rejected("b")])[0]) == 2
    assert allowance.admit([rejected("a")]) == ([], 0)


def test_hours_are_read_day_by_day() -> None:
    hours = {"a": {10, 12}, "b": {11}, "late": {24 * 7 + 5}}
    assert refresh.spans(hours) == {(10, 12): ["a", "b"], (173, 173): ["late"]}


def test_an_hour_is_rolled_up_when_it_is_over_and_again_when_its_rest_is_no_longer_waited_for() -> None:
    agenda, hour = Agenda(), 100
    end = (hour + 1) * 3600.0
    assert agenda.plan({"a": {hour}, "late": {hour - 9}}, end - 600, set()) == {"late": {hour - 9}}
    assert agenda.plan({}, end - 60, set()) == {}
    assert agenda.plan({}, end + 20, set()) == {"a": {hour}}
    assert agenda.plan({}, end + 600, set()) == {}
    assert agenda.plan({}, end + 1900, set()) == {"a": {hour}}
    assert len(agenda) == 0


def test_a_park_in_quarter_hours_is_rolled_up_within_the_hour() -> None:
    agenda = Agenda()
    assert agenda.plan({"q": {100}}, 100 * 3600 + 1200, {"q"}) == {"q": {100}}
    assert len(agenda) == 1
    agenda.again({"q": {100}})
    assert agenda.plan({}, 100 * 3600 + 1300, {"q"}) == {"q": {100}}


def test_what_could_not_be_rolled_up_is_given_back() -> None:
    touched = Touched()
    touched.add([Reading("a", "i", NOW, 60, 1.0, None, None, None, None, NOW, "mqtt")])
    hours, _ = touched.take()
    assert touched.take()[0] == {}
    touched.give_back(hours)
    assert touched.take()[0] == hours == {"a": {NOW // 3_600_000_000}}


class _Failing(Lake):
    """A folder whose next appends fail as told."""

    def __init__(self, folder: Path, errors: list[Exception]) -> None:
        super().__init__(str(folder))
        self.errors = errors

    def append(self, table: Table, rows: pd.DataFrame) -> int:
        if table is RAW_GENERATION and self.errors:
            raise self.errors.pop(0)
        return super().append(table, rows)


def committer(lake: Lake, inbox: Inbox, acknowledged: list[int], parks: dict[str, float] | None = None) -> Committer:
    known = parks if parks is not None else {"roof-7": 10.0}
    translator = Translator(CANONICAL, known)
    return Committer(
        lake, inbox, translator, lambda: known, lambda _c, packets: acknowledged.extend(packets), Touched(),
        Allowance(100), Metrics(),
    )  # fmt: skip


def put(inbox: Inbox, *messages: Message) -> Any:
    for packet, one in enumerate(messages):
        inbox.put(one, packet)
    inbox.close()
    return inbox.take()


def test_poison_is_held_and_acknowledged_and_the_rest_is_stored(tmp_path: Path) -> None:
    lake, inbox, acknowledged = Lake(str(tmp_path)), Inbox(10, 10**6, 1.0), list[int]()
    batch = put(inbox, message("a"), message("b")._replace(payload=b"\0nonsense"), message("c"), message(park="nobody"))
    committer(lake, inbox, acknowledged).commit(batch)
    assert acknowledged == [0, 1, 2, 3]
    assert lake.read(RAW_GENERATION)["inverter_id"].to_pylist() == ["a", "c"]
    assert sorted(row["park_id"] for row in quarantine.held(lake)) == ["nobody", "roof-7"]


def test_nothing_is_acknowledged_before_it_is_committed(tmp_path: Path) -> None:
    inbox, acknowledged = Inbox(10, 10**6, 1.0), list[int]()
    lake = _Failing(tmp_path, [NotReady("the lake is away")])
    working = committer(lake, inbox, acknowledged)
    thread = threading.Thread(target=working.commit, args=(put(inbox, message()),))
    thread.start()
    time.sleep(0.2)
    assert acknowledged == []
    assert "away" in working.failure
    thread.join(10)
    assert acknowledged == [0]
    assert working.failure == ""
    assert len(lake.read(RAW_GENERATION)) == 1


def test_a_row_the_table_refuses_does_not_block_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Picky(Lake):
        def append(self, table: Table, rows: pd.DataFrame) -> int:
            if table is RAW_GENERATION and "bad" in set(rows["inverter_id"]):
                raise DataError("does not fit", field="raw/generation")
            return super().append(table, rows)

    monkeypatch.setattr("inference.ingest.committer._PAUSES_S", (0.01,))
    lake, inbox, acknowledged = Picky(str(tmp_path)), Inbox(10, 10**6, 1.0), list[int]()
    committer(lake, inbox, acknowledged).commit(put(inbox, *(message(name) for name in ("a", "b", "bad", "c"))))
    assert acknowledged == [0, 1, 2, 3]
    assert sorted(lake.read(RAW_GENERATION)["inverter_id"].to_pylist()) == ["a", "b", "c"]
    assert [row["reason"] for row in quarantine.held(lake)] == ["raw/generation: does not fit"]


def test_rows_of_a_killed_service_are_found_by_when_they_came(tmp_path: Path) -> None:
    lake, inbox = Lake(str(tmp_path)), Inbox(10, 10**6, 1.0)
    late = NOW - 5 * 3_600_000_000
    committer(lake, inbox, []).commit(put(inbox, message("a"), message("b", at=late)))
    before = datetime.fromtimestamp(NOW / 1e6, UTC) - timedelta(minutes=5)
    found = refresh.missed(lake, before, timedelta(days=30))
    assert found == {"roof-7": {NOW // 3_600_000_000, late // 3_600_000_000}}
    assert refresh.missed(lake, datetime.now(UTC) + timedelta(minutes=5), timedelta(days=30)) == {}


def test_options_that_would_stall_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_MQTT_RECEIVE_MAXIMUM", "100")
    with pytest.raises(InvalidInput, match="PVF_MQTT_RECEIVE_MAXIMUM"):
        options.load()
    monkeypatch.setenv("PVF_MQTT_RECEIVE_MAXIMUM", "many")
    with pytest.raises(InvalidInput, match="PVF_MQTT_RECEIVE_MAXIMUM"):
        options.load()
