"""`pvf pipeline`: compile, run and schedule pipelines, on this machine or on a KFP server. See docs/pipelines.md."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pvforecast.errors import InvalidInput, StackError
from pvforecast.settings import Settings, load

if TYPE_CHECKING:
    from pipelines.client.connection import Server

app = typer.Typer(no_args_is_help=True, help="Compile, run and schedule pipelines, here or on a KFP server.")
ROOT = Path(__file__).resolve().parents[2]
NAMES = ("backfill", "ingestion", "maintenance", "training")

Name = Annotated[str, typer.Argument(help="backfill, ingestion, maintenance or training")]
AsOf = Annotated[str, typer.Option(help="ISO instant with offset; the run's now. Default now.")]
Since = Annotated[str, typer.Option(help="ISO instant with offset; default two weeks before.")]
Until = Annotated[str, typer.Option(help="ISO instant with offset; of a backfill only.")]
Reason = Annotated[str, typer.Option(help="Kept with the MLflow run.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=JSON", help="Any other pipeline parameter.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run: pvf pipeline runs")]


@app.command("compile")
def compile_pipelines(
    folder: Annotated[Path, typer.Argument(help="Where to.")] = Path("build/pipelines"),
    components: Annotated[bool, typer.Option("--components", help="Each component alone too.")] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Into pipelines/published/<version>, for other people's pipelines.")
    ] = False,
) -> None:
    """Write the KFP YAML of every pipeline."""
    from pipelines import compile as compiling
    from pipelines import profile

    if publish:
        for file in compiling.publish():
            print(file.relative_to(ROOT))
        return
    made = compiling.compile_all(folder, profile.load(load().pipeline_profile))
    if components:
        made |= compiling.compile_components(folder / "components")
    for name, file in made.items():
        print(f"{name}: {file}")


@app.command()
def run(
    name: Name, as_of: AsOf = "", since: Since = "", until: Until = "", reason: Reason = "by hand", more: Set = None
) -> None:
    """Run a pipeline on this machine from its compiled YAML."""
    settings = load()
    _run_here(name, _arguments(name, settings, as_of, since, until, reason, more), settings)


@app.command()
def submit(
    name: Name,
    as_of: AsOf = "",
    since: Since = "",
    until: Until = "",
    reason: Reason = "by hand",
    event_id: Annotated[str, typer.Option(help="Of the drift event that asks for a training.")] = "",
    more: Set = None,
    local: Annotated[bool, typer.Option("--local", help="Here, not on the KFP server.")] = False,
    scheduled: Annotated[
        bool, typer.Option("--scheduled", help="NAME is a schedule: its parameters, for the newest time it was due.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Even if the same run goes on or has succeeded.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; exit code 1 if it failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a run on the KFP server; one that goes on or has succeeded is not started twice."""
    settings = load()
    if scheduled:
        name, arguments = _of_schedule(name, settings)
    else:
        more = [*(more or []), *([f"event_id={json.dumps(event_id)}"] if event_id else [])]
        arguments = _arguments(name, settings, as_of, since, until, reason, more)
    if local:
        _run_here(name, arguments, settings)
        return
    from pipelines import profile
    from pipelines.client import runs
    from pipelines.client.experiment import experiment
    from pipelines.client.upload import upload

    server = _server(settings)
    version = upload(server, name, profile.load(settings.pipeline_profile))
    where = experiment(server, settings.kfp_experiment)
    sent = runs.submit(
        server, version, arguments, where, service_account=settings.kfp_service_account, again=again
    )  # fmt: skip
    ended = runs.wait(server, sent.run.run_id, lambda state: print(f"  {state}", file=sys.stderr)) if wait else sent.run
    if as_json:
        told = _verdict(settings, ended.run_id) if wait and (name, ended.state) == ("training", "SUCCEEDED") else {}
        print(json.dumps({**ended.as_dict(), "created": sent.created, "version": version.name, **told}))
    else:
        print(f"{ended.run_id}: {ended.name}, {ended.state}{'' if sent.created else ', was there'}")
    if wait and ended.state != "SUCCEEDED":
        raise StackError(f"{ended.run_id}: {ended.state} {ended.error}", hint=f"pvf pipeline logs {ended.run_id}")


@app.command()
def schedule(
    local: Annotated[bool, typer.Option("--local", help="As systemd user timers: print them.")] = False,
    install: Annotated[bool, typer.Option("--install", help="With --local: write and start them.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Only say what would run when.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the schedules on the KFP server to what they should be; run it as often as you like."""
    from pipelines import schedules

    settings = load()
    wanted = schedules.load(settings)
    if show:
        rows = [{**s.model_dump(), "cron": s.cron, "on_calendar": s.on_calendar} for s in wanted]
        _show(rows, ("name", "pipeline", "cron", "on_calendar", "parameters", "paused"), as_json)
    elif local:
        _timers(wanted, settings, install)
    else:
        if install:
            raise InvalidInput("is for this machine", field="--install", hint="add --local")
        _show([step._asdict() for step in _apply(wanted, settings)], ("word", "name", "recurring_run_id"), as_json)


@app.command()
def runs(
    pipeline: Annotated[str, typer.Option(help="Only of this one.")] = "",
    state: Annotated[str, typer.Option(help="e.g. RUNNING, FAILED")] = "",
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """The newest runs on the KFP server."""
    from pipelines.client import runs as client
    from pipelines.client.experiment import experiment

    settings = load()
    server = _server(settings)
    where = experiment(server, settings.kfp_experiment)
    found = client.listing(server, where, pipeline=pipeline, state=state.upper(), limit=limit)
    _show([run.as_dict() for run in found], ("run_id", "pipeline", "state", "as_of", "created_at", "error"), as_json)


@app.command()
def logs(
    run_id: RunId,
    task: Annotated[str, typer.Option(help="Only of this task; default those that failed.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Of every task.")] = False,
) -> None:
    """The tasks of a run, and what those that failed have printed."""
    from pipelines.client import runs as client

    server = _server(load())
    found = client.tasks(server, run_id)
    for one in found:
        print(f"{one.state:<10} {one.name}  {one.error}".rstrip(), file=sys.stderr)
    if task and task not in {one.name for one in found}:
        raise InvalidInput(f"no task {task!r}", field="--task", hint=", ".join(one.name for one in found) or "none yet")
    for one in found:
        if one.pod and (every or one.name == task or (not task and one.state == "FAILED")):
            print(f"--- {one.name} ({one.pod})", file=sys.stderr)
            print(client.log(server, run_id, one.pod), end="")


@app.command()
def cancel(run_id: RunId) -> None:
    """End a run; one that has ended stays as it is."""
    from pipelines.client import runs as client

    before = client.cancel(_server(load()), run_id)
    print(f"{run_id}: had ended, {before.state}" if before.state in client.ENDED else f"{run_id}: cancelled")


def _verdict(settings: Settings, run_id: str) -> dict[str, Any]:
    """What a training on the server came to: KFP's API has no outputs, but the MLflow run names the run."""
    from pvforecast import clients

    tracking = clients.tracking(settings)
    found = tracking.runs_tagged("pipeline_run", run_id)
    if not found:
        raise StackError(f"no MLflow run of {run_id}", hint="is PVF_MLFLOW_URI the server that the run used?")
    tags = tracking.run(found[0][0])["tags"]
    return {
        "verdict": tags["verdict"], "reason": tags.get("verdict_reason", ""),
        "model_version": tags.get("model_version"), "mlflow_run_id": found[0][0],
    }  # fmt: skip


def _server(settings: Settings) -> Server:
    from pipelines.client.connection import connect

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of each try; the last one's error says it all
    return connect(settings)


def _apply(wanted: Sequence[Any], settings: Settings) -> list[Any]:
    from pipelines import profile
    from pipelines.client import recurring
    from pipelines.client.experiment import experiment
    from pipelines.client.upload import upload

    server, limits = _server(settings), profile.load(settings.pipeline_profile)
    where = experiment(server, settings.kfp_experiment)
    versions = {name: upload(server, name, limits) for name in sorted({one.pipeline for one in wanted})}
    account = settings.kfp_service_account
    return recurring.apply(
        server, [recurring.Wanted(one, versions[one.pipeline], where, account) for one in wanted]
    )  # fmt: skip


def _timers(wanted: Sequence[Any], settings: Settings, install: bool) -> None:
    from pipelines import timers

    given = {"PVF_HOME": str(settings.home.resolve()), "PYTHONPATH": str(ROOT)}
    files = {
        f"PVF_{name.upper()}": str(value.resolve())
        for name in ("pipeline_schedules", "pipeline_profile")
        if (value := getattr(settings, name)) is not None
    }
    command = [sys.executable, "-m", "pvf", "pipeline", "submit", "--local", "--scheduled"]
    made = timers.units(wanted, command, {**given, **files})
    if not install:
        for name, text in made.items():
            print(f"# {name}\n{text}")
        return
    for file in timers.write(made, timers.folder()):
        print(f"{'written' if file.exists() else 'deleted'}: {file}")
    timers.start(made)
    print("started; when they are due: systemctl --user list-timers 'pvforecast-*'")


def _of_schedule(name: str, settings: Settings) -> tuple[str, dict[str, Any]]:
    """Pipeline and arguments of the newest run that a schedule is due for."""
    from pipelines import schedules
    from pipelines.arguments import checked

    one = schedules.named(schedules.load(settings), name)
    at = one.last(_scheduled(os.environ) or datetime.now(UTC))
    return one.pipeline, checked(one.pipeline, {**one.parameters, "as_of": at.isoformat()}, settings)


def _scheduled(environment: Mapping[str, str]) -> datetime | None:
    """When the timer that started this was due, if systemd says so."""
    micros = environment.get("TRIGGER_TIMER_REALTIME_USEC", "")
    return datetime.fromtimestamp(int(micros) / 1e6, UTC) if micros.isdigit() else None


def _arguments(
    name: str, settings: Settings, as_of: str, since: str, until: str, reason: str, more: Sequence[str] | None
) -> dict[str, Any]:
    if name not in NAMES:  # said before the pipelines are imported, which takes a second
        raise InvalidInput(f"no pipeline {name!r}", field="NAME", hint=f"{', '.join(NAMES[:-1])} or {NAMES[-1]}")
    from pvforecast.shards import instant

    for field, text in (("--as-of", as_of), ("--since", since), ("--until", until)):
        if text:
            instant(text, field)
    if not as_of and settings.clock == "snapshot" and name != "maintenance":
        raise InvalidInput("is needed in a replay", field="--as-of", hint="e.g. 2013-08-20T06:00:00+00:00")
    from pipelines.arguments import checked

    given: dict[str, Any] = {"as_of": as_of or datetime.now(UTC).isoformat(timespec="seconds")}
    given |= {key: value for key, value in (("since", since), ("until", until)) if value}
    given |= {"reason": reason, "actor": os.environ.get("USER", "")} if name == "training" else {}
    for pair in more or []:
        key, _, value = pair.partition("=")
        try:
            given[key] = json.loads(value)
        except ValueError as error:
            raise InvalidInput(f"{value!r} is no JSON", field=f"--set {key}", hint='e.g. --set parks=["a"]') from error
    return checked(name, given, settings)


def _run_here(name: str, arguments: dict[str, Any], settings: Settings) -> None:
    from pvf import children
    from pvforecast import wiring

    # Said here, at once: a task that finds out minutes later says it in its own log.
    if settings.lake_uri.startswith("s3://") or name in ("ingestion", "training"):
        wiring.objects(settings)
    if name == "training":
        wiring.needed(settings.postgres_dsn.get_secret_value(), "PVF_POSTGRES_DSN")
        wiring.needed(settings.mlflow_uri, "PVF_MLFLOW_URI")
    print(json.dumps(children.pipeline(name, settings, arguments, lambda task: print(f"  {task}", file=sys.stderr))))


def _show(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    Console().print(table)
