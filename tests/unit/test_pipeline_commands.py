"""`pvf pipeline` against the stand-in for the KFP API server, and its timers for a single machine."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inference.retrain import command
from pipelines import timers
from pipelines.schedules import BUILT_IN, Schedule
from pvf.cli import app
from pvforecast.errors import InvalidInput, StackError
from tests.kfp_stub import KfpStub

AS_OF = "2026-01-06T00:00:00+00:00"
PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("PVF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PVF_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def stub(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KfpStub]:
    with KfpStub(token="secret").running() as stub:
        monkeypatch.setenv("PVF_KFP_URL", stub.url)
        monkeypatch.setenv("PVF_KFP_TOKEN", "secret")
        yield stub


def pvf(*words: str) -> Result:
    return CliRunner().invoke(app, ["pipeline", *words], env={"COLUMNS": "200"})


def test_a_run_from_submission_to_its_log_and_end(stub: KfpStub) -> None:
    sent = pvf("submit", "maintenance", "--as-of", AS_OF, "--json")
    assert sent.exit_code == 0, sent.exception
    run = json.loads(sent.stdout)
    assert (run["created"], run["as_of"], run["pipeline"]) == (True, AS_OF, "maintenance")
    assert json.loads(pvf("submit", "maintenance", "--as-of", AS_OF, "--json").stdout)["created"] is False
    listed = json.loads(pvf("runs", "--json").stdout)
    assert [row["run_id"] for row in listed] == [run["run_id"]]
    stub.runs[run["run_id"]]["run_details"] = {
        "task_details": [{"display_name": "maintain", "state": "FAILED", "pod_name": "pod-1"}]
    }
    stub.logs["pod-1"] = "DataError\n"
    assert pvf("logs", run["run_id"]).stdout == "DataError\n"
    wrong = pvf("logs", run["run_id"], "--task", "train").exception
    assert isinstance(wrong, InvalidInput)
    assert str(wrong) == "--task: no task 'train' (maintain)"
    assert pvf("cancel", run["run_id"]).stdout == f"{run['run_id']}: cancelled\n"
    stub.finish(run["run_id"], "FAILED", error={"code": 2, "message": "out of memory"})
    assert pvf("cancel", run["run_id"]).stdout == f"{run['run_id']}: had ended, FAILED\n"
    assert "out of memory" in pvf("runs", "--state", "failed").stdout


class Tracking:
    """MLflow, of which a training left one run."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def runs_tagged(self, name: str, value: str) -> list[tuple[str, str]]:
        return [("mlflow-1", "FINISHED")] if (name, value) == ("pipeline_run", self._run_id) else []

    def run(self, _: str) -> dict[str, dict[str, str]]:
        return {"tags": {"verdict": "promote", "verdict_reason": "better", "model_version": "3"}}


def test_a_training_after_drift_ends_with_its_verdict_as_the_trigger_reads_it(
    stub: KfpStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("submit", "training", "--as-of", AS_OF, "--reason", "drift", "--event-id", "event-7", "--json")
    run = json.loads(pvf(*words).stdout)
    sent = stub.runs[run["run_id"]]["runtime_config"]["parameters"]
    assert (sent["reason"], sent["event_id"]) == ("drift", "event-7")
    stub.finish(run["run_id"], "SUCCEEDED")
    monkeypatch.setattr("pvforecast.clients.tracking", lambda _: Tracking(run["run_id"]))
    (tmp_path / "out").write_text(pvf(*words, "--wait").stdout)
    verdict = command.verdict(tmp_path / "out")
    assert verdict is not None
    assert (verdict["verdict"], verdict["model_version"], verdict["mlflow_run_id"]) == ("promote", "3", "mlflow-1")
    monkeypatch.setattr("pvforecast.clients.tracking", lambda _: Tracking("another"))
    assert isinstance(pvf(*words, "--wait").exception, StackError)


def test_waiting_for_a_run_that_failed_is_a_failure(stub: KfpStub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.client.runs._PAUSE_S", 0.0)
    run = json.loads(pvf("submit", "maintenance", "--as-of", AS_OF, "--json").stdout)
    stub.finish(run["run_id"], "SUCCEEDED")
    assert pvf("submit", "maintenance", "--as-of", AS_OF, "--wait").exit_code == 0
    stub.finish(run["run_id"], "RUNNING")
    original = stub._known

    def ends(table: dict[str, dict[str, object]], key: str) -> dict[str, object]:
        row = original(table, key)
        if key == run["run_id"]:
            row["state"] = "FAILED"
        return row

    monkeypatch.setattr(stub, "_known", ends)
    failed = pvf("submit", "maintenance", "--as-of", AS_OF, "--wait").exception
    assert isinstance(failed, StackError)
    assert f"pvf pipeline logs {run['run_id']}" in str(failed)


def test_schedules_are_applied_twice_and_shown(stub: KfpStub) -> None:
    assert [row["word"] for row in json.loads(pvf("schedule", "--json").stdout)] == ["create"] * 3
    assert json.loads(pvf("schedule", "--json").stdout) == []
    shown = json.loads(pvf("schedule", "--show", "--json").stdout)
    assert [row["cron"] for row in shown] == ["0 5 * * * *", "0 0 3 * * SUN", "0 30 2 * * *"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("submit training --as-of 2026-01-06T00:00:00", "--as-of: '2026-01-06T00:00:00' has no UTC offset"),
        ("submit training --set quorum=2", "quorum: 2 is not within 0 and 1"),
        ("submit training --set parks_per_shard=0", "parks_per_shard: 0 is not within 1 and"),
        ("submit training --set parks=a", "--set parks: 'a' is no JSON"),
        ('submit training --set parks="a"', "parks: 'a' is no List"),
        ("submit training --set moon=1", "moon: the pipeline training has no such parameter"),
        (f"submit backfill --as-of {AS_OF} --since 2026-01-01T00:00:00Z", "until: backfill needs it"),
        (f"submit backfill --as-of {AS_OF} --since 2026-01-01T00:00:00Z --until 2026-01-07T00:00:00Z", "until: "),
        (f"submit training --as-of {AS_OF} --since {AS_OF}", f"since: '{AS_OF}' is not before as_of"),
        ("submit maintenance --as-of 2222-01-01T00:00:00Z", "as_of: lies in the future"),
        ("submit nothing --scheduled", "--scheduled: no schedule 'nothing' (known: ingestion, training, maintenance)"),
        ("schedule --install", "--install: is for this machine (add --local)"),
        ("runs", "PVF_KFP_URL: is not set"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(home: Path, words: str, says: str) -> None:
    refused = pvf(*words.replace('"', '\\"').replace('\\"a\\"', '"a"').split()).exception
    assert isinstance(refused, InvalidInput)
    assert str(refused).startswith(says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schedules: [{name: a, pipeline: ingestion, every: fortnight}]", "schedules.yaml: every: "),
        ("schedules: [{name: A b, pipeline: ingestion, every: day}]", "schedules.yaml: name: "),
        ("schedules: [{name: a, pipeline: nothing, every: day}]", "schedule a: NAME: no pipeline 'nothing'"),
        ("schedules: [{name: a, pipeline: backfill, every: day}]", "schedule a: NAME: backfill is for a range of days"),
        (
            "schedules: [{name: a, pipeline: ingestion, every: day, parameters: {as_of: x}}]",
            "schedule a: as_of: each run of a schedule has its own time",
        ),
        (
            "schedules: [{name: a, pipeline: ingestion, every: day}, {name: a, pipeline: training, every: day}]",
            "schedules.yaml: two are named 'a'",
        ),
        ("{", "schedules.yaml: cannot be read"),
        ("runs: []", "schedules.yaml: needs one list"),
    ],
)
def test_a_file_of_schedules_is_checked(home: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str) -> None:
    file = home / "schedules.yaml"
    file.write_text(text)
    monkeypatch.setenv("PVF_PIPELINE_SCHEDULES", str(file))
    refused = pvf("schedule", "--show").exception
    assert isinstance(refused, InvalidInput)
    assert says in str(refused)


# --- when a schedule is due ---


@pytest.mark.parametrize(
    ("schedule", "now", "due"),
    [
        (BUILT_IN[0], "2026-01-07T10:04:59", "2026-01-07T09:05:00"),
        (BUILT_IN[0], "2026-01-07T10:05:00", "2026-01-07T10:05:00"),
        (BUILT_IN[0], "2026-01-01T00:01:00", "2025-12-31T23:05:00"),
        (BUILT_IN[1], "2026-01-07T10:00:00", "2026-01-04T03:00:00"),  # a Wednesday; the Sunday before
        (BUILT_IN[1], "2026-01-04T02:59:59", "2025-12-28T03:00:00"),
        (BUILT_IN[1], "2026-01-04T03:00:00", "2026-01-04T03:00:00"),
        (BUILT_IN[2], "2026-03-01T02:00:00", "2026-02-28T02:30:00"),
    ],
)
def test_the_newest_time_a_schedule_was_due(schedule: Schedule, now: str, due: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert schedule.last(moment) == datetime.fromisoformat(due).replace(tzinfo=UTC)


def test_systemd_reads_the_same_times(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    for schedule in BUILT_IN:
        words = ["systemd-analyze", "calendar", "--base-time=2026-01-07 10:30:00 UTC", schedule.on_calendar]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        following = schedule.last(datetime(2026, 1, 7, 10, 30, tzinfo=UTC) + PERIODS[schedule.every])
        assert following.strftime("%Y-%m-%d %H:%M:%S UTC") in said


# --- timers ---


def test_units_run_each_schedule_by_the_command_and_hold_no_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_S3_SECRET_KEY", "do-not-tell")
    printed = pvf("schedule", "--local").stdout
    assert "do-not-tell" not in printed
    assert printed.count("OnCalendar=") == 3
    assert "pipeline submit --local --scheduled training\n" in printed
    assert f'Environment="PVF_HOME={home}"' in printed


def test_units_are_what_systemd_accepts(tmp_path: Path) -> None:
    made = timers.units(BUILT_IN, ["/bin/echo", "a b", "100%", "$HOME"], {"PVF_HOME": '/a "b"/50%'})
    assert set(made) == {f"pvforecast-{s.name}.{kind}" for s in BUILT_IN for kind in ("service", "timer")}
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(made["pvforecast-training.service"])
    assert unit["Service"]["ExecStart"] == '/bin/echo "a b" 100%% $$HOME training'
    if shutil.which("systemd-analyze") is not None:
        for name, text in made.items():
            (tmp_path / name).write_text(text)
        files = [str(tmp_path / name) for name in made]
        checked = subprocess.run(
            ["systemd-analyze", "verify", "--user", "--man=no", *files], capture_output=True, text=True, check=False,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        assert [line for line in checked.stderr.splitlines() if str(tmp_path) in line] == []


def test_writing_twice_changes_nothing_and_what_is_gone_goes(tmp_path: Path) -> None:
    where = timers.folder({"XDG_CONFIG_HOME": str(tmp_path)})
    assert where == tmp_path / "systemd" / "user"
    made = timers.units(BUILT_IN, ["/bin/true"], {})
    assert len(timers.write(made, where)) == 6
    (where / "theirs.timer").write_text("[Timer]\n")
    assert timers.write(made, where) == []
    later, paused = BUILT_IN[0].model_copy(update={"minute": 9}), BUILT_IN[1].model_copy(update={"paused": True})
    fewer = timers.units([later, paused], ["/bin/true"], {})
    changed = {file.name for file in timers.write(fewer, where)}
    assert changed == {
        "pvforecast-ingestion.timer", "pvforecast-training.service", "pvforecast-training.timer",
        "pvforecast-maintenance.service", "pvforecast-maintenance.timer",
    }  # fmt: skip
    assert (where / "theirs.timer").exists()


def test_where_systemd_does_not_run_the_commands_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StackError, match=r"systemctl --user enable --now pvforecast-ingestion\.timer"):
        timers.start(timers.units(BUILT_IN[:1], ["/bin/true"], {}))
