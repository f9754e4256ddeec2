"""Runs on the server: submit, list, watch, read the logs, cancel."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from kfp_server_api import RunServiceApi, V2beta1PipelineVersionReference, V2beta1Run, V2beta1RuntimeConfig

from pipelines.client.connection import NotThere, Server, equals
from pipelines.client.upload import PREFIX, Version
from pvforecast.errors import InvalidInput, NotReady

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
_LOG = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"
_NAME = re.compile(rf"{PREFIX}(?P<pipeline>[a-z]+)")  # of a schedule's runs the controller makes the name
_PAUSE_S = 10.0


class Run(NamedTuple):
    """A run as the server has it; times are UTC.

    Attributes
    ----------
    pipeline : empty for a run of someone else's.
    as_of : of a schedule's run, the time for which it was scheduled.
    """

    run_id: str
    name: str
    pipeline: str
    state: str
    as_of: str
    schedule: str
    created_at: datetime | None
    finished_at: datetime | None
    error: str

    def as_dict(self) -> dict[str, Any]:
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in zip(self._fields, self, strict=True)
        }


class Task(NamedTuple):
    """A task of a run."""

    name: str
    state: str
    pod: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str


class Submitted(NamedTuple):
    """A run, and whether it was made just now: the same run is not made twice while it goes on or has succeeded."""

    run: Run
    created: bool


def submit(
    server: Server,
    version: Version,
    arguments: dict[str, Any],
    experiment_id: str,
    *,
    service_account: str = "",
    again: bool = False,
) -> Submitted:
    """Start a run of `version`, unless one with the same arguments goes on or has succeeded.

    A run whose pod was evicted, or that failed, is so submitted once more by the same command; and a second click, or a
    repeat after an answer that was lost, starts nothing.

    Parameters
    ----------
    again : start one whatever there is.
    """
    what = {"version": version.name, "arguments": arguments, "experiment": experiment_id}
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{PREFIX}{version.pipeline}-{key}"
    if not again:
        listed = _list(server, experiment_id, filter=equals("display_name", name))
        going = next(
            (run for run in listed if run.display_name == name and run.state not in ("FAILED", "CANCELED")), None
        )
        if going is not None:
            return Submitted(_run(going), created=False)
    body = V2beta1Run(
        display_name=name,
        description=f"{version.name}, as of {arguments.get('as_of', '')}",
        experiment_id=experiment_id,
        pipeline_version_reference=V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=V2beta1RuntimeConfig(parameters=arguments),
        service_account=service_account or None,
    )
    api = RunServiceApi(server.client)
    made = server.call(f"submitting {version.name}", api.run_service_create_run_with_http_info, body)
    return Submitted(_run(made), created=True)


def listing(server: Server, experiment_id: str, *, pipeline: str = "", state: str = "", limit: int = 20) -> list[Run]:
    """The newest runs, newest first."""
    found = (_run(item) for item in _list(server, experiment_id, sort_by="created_at desc"))
    chosen = (run for run in found if pipeline in ("", run.pipeline) and state in ("", run.state))
    return list(islice(chosen, limit))


def get(server: Server, run_id: str) -> Run:
    """One run.

    Raises
    ------
    InvalidInput
        there is none of this id.
    """
    return _run(_get(server, run_id))


def tasks(server: Server, run_id: str) -> list[Task]:
    """The tasks of a run in the order of their start; of pods only, not of graphs."""
    details = _get(server, run_id).run_details
    found = [_task(item) for item in (details.task_details if details else None) or []]
    return sorted(found, key=lambda task: (task.started_at is None, task.started_at, task.name))


def log(server: Server, run_id: str, pod: str) -> str:
    """What a pod printed; the server has it as long as the pod or its archive lives."""
    try:
        return server.text(f"the log of {pod}", _LOG, run_id=run_id, node_id=pod)
    except NotThere as error:
        raise InvalidInput(f"the log of {pod} is gone", field="RUN", hint="is the archive of logs on?") from error


def wait(
    server: Server,
    run_id: str,
    on_state: Callable[[str], None] = lambda _: None,
    *,
    pause: Callable[[float], None] = time.sleep,
    patience: int = 30,
) -> Run:
    """Wait until the run has ended; returns it. A server that is away for a while is waited for.

    Parameters
    ----------
    patience : how many looks in a row may fail, 10 s apart.
    """
    state, failed = "", 0
    while True:
        try:
            run, failed = get(server, run_id), 0
        except NotReady:
            failed += 1
            if failed > patience:
                raise
        else:
            if run.state != state:
                state = run.state
                on_state(state)
            if state in ENDED:
                return run
        pause(_PAUSE_S)


def cancel(server: Server, run_id: str) -> Run:
    """End a run; one that has ended stays as it is. Returns it as it was before."""
    run = get(server, run_id)
    if run.state not in ENDED:
        api = RunServiceApi(server.client)
        server.call(f"cancelling {run_id}", api.run_service_terminate_run_with_http_info, run_id)
    return run


def _get(server: Server, run_id: str) -> Any:
    try:
        return server.call(
            f"reading run {run_id}", RunServiceApi(server.client).run_service_get_run_with_http_info, run_id
        )
    except NotThere as error:
        raise InvalidInput(f"no run {run_id!r}", field="RUN", hint="list them: pvf pipeline runs") from error


def _list(server: Server, experiment_id: str, **options: Any) -> Iterator[Any]:
    return server.pages(
        "listing runs",
        RunServiceApi(server.client).run_service_list_runs_with_http_info,
        "runs",
        namespace=server.namespace or None,
        experiment_id=experiment_id,
        **options,
    )


def _run(item: Any) -> Run:
    mark = _NAME.search(item.display_name or "")
    parameters = (item.runtime_config.parameters if item.runtime_config else None) or {}
    return Run(
        run_id=str(item.run_id),
        name=item.display_name or "",
        pipeline=mark["pipeline"] if mark else "",
        state=item.state or "PENDING",
        as_of=str(parameters.get("as_of") or _iso(item.scheduled_at if item.recurring_run_id else None)),
        schedule=item.recurring_run_id or "",
        created_at=item.created_at,
        finished_at=item.finished_at if item.state in ENDED else None,
        error=item.error.message or "" if item.error else "",
    )


def _iso(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


def _task(item: Any) -> Task:
    pods = [child.pod_name for child in item.child_tasks or [] if child.pod_name]
    return Task(
        name=item.display_name or "",
        state=item.state or "PENDING",
        pod=item.pod_name or (pods[0] if pods else ""),
        started_at=item.start_time,
        ended_at=item.end_time,
        error=item.error.message or "" if item.error else "",
    )
