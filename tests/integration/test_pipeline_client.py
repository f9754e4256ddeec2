"""The client against a stand-in for the KFP API server, over real connections: errors, uploads, runs, pages."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.client import runs
from pipelines.client.connection import Server, connect
from pipelines.client.experiment import experiment
from pipelines.client.upload import upload
from pipelines.profile import DEFAULT, Profile
from pvforecast.errors import InvalidInput, NotReady
from pvforecast.settings import Settings
from tests.kfp_stub import KfpStub, self_signed

ARGUMENTS = {"as_of": "2026-01-06T00:00:00+00:00"}


@pytest.fixture
def stub() -> Iterator[KfpStub]:
    with KfpStub(page_size=2).running() as stub:
        yield stub


def client(stub: KfpStub, **more: Any) -> Server:
    return Server(stub.url, **{"pause_s": 0.01, "timeout_s": 0.5, **more})


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("401", InvalidInput, r"PVF_KFP_TOKEN: making .* 401 told to fail .*token is missing, wrong or has run out"),
        ("403", InvalidInput, r"PVF_KFP_TOKEN: .*403.*lacks the right"),
        ("404", InvalidInput, r"PVF_KFP_URL: .*404.*not the address"),
        ("400", InvalidInput, r"PVF_KFP_URL: .*400 told to fail"),
        ("429", NotReady, r"PVF_KFP_URL: .*429.*wait 7"),
        ("500", NotReady, r"PVF_KFP_URL: .*500.*the server failed"),
        ("503", NotReady, r"PVF_KFP_URL: .*503"),
        ("302", InvalidInput, r"PVF_KFP_URL: .*302.*a login\?"),
        ("html", InvalidInput, r"PVF_KFP_URL: .*text/html, not JSON: perhaps a login page"),
        ("reset", NotReady, r"PVF_KFP_URL: .*the connection broke"),
        ("hang", NotReady, r"PVF_KFP_URL: .*no answer within 0.5 s \(PVF_KFP_TIMEOUT_S"),
    ],
)
def test_each_failure_has_a_line_that_names_setting_and_remedy(
    stub: KfpStub, fault: str, kind: type[Exception], says: str
) -> None:
    stub.faults, stub.headers, stub.hang_s = {1: fault}, {"Retry-After": "7"}, 1.0
    with pytest.raises(kind, match=says):
        experiment(client(stub), "pvforecast")
    assert len(stub.calls) == 2  # a write is not sent again


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset"])
def test_a_read_is_tried_again(stub: KfpStub, fault: str) -> None:
    stub.faults = {0: fault, 1: fault}
    assert experiment(client(stub), "pvforecast")
    assert stub.calls[:3] == ["GET /apis/v2beta1/experiments"] * 3


@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_a_read_that_is_refused_is_not(stub: KfpStub, fault: str) -> None:
    stub.always = fault
    with pytest.raises(InvalidInput):
        experiment(client(stub), "pvforecast")
    assert len(stub.calls) == 1


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(NotReady, match=r"refused, or no way there \(is http://127"):
            experiment(Server(url, pause_s=0.01), "pvforecast")
    with pytest.raises(NotReady, match="no host of this name"):
        experiment(Server("http://kfp.invalid", pause_s=0.01), "pvforecast")
    with pytest.raises(InvalidInput, match="PVF_KFP_URL: 'kfp:8888' has no scheme"):
        Server("kfp:8888")
    with pytest.raises(InvalidInput, match=r"PVF_KFP_URL: is not set \(.*--local"):
        connect(Settings())


def test_tls_is_checked_against_the_ca_that_is_named(tmp_path: Path) -> None:
    ca, context = self_signed(tmp_path)
    with KfpStub().running(context) as stub:
        assert experiment(client(stub, ca_file=ca), "pvforecast")
        with pytest.raises(NotReady, match=r"TLS: .*CERTIFICATE_VERIFY_FAILED.*PVF_KFP_CA_FILE"):
            experiment(client(stub), "pvforecast")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("no certificate")
    with pytest.raises(InvalidInput, match="PVF_KFP_CA_FILE"):
        Server("https://127.0.0.1", ca_file=nothing)


def test_a_token_file_is_read_anew_for_each_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with KfpStub(token="first").running() as stub:
        server = client(stub, token_file=file)
        assert experiment(server, "pvforecast")
        stub.token = "second"
        with pytest.raises(InvalidInput, match="PVF_KFP_TOKEN: listing experiments: 401 Unauthenticated"):
            experiment(server, "pvforecast")
        file.write_text("second\n")
        assert experiment(server, "pvforecast")
        assert experiment(client(stub, token="second"), "pvforecast")
        file.unlink()
        with pytest.raises(InvalidInput, match="PVF_KFP_TOKEN_FILE: cannot be read"):
            experiment(server, "pvforecast")


# --- uploads ----------------------------------------------------------------------------------------------------------


def test_the_same_pipeline_is_uploaded_once_and_a_changed_one_is_another_version(stub: KfpStub) -> None:
    server = client(stub)
    for number in range(5):  # more than a page of other people's
        stub._add(stub.pipelines, "pipeline", {"display_name": f"other-{number}"})
    first = upload(server, "maintenance", DEFAULT)
    assert first.created
    assert first.name.startswith("maintenance-")
    assert upload(server, "maintenance", DEFAULT) == first._replace(created=False)
    changed = upload(server, "maintenance", Profile(image="registry.example/pvforecast/app:2.0"))
    assert changed.pipeline_id == first.pipeline_id
    assert changed.name != first.name
    assert len(stub.versions) == 2
    assert [row["display_name"] for row in stub.pipelines.values()].count("pvforecast-maintenance") == 1


@pytest.mark.parametrize("fault", ["500", "done-500", "done-reset", "done-409"])
def test_an_upload_that_is_cut_off_anywhere_is_finished_by_the_next(fault: str) -> None:
    with KfpStub().running() as stub:
        upload(client(stub), "maintenance", DEFAULT)
        calls = len(stub.calls)
    for at in range(calls):
        with KfpStub().running() as stub:
            stub.faults = {at: fault}
            try:
                upload(client(stub), "maintenance", DEFAULT)
            except NotReady:
                upload(client(stub), "maintenance", DEFAULT)
            except InvalidInput:  # a list that is answered with 409
                upload(client(stub), "maintenance", DEFAULT)
            assert (len(stub.pipelines), len(stub.versions)) == (1, 1)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_is_submitted_once_while_it_goes_on_or_has_succeeded_and_again_when_it_failed(stub: KfpStub) -> None:
    server = client(stub)
    version, where = upload(server, "maintenance", DEFAULT), experiment(server, "pvforecast")
    first = runs.submit(server, version, ARGUMENTS, where)
    assert first.created
    assert (first.run.pipeline, first.run.as_of) == ("maintenance", ARGUMENTS["as_of"])
    assert runs.submit(server, version, ARGUMENTS, where).run.run_id == first.run.run_id
    other = runs.submit(server, version, {"as_of": "2026-01-07T00:00:00+00:00"}, where)
    assert other.created
    stub.finish(first.run.run_id, "SUCCEEDED")
    assert not runs.submit(server, version, ARGUMENTS, where).created
    assert runs.submit(server, version, ARGUMENTS, where, again=True).created
    stub.finish(other.run.run_id, "FAILED")
    assert runs.submit(server, version, {"as_of": "2026-01-07T00:00:00+00:00"}, where).created
    assert len(stub.runs) == 4


def test_a_run_whose_answer_was_lost_is_found(stub: KfpStub) -> None:
    server = client(stub)
    version, where = upload(server, "maintenance", DEFAULT), experiment(server, "pvforecast")
    stub.faults = {len(stub.calls) + 1: "done-reset"}
    with pytest.raises(NotReady):
        runs.submit(server, version, ARGUMENTS, where)
    assert not runs.submit(server, version, ARGUMENTS, where).created
    assert len(stub.runs) == 1


def test_what_the_server_refuses_is_said_in_its_words(stub: KfpStub) -> None:
    server = client(stub)
    version, where = upload(server, "maintenance", DEFAULT), experiment(server, "pvforecast")
    with pytest.raises(InvalidInput, match="400 the pipeline has no parameter moon"):
        runs.submit(server, version, {"moon": 1}, where)


def test_runs_are_listed_newest_first_over_all_pages(stub: KfpStub) -> None:
    server = client(stub)
    version, where = upload(server, "maintenance", DEFAULT), experiment(server, "pvforecast")
    days = [f"2026-01-{day:02d}T00:00:00+00:00" for day in range(1, 8)]
    for day in days:
        runs.submit(server, version, {"as_of": day}, where)
    assert [run.as_of for run in runs.listing(server, where)] == days[::-1]
    assert len(runs.listing(server, where, limit=3)) == 3
    assert runs.listing(server, where, pipeline="training") == []
    assert runs.listing(server, where, state="PENDING", limit=1)[0].as_dict()["created_at"].startswith("2026-")


def test_a_list_that_hides_its_items_is_no_empty_list(stub: KfpStub, monkeypatch: pytest.MonkeyPatch) -> None:
    server = client(stub)
    experiment(server, "pvforecast")
    as_it_is = stub._page
    monkeypatch.setattr(
        stub, "_page", lambda *words: {("renamed" if k == "experiments" else k): v for k, v in as_it_is(*words).items()}
    )
    with pytest.raises(NotReady, match="listing experiments: 1 items, but none in the answer"):
        experiment(server, "pvforecast")
    assert len(stub.experiments) == 1


def test_tasks_logs_and_the_end_of_a_run(stub: KfpStub) -> None:
    server = client(stub)
    version, where = upload(server, "maintenance", DEFAULT), experiment(server, "pvforecast")
    run_id = runs.submit(server, version, ARGUMENTS, where).run.run_id
    stub.runs[run_id]["run_details"] = {
        "task_details": [
            {"task_id": "b", "display_name": "maintain", "state": "FAILED", "start_time": "2026-01-06T00:01:00Z",
             "child_tasks": [{"pod_name": "pod-b"}], "error": {"code": 2, "message": "exit 1"}},
            {"task_id": "a", "display_name": "logical-time", "state": "SUCCEEDED",
             "start_time": "2026-01-06T00:00:00Z", "pod_name": "pod-a"},
        ]
    }  # fmt: skip
    stub.logs["pod-b"] = "DataError: raw/weather\n"
    assert [(task.name, task.state, task.pod) for task in runs.tasks(server, run_id)] == [
        ("logical-time", "SUCCEEDED", "pod-a"),
        ("maintain", "FAILED", "pod-b"),
    ]
    assert runs.log(server, run_id, "pod-b") == "DataError: raw/weather\n"
    with pytest.raises(InvalidInput, match="the log of pod-a is gone"):
        runs.log(server, run_id, "pod-a")
    with pytest.raises(InvalidInput, match=r"RUN: no run 'run-9999' \(list them: pvf pipeline runs\)"):
        runs.tasks(server, "run-9999")

    assert runs.cancel(server, run_id).state == "PENDING"
    assert stub.runs[run_id]["state"] == "CANCELING"
    stub.finish(run_id, "CANCELED")
    assert runs.cancel(server, run_id).state == "CANCELED"  # as it was; nothing was asked of the server


def test_waiting_outlasts_a_server_that_is_away_for_a_while(stub: KfpStub) -> None:
    server = client(stub)
    version, where = upload(server, "maintenance", DEFAULT), experiment(server, "pvforecast")
    run_id = runs.submit(server, version, ARGUMENTS, where).run.run_id
    seen: list[str] = []

    def pause(_: float) -> None:
        if stub.always:
            stub.always = ""
            stub.finish(run_id, "SUCCEEDED")
        else:
            stub.always = "503"

    assert runs.wait(server, run_id, seen.append, pause=pause).state == "SUCCEEDED"
    assert seen == ["PENDING", "SUCCEEDED"]
    stub.always = "503"
    with pytest.raises(NotReady):
        runs.wait(server, run_id, pause=lambda _: None, patience=2)
