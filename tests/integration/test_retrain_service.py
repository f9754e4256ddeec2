"""The trigger against a real Postgres, with real child processes, over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest

from pvforecast.lake import Lake
from pvforecast.lake.tables import PARKS
from pvforecast.registry import Promotions
from pvforecast.settings import Settings
from tests.retrain_trigger import EXAMPLE, VERDICT, Trigger, Wire, schema, until

pytestmark = pytest.mark.stack


def _event(number: int = 0, time_: str = "2013-09-21T12:00:00Z", **data: Any) -> dict[str, Any]:
    park = data.get("park_id", EXAMPLE["subject"])
    return {**EXAMPLE, "id": f"event-{number}", "time": time_, "subject": park, "data": {**EXAMPLE["data"], **data}}


def _cleared(time_: str) -> dict[str, Any]:
    data = {
        "park_id": EXAMPLE["subject"], "day": "2013-10-05", "since": "2013-09-20", "reason": "accepted",
        "opened_by": "event-0", "reference_id": "r", "detector_set": "v1",
    }  # fmt: skip
    return {**EXAMPLE, "id": "cleared", "type": "io.pvforecast.drift.cleared.v1", "time": time_, "data": data}


def _drifted(trigger: Trigger) -> list[str]:
    """Parks with an open drift, as the metrics tell."""
    text = httpx.get(f"{trigger.url}/metrics", timeout=30).text
    return sorted(re.findall(r'pvf_drift_open\{.*park="([^"]*)"', text), reverse=True)


@pytest.fixture
def dsn(infra: Settings) -> Iterator[str]:
    with schema(infra) as name:
        yield name


@pytest.fixture
def trigger(dsn: str, tmp_path: Path) -> Iterator[Trigger]:
    with Trigger(dsn, tmp_path) as started:
        yield started


def test_an_event_leads_to_a_run_to_a_verdict_to_mlflow(trigger: Trigger) -> None:
    answer = trigger.post(_event())
    assert (answer.status_code, answer.headers["x-pvforecast-outcome"]) == (202, "accepted")
    run = trigger.wait_for("succeeded")
    assert {name: run[name] for name in ("exit_code", "verdict", "model_version", "mlflow_run_id")} == {
        "exit_code": 0, "verdict": "refresh", "model_version": "3", "mlflow_run_id": "abc123",
    }  # fmt: skip
    assert run["event_ids"] == ["event-0"]
    assert trigger.event()["run"]["mlflow_run_id"] == "abc123"
    ((as_of, reason, event_id),) = trigger.calls()
    assert (as_of, event_id) == ("2013-09-21T12:00:00+00:00", "event-0")
    assert reason == "drift of pvdaq-50 on 2013-09-20: loss_or_soiling (cusum_level)"


def test_the_same_event_at_once_and_again_is_one_run(trigger: Trigger) -> None:
    barrier = threading.Barrier(8)
    statuses: list[int] = []

    def send() -> None:
        barrier.wait()
        statuses.append(trigger.post(_event()).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 7 + [202]
    trigger.wait_for("succeeded")
    assert trigger.post(_event()).headers["x-pvforecast-outcome"] == "duplicate"
    time.sleep(0.5)
    assert len(trigger.runs()) == len(trigger.calls()) == 1


def test_events_within_the_cool_down_belong_to_the_run_and_later_ones_wait_for_it_to_end(trigger: Trigger) -> None:
    trigger.hold()
    trigger.post(_event(0))
    trigger.wait_for("active")
    trigger.post(_event(1, "2013-09-22T11:59:59Z"))  # within 24 h of the run's as-of
    trigger.post(_event(2, "2013-09-22T12:00:00Z", park_id="two"))
    trigger.post(_event(3, "2013-09-23T12:00:00Z", park_id="three"))
    until(lambda: trigger.event(1)["status"] == "attached")
    assert [trigger.event(n)["status"] for n in (2, 3)] == ["waiting", "waiting"]
    assert len(trigger.calls()) == 1  # never two at a time
    trigger.release()
    until(lambda: len(trigger.runs()) == 2 and trigger.runs()[0]["status"] == "succeeded")
    second, first = trigger.runs()
    assert (first["event_ids"], second["event_ids"]) == (["event-0", "event-1"], ["event-2", "event-3"])
    assert trigger.calls()[1][0] == "2013-09-23T12:00:00+00:00"  # as of the newest of them
    assert trigger.calls()[1][1].endswith("and 1 more")


@pytest.mark.parametrize("advice", ["watch", "fix_data"])
def test_only_the_advice_to_retrain_starts_a_run(trigger: Trigger, advice: str) -> None:
    answer = trigger.post(_event(advice=advice))
    assert (answer.status_code, answer.headers["x-pvforecast-outcome"]) == (202, "ignored")
    time.sleep(0.5)
    assert trigger.runs() == []
    assert trigger.event()["status"] == "ignored"
    assert advice in trigger.event()["reason"]


def test_bad_requests_get_a_4xx_naming_the_field_and_the_trigger_goes_on(trigger: Trigger) -> None:
    broken = {**_event(), "data": {**EXAMPLE["data"], "severity": "mild"}}
    answer = trigger.post(broken)
    assert answer.status_code == 400
    assert answer.json()["field"] == "data.severity"
    assert answer.json()["hint"]
    assert httpx.post(trigger.url, content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert trigger.post({**_event(), "more": "x" * 1_100_000}).status_code == 413
    assert httpx.get(f"{trigger.url}/events/nobody").status_code == 404
    other = trigger.post({**_event(), "type": "com.example.other"})
    assert (other.status_code, other.headers["x-pvforecast-outcome"]) == (202, "ignored")
    assert trigger.runs() == []
    assert trigger.post(_event()).status_code == 202


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "a\x00", "data": {**EXAMPLE["data"], "park_id": "a\x00"}},
        {"extension": "\x00"},
        {"time": "9999-12-31T23:59:59Z"},
    ],
)
def test_what_postgres_cannot_keep_or_lies_in_the_future_is_a_400(trigger: Trigger, change: dict[str, Any]) -> None:
    answer = trigger.post({**_event(), **change})
    assert answer.status_code == 400, answer.text
    assert trigger.runs() == []
    assert httpx.get(f"{trigger.url}/events/%00").status_code == 400


def test_a_failed_run_says_why_and_gives_its_event_back(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path, options=["--retry-minutes", "0.02"]) as trigger:
        (trigger.folder / "fail").touch()
        trigger.post(_event(0))
        until(lambda: bool(trigger.runs()) and trigger.runs()[-1]["status"] == "failed")
        run = trigger.runs()[-1]
        assert (run["exit_code"], run["error"]) == (1, "no data for training")
        (trigger.folder / "fail").unlink()
        trigger.post(_event(1, "2013-09-21T13:00:00Z", park_id="other"))
        assert "event-0" in trigger.wait_for("succeeded")["event_ids"]
        until(lambda: trigger.event(1)["run"] is not None)
        assert trigger.event(0)["attempts"] == 1


def test_an_event_whose_runs_all_fail_goes_to_people(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path, options=["--retry-minutes", "0.001", "--attempts", "2"]) as trigger:
        (trigger.folder / "fail").touch()
        trigger.post(_event(0))
        until(lambda: trigger.event()["status"] == "escalated")
        assert trigger.event()["reason"].startswith("2 runs failed")
        assert len(trigger.runs()) == 2
        metrics = httpx.get(f"{trigger.url}/metrics").text.splitlines()
        assert 'pvf_retrain_events{status="escalated"} 1.0' in metrics


def test_a_drift_that_comes_back_after_its_run_goes_to_people_and_one_that_was_cleared_is_trained_again(
    trigger: Trigger,
) -> None:
    trigger.post(_event(0))
    trigger.wait_for("succeeded")
    trigger.post(_event(1, "2013-10-01T12:00:00Z"))
    until(lambda: trigger.event(1)["status"] == "escalated")
    assert trigger.runs()[0]["outcome"] == "not_cleared"
    answer = trigger.post(_cleared("2013-10-06T12:00:00Z"))
    assert (answer.status_code, answer.headers["x-pvforecast-outcome"]) == (202, "noted")
    assert trigger.runs()[0]["outcome"] == "cleared"
    trigger.post(_event(3, "2013-10-20T12:00:00Z"))
    until(lambda: len(trigger.runs()) == 2)


def test_a_hundred_parks_at_once_are_one_run(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path, options=["--coalesce-seconds", "3"]) as trigger:
        for number in range(100):
            assert trigger.post(_event(number, park_id=f"park-{number}")).status_code == 202
        assert len(trigger.wait_for("succeeded")["event_ids"]) == 100
        assert len(trigger.calls()) == 1


def test_only_who_shows_the_token_and_names_a_known_park_is_heard(dsn: str, tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    began = pd.Timestamp("2013-01-01", tz="UTC")
    row = {"park_id": EXAMPLE["subject"], "valid_from": began, "recorded_at": began, "facts": "{}"}
    lake.append_new(PARKS, pd.DataFrame([row]))
    environment = {"PVF_TRIGGER_TOKEN": "quite-secret", "PVF_LAKE_URI": str(tmp_path / "lake")}
    with Trigger(dsn, tmp_path, environment=environment) as trigger:
        assert trigger.post(_event()).status_code == 401
        assert trigger.post(_event(), authorization="Bearer wrong").status_code == 401
        token = {"authorization": "Bearer quite-secret"}
        unknown = trigger.post(_event(park_id="atlantis"), **token)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_park")
        assert trigger.post({**_event(), "time": "2199-01-01T00:00:00Z"}, **token).status_code == 400
        assert trigger.post({**_event(), "more": "x" * 1_100_000}, **token).status_code == 413
        assert trigger.runs() == []
        assert trigger.post(_event(), **token).status_code == 202
        trigger.wait_for("succeeded")
        metrics = httpx.get(f"{trigger.url}/metrics").text.splitlines()
        for code, count in (("unauthenticated", 2), ("unknown_park", 1), ("future_event", 1), ("too_large", 1)):
            assert f'pvf_retrain_refusals_total{{code="{code}"}} {count}.0' in metrics
        assert "quite-secret" not in (tmp_path / "trigger.log").read_text()


KILLED = """
import os, signal, sys
from inference.retrain import __main__, command, service, store

def dies(owner, name, after):
    work = getattr(owner, name)
    def dying(*args, **kwargs):
        result = work(*args, **kwargs) if after else None
        if name != "advance" or result is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, dying)

dies({owner}, "{name}", {after})
sys.exit(__main__.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "after", "runs"),
    [
        ("store.Store", "add_event", True, ["succeeded"]),
        ("store.Store", "advance", True, ["succeeded", "lost"]),  # claimed, and nothing started
        ("command", "start", False, ["succeeded", "lost"]),
        ("command", "start", True, ["succeeded"]),  # started, and the pid not written down
        ("store.Store", "started", True, ["succeeded"]),
        ("store.Store", "finished", False, ["succeeded"]),  # ended, and not written down
        ("store.Store", "finished", True, ["succeeded"]),
    ],
)
def test_killed_at_any_step_there_is_one_training(
    dsn: str, tmp_path: Path, owner: str, name: str, after: bool, runs: list[str]
) -> None:
    script = KILLED.format(owner=owner, name=name, after=after)
    with Trigger(dsn, tmp_path, entry=("-c", script)) as trigger:
        with contextlib.suppress(httpx.HTTPError):
            trigger.post(_event())
        trigger.process.wait(30)
        assert trigger.process.returncode == -signal.SIGKILL
    with Trigger(dsn, tmp_path) as again:
        again.post(_event())  # its sender got no answer, perhaps
        again.wait_for("succeeded")
        time.sleep(0.5)
        assert [run["status"] for run in again.runs()] == runs
        assert len(again.calls()) == 1
        assert again.event()["run"]["verdict"] == "refresh"


def test_a_command_that_does_not_exist_is_a_failed_run(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path, ["/nowhere/train"]) as trigger:
        trigger.post(_event())
        assert "did not start" in trigger.wait_for("failed")["error"]


def test_a_command_without_a_verdict_is_a_failed_run(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path, [sys.executable, "-c", "print('done')"]) as trigger:
        trigger.post(_event())
        assert "no verdict" in trigger.wait_for("failed")["error"]


def test_sigterm_ends_the_run_orderly_and_the_next_start_takes_it_up(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path) as trigger:
        trigger.hold()
        trigger.post(_event())
        until(lambda: len(trigger.calls()) == 1)
        child = psutil.Process(trigger.wait_for("active")["pid"])
        trigger.process.send_signal(signal.SIGTERM)
        assert trigger.process.wait(30) == 0
        assert not child.is_running()
    trigger.release()
    with Trigger(dsn, tmp_path) as again:
        run = again.wait_for("succeeded")
        assert run["event_ids"] == ["event-0"]
        assert [row["status"] for row in again.runs()] == ["succeeded", "lost"]
        assert len(again.calls()) == 2


def test_a_run_that_outlives_a_killed_trigger_is_not_started_twice(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path) as trigger:
        trigger.hold()
        trigger.post(_event())
        until(lambda: len(trigger.calls()) == 1 and trigger.runs()[0]["pid"] is not None)
        trigger.process.kill()
        trigger.process.wait(30)
    with Trigger(dsn, tmp_path) as again:
        time.sleep(0.5)
        assert again.runs()[0]["status"] == "active"
        again.release()
        assert again.wait_for("succeeded")["verdict"] == "refresh"  # read from its output
        assert len(again.calls()) == 1


def test_a_run_that_died_with_its_trigger_is_lost_and_started_again(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path) as trigger:
        trigger.hold()
        trigger.post(_event())
        until(lambda: len(trigger.calls()) == 1 and trigger.runs()[0]["pid"] is not None)
        child = psutil.Process(trigger.runs()[0]["pid"])
        trigger.process.kill()
        child.kill()
        trigger.process.wait(30)
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    trigger.release()
    with Trigger(dsn, tmp_path) as again:
        again.wait_for("succeeded")
        assert [row["status"] for row in again.runs()] == ["succeeded", "lost"]
        assert again.event()["run"]["status"] == "succeeded"


def test_a_lost_run_is_run_again_as_it_was_and_what_came_since_belongs_to_it(dsn: str, tmp_path: Path) -> None:
    """On a cluster the lost run may still go on: the same arguments find it there instead of starting a second one."""
    with Trigger(dsn, tmp_path) as trigger:
        trigger.hold()
        trigger.post(_event(0))
        until(lambda: len(trigger.calls()) == 1)
    with Trigger(dsn, tmp_path, options=("--coalesce-seconds", "2")) as again:
        again.post(_event(1, "2013-09-21T13:00:00Z", park_id="another"))
        until(lambda: len(again.calls()) == 2)
        again.release()
        assert again.wait_for("succeeded")["event_ids"] == ["event-0", "event-1"]
        assert again.calls()[0] == again.calls()[1]


def test_hours_kept_from_training_and_clearances_are_noted_and_start_nothing(trigger: Trigger) -> None:
    base = {"specversion": "1.0", "source": "/pvforecast/drift", "subject": "a", "time": "2013-09-21T12:00:00Z"}
    held = {"park_id": "a", "first": "2013-09-20T06:00:00Z", "last": "2013-09-20T18:00:00Z", "hours": 13}
    answer = trigger.post({
        **base, "id": "held", "type": "io.pvforecast.data.quarantined.v1",
        "data": {**held, "cause": "outage", "event_id": "event-0"},
    })  # fmt: skip
    assert answer.headers["x-pvforecast-outcome"] == "noted"
    time.sleep(0.6)
    assert trigger.runs() == []


def test_the_trace_of_an_event_leads_from_it_to_the_clearance(dsn: str, tmp_path: Path) -> None:
    with Trigger(dsn, tmp_path) as trigger:
        trigger.post(_event(0))
        trigger.wait_for("succeeded")
        trigger.post(_cleared("2013-10-06T12:00:00Z"))
    Promotions(dsn).promote(
        0, model_version=3, bundle_uri="s3://pvf/b", bundle_id="b", verdict="refresh", reason="fresh data",
        actor="drift", mlflow_run_id=VERDICT["mlflow_run_id"], event_id="event-0",
    )  # fmt: skip
    words = [sys.executable, "-m", "pvf", "drift", "trace", "event-0", "--json"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PVF_")} | {"PVF_POSTGRES_DSN": dsn}
    env["PVF_HOME"] = str(tmp_path)
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=True)
    steps = {step["step"]: step["id"] for step in json.loads(done.stdout)["steps"]}
    assert steps.pop("announced")
    assert steps == {
        "event": "event-0", "run": "1", "verdict": "r1", "mlflow": "abc123", "promotion": "1", "cleared": "cleared",
    }  # fmt: skip
    unknown = subprocess.run(
        [*words[:-2], "nothing"], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert (unknown.returncode, "EVENT_ID" in unknown.stderr) == (1, True)


def test_a_fleet_event_stands_for_each_of_its_parks(trigger: Trigger) -> None:
    parks = [EXAMPLE["subject"], "another"]
    trigger.post(_event(0, park_id="fleet", parks=parks))
    trigger.wait_for("succeeded")
    assert _drifted(trigger) == parks
    trigger.post(_event(1, "2013-10-01T12:00:00Z", park_id="another"))
    until(lambda: trigger.event(1)["status"] == "escalated")  # its run was the fleet's
    trigger.post(_cleared("2013-10-06T12:00:00Z"))
    assert _drifted(trigger) == ["another"]


def test_no_event_is_lost_when_postgres_is_away(dsn: str, tmp_path: Path) -> None:
    wire = Wire(dsn)
    with contextlib.closing(wire), Trigger(wire.dsn, tmp_path) as trigger:
        wire.cut()
        answer = trigger.post(_event())
        assert answer.status_code == 503  # so the sender tries again
        assert answer.headers["retry-after"]
        assert httpx.get(f"{trigger.url}/healthz").status_code == 200
        wire.mend()
        until(lambda: trigger.post(_event()).status_code in (200, 202))
        assert trigger.wait_for("succeeded")["event_ids"] == ["event-0"]


def test_a_run_goes_on_while_postgres_is_away(dsn: str, tmp_path: Path) -> None:
    wire = Wire(dsn)
    with contextlib.closing(wire), Trigger(wire.dsn, tmp_path) as trigger:
        trigger.hold()
        trigger.post(_event())
        until(lambda: len(trigger.calls()) == 1 and trigger.runs()[0]["pid"] is not None)
        wire.cut()
        trigger.release()
        time.sleep(1.0)
        wire.mend()
        until(lambda: httpx.get(f"{trigger.url}/runs", timeout=30).status_code == 200)
        assert trigger.wait_for("succeeded")["verdict"] == "refresh"
        assert len(trigger.calls()) == 1


def test_metrics_tell_events_and_runs(trigger: Trigger) -> None:
    trigger.post(_event(0))
    trigger.post(_event(0))
    trigger.post(_event(1, advice="watch"))
    trigger.wait_for("succeeded")
    text = httpx.get(f"{trigger.url}/metrics").text
    for line in (
        'pvf_retrain_answers_total{outcome="accepted"} 1.0',
        'pvf_retrain_answers_total{outcome="duplicate"} 1.0',
        'pvf_retrain_events{status="attached"} 1.0',
        'pvf_retrain_events{status="ignored"} 1.0',
        'pvf_retrain_runs{status="succeeded"} 1.0',
    ):
        assert line in text.splitlines()
    (drift,) = [line for line in text.splitlines() if line.startswith("pvf_drift_open{")]
    for label in ('advice="watch"', 'cause="loss_or_soiling"', 'event_id="event-', "power_ratio 0.8985"):
        assert label in drift


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"PVF_POSTGRES_DSN": ""}, "PVF_POSTGRES_DSN"),
        ({"PVF_TRAINING_COMMAND": "train"}, "PVF_TRAINING_COMMAND"),
        ({"PVF_POSTGRES_DSN": "postgresql://pvf@127.0.0.1:1/pvf"}, "Postgres did not answer"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_clear_line(tmp_path: Path, more: dict[str, str], says: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PVF_")}
    environment |= {"PVF_POSTGRES_DSN": "postgresql://pvf@127.0.0.1:1/pvf", "PVF_HOME": str(tmp_path), **more}
    done = subprocess.run(
        [sys.executable, "-m", "inference.retrain", "--port", "0"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
