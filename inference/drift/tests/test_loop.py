"""What follows from a check: hours held and given back, episodes that close, changes accepted, many parks as one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.drift import events, fleet, quarantining
from inference.drift.__main__ import main
from inference.drift.days import DayCutter, check_time
from inference.drift.episodes import closing, still_open
from inference.drift.observe import observe
from inference.drift.reference import Reference, make
from inference.drift.tests.lakes import fill
from inference.drift.tests.parks import SITE, simulated, tampered
from pvforecast import holds, level_changes
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import DRIFT_SCORES

FROM, TO = "2022-06-10T12:00:00Z", "2022-07-10T12:00:00Z"
OUT, BACK = np.datetime64("2022-06-10"), np.datetime64("2022-06-14")


def _after_outage(record: ParkRecord) -> ParkRecord:
    def out_for_four_days(power: np.ndarray) -> np.ndarray:
        power[:96] = 0.0
        return power

    return tampered(record, str(OUT), out_for_four_days)


def _lake(folder: Path, record: ParkRecord, reference: Reference) -> str:
    from inference.drift import store

    lake = Lake(str(folder))
    fill(lake, record)
    store.save(lake, reference, datetime(2022, 6, 1, 12, tzinfo=UTC))
    return lake.uri


def _replay(uri: str, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    words = ["check", "--lake-uri", uri, "--all", "--as-of", FROM, "--until", TO, "--keep-going", "--json", *more]
    assert main(words, {}) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_outage_is_held_from_training_until_the_park_is_itself_again(
    tmp_path: Path, record: ParkRecord, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = _lake(tmp_path, _after_outage(record), reference)
    lines = _replay(uri, capsys)
    also = {event["type"]: event for line in lines for event in line["also"]}
    drift = next(line["event"] for line in lines if line["event"])
    assert (drift["data"]["cause"]["likely"], drift["data"]["advice"]) == ("outage", "fix_data")
    assert also[events.QUARANTINED_TYPE]["data"]["event_id"] == drift["id"]
    assert also[events.CLEARED_TYPE]["data"]["opened_by"] == drift["id"]
    (hold,) = holds.read(Lake(uri))
    assert (hold.event_id, hold.state, hold.cause) == (drift["id"], holds.ENDED, "outage")
    learned = records.load(Lake(uri), SITE.park_id)
    noon = np.datetime64("2022-06-01T19:00:00", "s") + np.arange(30) * np.timedelta64(86_400, "s")
    missing = noon[np.isnan(learned.truth(noon, healthy=True))].astype("datetime64[D]")
    assert missing.tolist() == np.arange(OUT, BACK, dtype="datetime64[D]").tolist()


def test_what_only_hard_rules_watch_is_given_back_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    young = simulated("2022-05-01", 80)
    reference = make(young, np.datetime64("2022-06-01T12:00:00", "s"))
    assert reference.thresholds["warn"] == {}
    uri = _lake(tmp_path, _after_outage(young), reference)
    lines = _replay(uri, capsys)
    first = next(line["event"] for line in lines if line["event"])
    (cleared,) = [event for line in lines for event in line["also"] if event["type"] == events.CLEARED_TYPE]
    assert (cleared["data"]["opened_by"], cleared["data"]["sound_from"]) == (first["id"], str(BACK))
    (hold,) = holds.read(Lake(uri))
    assert (hold.event_id, hold.state) == (first["id"], holds.ENDED)


@pytest.mark.parametrize("of", [SITE.park_id, f"{fleet.SUBJECT}|outage"])
def test_what_was_found_within_a_day_and_is_not_in_its_corrected_data_is_given_back(
    of: str, tmp_path: Path, record: ParkRecord, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = _lake(tmp_path, record, reference)
    day, park = "2022-06-12", SITE.park_id
    opened_by, noon = events.event_id(of, day), datetime(2022, 6, 12, 20, tzinfo=UTC)
    holds.add(Lake(uri), holds.Entry(opened_by, park, holds.HELD, noon, noon - timedelta(hours=4), cause="outage"))
    also = [event for line in _replay(uri, capsys) for event in line["also"]]
    ((kind, data),) = [(event["type"], event["data"]) for event in also]
    assert (kind, data["reason"], data["opened_by"]) == (events.CLEARED_TYPE, "corrected", opened_by)
    (hold,) = holds.read(Lake(uri))
    assert (hold.state, hold.end) == (holds.ENDED, hold.begin)
    noons = np.datetime64("2022-06-12T19:00:00", "s") + np.arange(2) * np.timedelta64(3600, "s")
    assert not np.isnan(records.load(Lake(uri), park).truth(noons, healthy=True)).any()


def test_a_dry_run_leaves_no_trace(
    tmp_path: Path, record: ParkRecord, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = _lake(tmp_path, _after_outage(record), reference)
    assert any(line["event"] for line in _replay(uri, capsys, "--dry-run"))
    assert holds.read(Lake(uri)) == []
    assert len(Lake(uri).read(DRIFT_SCORES)) == 0


def test_scores_and_psi_of_each_day_are_kept_once(
    tmp_path: Path, record: ParkRecord, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = _lake(tmp_path, record, reference)
    for _ in range(2):
        _replay(uri, capsys)
    rows = Lake(uri).read(DRIFT_SCORES).to_pylist()
    days = {row["day"] for row in rows}
    psi = [row for row in rows if row["kind"] == "psi" and row["name"] == "csi"]
    assert len(psi) == len(days) == 31
    assert not any(row["alarm"] for row in rows if row["kind"] == "detector")


def test_an_accepted_change_is_the_new_normal(
    tmp_path: Path, record: ParkRecord, reference: Reference, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = _lake(tmp_path, tampered(record, "2022-06-10", lambda p: p * 0.8), reference)
    found = [line["event"] for line in _replay(uri, capsys) if line["event"]]
    assert found
    since = found[0]["data"]["cause"]["evidence"]["since"]
    lake, as_of = Lake(uri), np.datetime64(TO.removesuffix("Z"), "s")
    told = level_changes.told(lake, [SITE.park_id], as_of, lake.version(DRIFT_SCORES))
    assert told[SITE.park_id].at >= np.datetime64(since, "s")  # for training
    words = ["accept", "--lake-uri", uri, "--park", SITE.park_id, "--change-at", "2022-06-10", "--as-of", TO]
    assert main(words, {}) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["scale"] == pytest.approx(0.8, abs=0.02)
    assert not any(line["event"] for line in _replay(uri, capsys))


@pytest.mark.parametrize(
    ("words", "field"),
    [(["--change-at", "2030-01-01"], "--change-at"), (["--change-at", "2021-05-01"], "--change-at")],
)
def test_a_change_that_cannot_be_accepted_is_refused(
    tmp_path: Path,
    record: ParkRecord,
    reference: Reference,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    field: str,
) -> None:
    uri = _lake(tmp_path, record, reference)
    assert main(["accept", "--lake-uri", uri, "--park", SITE.park_id, "--as-of", TO, *words], {}) == 1
    assert field in capsys.readouterr().err


def test_an_episode_stays_open_while_the_loss_lasts(record: ParkRecord, reference: Reference) -> None:
    cutter = DayCutter(tampered(record, str(OUT), lambda p: p * 0.85))
    last = np.datetime64("2022-07-20")
    observed = observe(cutter.cut(reference.until - 45, last, check_time(SITE, last)), reference)
    assert still_open(observed) is not None
    assert all(closing(observed, row) is None for row in range(len(observed.days)))


def _event(park_id: str, cause: str) -> dict[str, Any]:
    example = json.loads((Path(events.__file__).parent / "event.example.json").read_text())
    data = {**example["data"], "park_id": park_id, "cause": {**example["data"]["cause"], "likely": cause}}
    return {**example, "id": f"{park_id}-{cause}", "subject": park_id, "data": data}


def test_what_many_parks_share_is_one_event() -> None:
    made = [_event(f"p{n}", "provider_bias") for n in range(30)] + [_event("q", "outage")]
    (common,), covered = fleet.shared(made, checked=100)
    assert common["subject"] == common["data"]["park_id"] == "fleet"
    assert common["data"]["parks"] == sorted(f"p{n}" for n in range(30))
    assert common["data"]["cause"]["evidence"]["parks_checked"] == 100
    assert covered == {f"p{n}-provider_bias" for n in range(30)}
    assert fleet.shared(list(reversed(made)), 100)[0][0] == common


def test_a_few_alarms_stay_their_parks_own() -> None:
    assert fleet.shared([_event(f"p{n}", "loss_or_soiling") for n in range(4)], checked=10) == ([], set())
    assert fleet.shared([_event(f"p{n}", "loss_or_soiling") for n in range(8)], checked=100) == ([], set())


def test_hours_of_a_fleet_s_event_are_held_under_the_event_that_is_sent(
    tmp_path: Path, record: ParkRecord, reference: Reference
) -> None:
    uri = _lake(tmp_path, record, reference)
    own = _event(SITE.park_id, "outage")
    own["data"] = own["data"] | {"advice": "fix_data"}
    for _ in range(2):
        (kept,) = quarantining.after(Lake(uri), own, (), "of-the-fleet")
        assert kept["data"]["event_id"] == "of-the-fleet"
    assert [(hold.event_id, hold.park_id) for hold in holds.read(Lake(uri))] == [("of-the-fleet", SITE.park_id)]
