"""Schedules on the stand-in for the KFP API server: applied however often, however badly interrupted, one of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.client import recurring
from pipelines.client.connection import Server
from pipelines.client.experiment import experiment
from pipelines.client.recurring import Wanted
from pipelines.client.upload import Version, upload
from pipelines.profile import DEFAULT, Profile
from pipelines.schedules import BUILT_IN, Schedule
from pvforecast.errors import InvalidInput, NotReady
from tests.kfp_stub import KfpStub

NAMES = ("pvforecast-ingestion", "pvforecast-training", "pvforecast-maintenance")
OTHER_HOUR = tuple(schedule.model_copy(update={"minute": 17}) for schedule in BUILT_IN)
OTHER_IMAGE = Profile(image="registry.example/pvforecast/app:9")


@pytest.fixture(scope="module")
def uploaded() -> tuple[KfpStub, list[Wanted]]:
    """A server with pipelines and experiment, and the built-in schedules to be made there."""
    with KfpStub(page_size=2).running() as stub:
        server = Server(stub.url)
        where = experiment(server, "pvforecast")
        return stub, [Wanted(s, upload(server, s.pipeline, DEFAULT), where, "") for s in BUILT_IN]


@pytest.fixture
def stub(uploaded: tuple[KfpStub, list[Wanted]]) -> Iterator[KfpStub]:
    """A server of a test's own that begins as `uploaded`, without schedules."""
    with KfpStub(page_size=2).running() as stub:
        for name in ("pipelines", "versions", "experiments"):
            setattr(stub, name, dict(getattr(uploaded[0], name)))
        yield stub


@pytest.fixture
def wanted(uploaded: tuple[KfpStub, list[Wanted]]) -> list[Wanted]:
    return uploaded[1]


def client(stub: KfpStub) -> Server:
    return Server(stub.url, pause_s=0.001, timeout_s=5)


def changed(wanted: list[Wanted]) -> list[Wanted]:
    return [want._replace(schedule=schedule) for want, schedule in zip(wanted, OTHER_HOUR, strict=True)]


def apply(stub: KfpStub, wanted: list[Wanted], failures: int = 3) -> list[tuple[str, str]]:
    done = recurring.apply(client(stub), wanted, failures=failures, pause=lambda _: None)
    return [(step.word, step.name) for step in done]


def test_applied_ten_times_there_is_one_of_each(stub: KfpStub, wanted: list[Wanted]) -> None:
    assert apply(stub, wanted) == [("create", "ingestion"), ("create", "training"), ("create", "maintenance")]
    before = dict(stub.recurring)
    for _ in range(9):
        calls = len(stub.calls)
        assert apply(stub, wanted) == []
        assert not any(
            call.startswith(("POST", "DELETE")) for call in stub.calls[calls:]
        )  # nothing changed, nothing done
    assert stub.recurring == before
    assert [len(stub.enabled(name)) for name in NAMES] == [1, 1, 1]


def test_a_recurring_run_is_what_kfp_needs(stub: KfpStub, wanted: list[Wanted]) -> None:
    apply(stub, wanted)
    (weekly,) = [job for job in stub.recurring.values() if job["display_name"] == "pvforecast-training"]
    assert weekly["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * SUN"}}
    assert (weekly["max_concurrency"], weekly["no_catchup"], weekly["mode"]) == ("1", True, "ENABLE")
    assert weekly["pipeline_version_reference"]["pipeline_version_id"] == wanted[1].version.version_id
    assert "as_of" not in weekly["runtime_config"]["parameters"]  # the schedule gives each run its time
    assert f"spec={wanted[1].spec}]" in weekly["description"]


@pytest.mark.parametrize(
    "change",
    [
        lambda want: want._replace(schedule=want.schedule.model_copy(update={"minute": 40})),
        lambda want: want._replace(schedule=want.schedule.model_copy(update={"parameters": {"parks": ["a"]}})),
        lambda want: want._replace(service_account="pipeline-runner"),
    ],
    ids=["time", "parameters", "account"],
)
def test_what_changed_is_made_anew_before_the_old_one_is_stopped_and_deleted(
    stub: KfpStub, wanted: list[Wanted], change: Any
) -> None:
    ingestion, *rest = wanted
    apply(stub, [ingestion, *rest])
    (old,) = stub.enabled("pvforecast-ingestion")
    calls = len(stub.calls)
    assert apply(stub, [change(ingestion), *rest]) == [(word, "ingestion") for word in ("create", "disable", "delete")]
    writes = [call for call in stub.calls[calls:] if not call.startswith("GET")]
    assert [call.partition("recurringruns")[2] for call in writes] == ["", f"/{old}:disable", f"/{old}"]
    assert len(stub.recurring) == 3
    assert stub.enabled("pvforecast-ingestion") != [old]


def test_another_content_of_the_pipeline_is_a_change(stub: KfpStub, wanted: list[Wanted]) -> None:
    ingestion, training, maintenance = wanted
    apply(stub, [ingestion, training, maintenance])
    newer = maintenance._replace(version=upload(client(stub), "maintenance", OTHER_IMAGE))
    assert [word for word, _ in apply(stub, [ingestion, training, newer])] == ["create", "disable", "delete"]


def test_a_run_that_goes_on_is_not_cut_off_by_the_end_of_its_schedule(stub: KfpStub, wanted: list[Wanted]) -> None:
    apply(stub, wanted)
    (old,) = stub.enabled("pvforecast-training")
    run_id = stub.trigger(old, "2026-01-04T03:00:00Z")
    for _ in range(5):  # ended runs, newer than the one that goes on: it is on another page
        stub.finish(stub.trigger(old, "2026-01-04T03:00:00Z"), "SUCCEEDED")
    done = apply(stub, changed(wanted))
    assert ("drain", "training") in done
    assert (stub.recurring[old]["status"], stub.runs[run_id]["state"]) == ("DISABLED", "RUNNING")
    assert len(stub.enabled("pvforecast-training")) == 1
    assert apply(stub, changed(wanted)) == [("drain", "training")]
    stub.finish(run_id, "SUCCEEDED")
    assert apply(stub, changed(wanted)) == [("delete", "training")]
    assert len(stub.recurring) == 3


def test_what_is_not_wanted_any_more_goes_and_what_is_not_ours_stays(stub: KfpStub, wanted: list[Wanted]) -> None:
    apply(stub, wanted)
    theirs = stub._add(
        stub.recurring, "recurring_run", {"display_name": NAMES[0], "description": "x", "status": "ENABLED"}
    )
    assert apply(stub, wanted[:1]) == [
        ("disable", "training"), ("disable", "maintenance"), ("delete", "training"), ("delete", "maintenance"),
    ]  # fmt: skip
    assert theirs["recurring_run_id"] in stub.recurring
    assert len(stub.recurring) == 2


def test_doubles_that_someone_made_are_cleared_and_a_stopped_one_is_started(
    stub: KfpStub, wanted: list[Wanted]
) -> None:
    apply(stub, wanted)
    first = stub.enabled("pvforecast-training")[0]
    stub._add(stub.recurring, "recurring_run", dict(stub.recurring[first]))
    stub.recurring[stub.enabled("pvforecast-ingestion")[0]]["status"] = "DISABLED"
    assert apply(stub, wanted) == [("enable", "ingestion"), ("disable", "training"), ("delete", "training")]
    assert stub.enabled("pvforecast-training") == [first]  # the older stays
    paused = wanted[0]._replace(schedule=wanted[0].schedule.model_copy(update={"paused": True}))
    assert apply(stub, [paused, *wanted[1:]]) == [("disable", "ingestion")]
    assert apply(stub, [paused, *wanted[1:]]) == []


FAULTS = ("500", "done-reset", "done-409")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("begin", ["nothing", "others"])
@pytest.mark.parametrize("failures", [1, 3], ids=["gives-up", "goes-on"])
def test_with_the_server_failing_at_every_single_call_none_is_lost_and_none_doubled(
    stub: KfpStub, wanted: list[Wanted], fault: str, begin: str, failures: int
) -> None:
    """`done-` faults do the work and lose the answer: a client that just sent again would make two."""
    if begin == "others":
        apply(stub, wanted)
        wanted = changed(wanted)
    kept = {key: dict(job) for key, job in stub.recurring.items()}
    start = len(stub.calls)
    apply(stub, wanted)
    calls = len(stub.calls) - start
    assert calls >= 4
    for at in range(calls):
        stub.recurring = {key: dict(job) for key, job in kept.items()}
        stub.faults = {len(stub.calls) + at: fault}
        try:
            apply(stub, wanted, failures)
        except (NotReady, InvalidInput):
            # Given up in the middle: whatever was there still runs, or its successor does.
            assert all(stub.enabled(name) for name in NAMES if kept)
        stub.faults = {}
        apply(stub, wanted)
        assert [len(stub.enabled(name)) for name in NAMES] == [1, 1, 1]
        assert len(stub.recurring) == 3
        assert {want.spec for want in wanted} == {found.spec for found in recurring.ours(client(stub))}


def test_a_server_that_keeps_failing_is_given_up(stub: KfpStub, wanted: list[Wanted]) -> None:
    stub.always = "503"
    pauses: list[float] = []
    with pytest.raises(NotReady, match="503"):
        recurring.apply(client(stub), wanted, pause=pauses.append)
    assert pauses == [1.0, 2.0]


def test_steps_need_no_server() -> None:
    version = Version("ingestion", "ingestion-0", "p", "v", created=False)
    want = Wanted(Schedule(name="a", pipeline="ingestion", every="day"), version, "e", "")
    assert [step.word for step in recurring.steps([want], [])] == ["create"]
    assert recurring.steps([], []) == []


def test_the_spec_does_not_depend_on_how_it_came_about() -> None:
    version = Version("ingestion", "ingestion-0", "p", "v", created=False)
    want = Wanted(BUILT_IN[0], version, "e", "")
    turned = dict(reversed(BUILT_IN[0].parameters.items()))
    same = want.schedule.model_copy(update={"parameters": turned, "paused": True})
    assert want.spec == want._replace(schedule=same, version=version._replace(created=True)).spec
    assert want.spec == "c4a3ca454d21ea841feea4e13f5664c17de41da2d3a4c8d39653918ff3c225f9"  # in every process
