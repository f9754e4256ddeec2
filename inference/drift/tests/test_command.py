"""The command line over a real lake, posting to a real HTTP server."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from inference.drift import events
from inference.drift.__main__ import main
from inference.drift.tests.lakes import fill
from inference.drift.tests.parks import SITE, simulated, tampered
from pvforecast import holds
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake

UNTIL = "2022-06-01T12:00:00Z"
FROM, TO = "2022-06-12T12:00:00Z", "2022-07-10T12:00:00Z"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, record: ParkRecord) -> str:
    """A park that lost a tenth on 10 June, and its reference."""
    uri = str(tmp_path_factory.mktemp("lake"))
    fill(Lake(uri), tampered(record, "2022-06-10", lambda p: p * 0.9))
    assert main(["reference", "--lake-uri", uri, "--all", "--until", UNTIL], {}) == 0
    return uri


class Sink:
    """Answers with the given statuses in turn, then with 202."""

    def __init__(self, *statuses: int) -> None:
        received: list[dict[str, Any]] = []
        todo = list(statuses)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append({"type": self.headers["content-type"], "event": json.loads(body)})
                self.send_response(todo.pop(0) if todo else 202)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.received = received
        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_replay_ends_with_one_posted_event(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Sink() as sink:
        arguments = ["check", "--lake-uri", lake, "--all", "--as-of", FROM, "--until", TO, "--json"]
        assert main(arguments, {"K_SINK": sink.url}) == 0
    lines = _lines(capsys)
    assert [line["status"] for line in lines] == ["ok"] * (len(lines) - 1) + ["drift"]
    last = lines[-1]
    assert (last["delivered"], last["event_id"]) == (202, last["event"]["id"])
    assert [got["event"] for got in sink.received] == [last["event"]]
    assert sink.received[0]["type"].startswith("application/cloudevents+json")
    assert last["event"]["data"]["cause"]["likely"] == "loss_or_soiling"


def test_the_days_of_a_replay_are_the_checks_one_by_one(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["check", "--lake-uri", lake, "--park", SITE.park_id, "--json"]
    replay = ["--as-of", "2022-06-13T06:00:00Z", "--until", "2022-06-15T12:00:00Z", "--keep-going"]
    assert main([*common, *replay], {}) == 0
    replayed = _lines(capsys)
    assert [line["checked_at"] for line in replayed] == [f"2022-06-{day}T12:00:00Z" for day in (13, 14, 15)]
    for line in replayed:
        assert main([*common, "--as-of", line["checked_at"]], {}) == 0
        assert _lines(capsys) == [line]


def test_keep_going_repeats_the_event_of_a_lasting_change_after_the_silence(
    lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", "--lake-uri", lake, "--all", "--as-of", FROM, "--until", TO, "--json", "--keep-going"]
    assert main(arguments, {}) == 0
    told = [line["event"]["data"] for line in _lines(capsys) if line["status"] == "drift"]
    days = [data["day"] for data in told if data["level"] == told[0]["level"]]
    assert len(days) >= 2
    assert int(days[1][-2:]) - int(days[0][-2:]) > 7 or days[1][:7] > days[0][:7]


def test_a_sink_that_stumbles_gets_the_event_again(
    lake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_BACK_OFF_S", 0.01)
    with Sink(503, 429, 500) as sink:
        assert (
            main(["check", "--lake-uri", lake, "--all", "--as-of", _event_at(lake, capsys), "--sink", sink.url], {})
            == 0
        )
    assert len(sink.received) == 4
    assert len({got["event"]["id"] for got in sink.received}) == 1


@pytest.mark.parametrize(("statuses", "tries", "says"), [((503,) * 9, 4, "did not take"), ((400,), 1, "refused")])
def test_an_event_that_cannot_be_delivered_fails_the_job_and_says_why(
    lake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    statuses: tuple[int, ...], tries: int, says: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(events, "_BACK_OFF_S", 0.01)
    at = _event_at(lake, capsys)
    with Sink(*statuses) as sink:
        assert main(["check", "--lake-uri", lake, "--all", "--as-of", at, "--sink", sink.url], {}) == 1
    assert len(sink.received) == tries
    error = capsys.readouterr().err.splitlines()[-1]
    assert says in error
    assert sink.url in error


def test_a_reference_is_kept_unless_told_otherwise(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reference", "--lake-uri", lake, "--all", "--json"]
    assert main([*arguments, "--until", UNTIL], {}) == 0
    (kept,) = _lines(capsys)
    assert kept["status"] == "kept"
    assert main([*arguments, "--until", "2022-07-01T12:00:00Z"], {}) == 0
    assert _lines(capsys)[0]["reference_id"] == kept["reference_id"]
    assert main([*arguments, "--until", UNTIL, "--replace"], {}) == 0
    assert _lines(capsys)[0]["reference_id"] == kept["reference_id"]  # the same data make the same reference


def test_processes_that_share_the_parks_answer_as_one_does(
    tmp_path: Path, record: ParkRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(record, site=replace(record.site, park_id="another"))
    fill(Lake(str(tmp_path)), record, other)
    common = ["--lake-uri", str(tmp_path), "--all", "--json", "--jobs"]
    assert main(["reference", *common, "2", "--until", UNTIL], {}) == 0
    assert {line["park_id"] for line in _lines(capsys)} == {record.site.park_id, "another"}
    told = []
    for jobs in ("1", "2"):
        assert main(["check", *common, jobs, "--as-of", FROM], {}) == 0
        told.append(_lines(capsys))
    assert told[0] == told[1]
    assert len(told[0]) == 2


def test_a_day_without_metering_is_skipped_and_is_no_failure(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--lake-uri", lake, "--all", "--as-of", "2023-01-01T12:00:00Z", "--json"], {}) == 0
    (line,) = _lines(capsys)
    assert line["status"] == "skipped"
    assert "nothing metered on 2022-12-31" in line["reason"]


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--park", "nobody", "--as-of", FROM], {}, "no park 'nobody'"),
        (
            ["--park", SITE.park_id, "--as-of", "2022-05-01T12:00:00Z"],
            {},
            "no drift reference of 'simulated' ends before",
        ),
        (["--all", "--as-of", FROM, "--lake-uri", "s3://pvf/lake"], {"PVF_S3_ENDPOINT": "x"}, "PVF_S3_ACCESS_KEY"),
        (["--all", "--as-of", FROM, "--lake-uri", "/nowhere"], {}, "no parks"),
    ],
)
def test_what_fails_says_so_on_one_line(
    lake: str, capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str], says: str
) -> None:
    assert main(["check", *arguments], {"PVF_LAKE_URI": lake, **environment}) == 1
    error = capsys.readouterr().err.splitlines()
    assert says in error[-1]
    assert error[-1].startswith("drift: ")


@pytest.mark.parametrize("moment", ["yesterday", "2022-06-01T12:00:00"])
def test_a_time_that_is_none_or_without_zone_is_a_wrong_call(capsys: pytest.CaptureFixture[str], moment: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--all", "--lake-uri", "x", "--as-of", moment], {})
    assert stopped.value.code == 2
    assert "--as-of" in capsys.readouterr().err


def test_no_warning_but_alibi_detect_is_really_used(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--lake-uri", lake, "--all", "--as-of", _event_at(lake, capsys), "--json"], {}) == 0
    distances = _lines(capsys)[0]["event"]["data"]["distances"]
    assert len(distances) == 6
    assert all(0.0 <= row["p_value"] <= 1.0 for row in distances)


def _event_at(lake: str, capsys: pytest.CaptureFixture[str]) -> str:
    """When the check of the planted loss raises its event."""
    capsys.readouterr()
    assert main(["check", "--lake-uri", lake, "--all", "--as-of", FROM, "--until", TO, "--json"], {}) == 0
    return str(_lines(capsys)[-1]["checked_at"])


def test_the_example_is_what_the_job_emits(lake: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = json.loads((Path(events.__file__).parent / "event.example.json").read_text())
    assert main(["check", "--lake-uri", lake, "--all", "--as-of", _event_at(lake, capsys), "--json"], {}) == 0
    event = _lines(capsys)[0]["event"]
    assert event.keys() == example.keys()
    assert event["data"].keys() == example["data"].keys()
    assert event["data"]["alarms"][0].keys() == example["data"]["alarms"][0].keys()
    assert event["data"]["distances"][0].keys() == example["data"]["distances"][0].keys()


def test_a_park_with_too_few_days_waits_and_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is how a daily run finds new parks; asked for by its name, it is an error."""
    uri, until = str(tmp_path), "2022-06-01T12:00:00Z"
    young = simulated("2022-05-20", 8, site=replace(SITE, park_id="a-young-one"))
    fill(Lake(uri), young, simulated("2022-04-01", 60))
    call = ["reference", "--lake-uri", uri, "--until", until, "--json"]
    assert main([*call, "--all"], {}) == 0
    waiting, made = _lines(capsys)
    assert (waiting["park_id"], waiting["status"], made["status"]) == ("a-young-one", "waiting", "made")
    assert "at least 14" in waiting["reason"]
    assert main([*call, "--all"], {}) == 0
    assert [line["status"] for line in _lines(capsys)] == ["waiting", "kept"]
    assert main([*call, "--park", "a-young-one"], {}) == 1


def test_what_fires_on_a_day_that_is_not_over_has_a_line_of_its_own(
    tmp_path: Path, record: ParkRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = str(tmp_path)
    fill(Lake(uri), tampered(record, "2022-06-13", lambda p: p * 1_000.0))
    assert main(["reference", "--lake-uri", uri, "--all", "--until", UNTIL, "--warnings-a-year", "0.4"], {}) == 0
    capsys.readouterr()
    arguments = ["check", "--lake-uri", uri, "--all", "--as-of", "2022-06-13T20:00:00Z", "--json"]
    assert main(arguments, {}) == 0
    over, begun = _lines(capsys)
    assert (over["day"], over["status"]) == ("2022-06-12", "ok")
    assert (begun["day"], begun["status"], begun["scores"]) == ("2022-06-13", "drift", {})
    assert [hold.cause for hold in holds.read(Lake(uri), [SITE.park_id])] == ["unit_error"]


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "many", "1e9"])
def test_a_budget_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["reference", "--lake-uri", "x", "--all", "--until", UNTIL, "--warnings-a-year", rate], {})
    assert "alarms a year" in capsys.readouterr().err
