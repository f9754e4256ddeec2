"""Schedules on the server, brought to what they should be: none lost, none doubled, however often it is interrupted.

KFP cannot change a recurring run. So each carries, at the end of its description, whose it is and the hash of all that
it does. `steps` compares what should be with what is; `apply` does the steps, looks again, and ends when none is left.
What is new is made before what is old is stopped. The old is deleted only when it was seen stopped and its runs have
ended: KFP's runs belong to their schedule, and Kubernetes would delete them with it.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, NamedTuple

from kfp_server_api import (
    RecurringRunServiceApi,
    RunServiceApi,
    V2beta1CronSchedule,
    V2beta1PipelineVersionReference,
    V2beta1RecurringRun,
    V2beta1RuntimeConfig,
    V2beta1Trigger,
)

from pipelines.client.connection import NotThere, Server, equals
from pipelines.client.upload import PREFIX, Version
from pipelines.schedules import Schedule
from pvforecast.errors import NotReady

_MARK = re.compile(r"\[pvforecast schedule=(?P<name>[a-z0-9-]+) spec=(?P<spec>[0-9a-f]{64})\]\s*$")
_ACTIVE = {"PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED", None}
_ROUNDS = 20  # make, stop, delete, see that nothing is left: four, and another for each failure
_FAILURES = 3
_NEWEST = 100
_PAUSE_S = 1.0
Word = Literal["create", "enable", "disable", "delete", "drain"]


class Wanted(NamedTuple):
    """A schedule with the pipeline version it runs."""

    schedule: Schedule
    version: Version
    experiment_id: str
    service_account: str

    @property
    def spec(self) -> str:
        """SHA-256 of everything that its runs are made of; not of whether it is paused."""
        what = {
            "cron": self.schedule.cron,
            "version": self.version.name,
            "version_id": self.version.version_id,
            "parameters": self.schedule.parameters,
            "experiment": self.experiment_id,
            "service_account": self.service_account,
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


class Found(NamedTuple):
    """A recurring run of ours on the server."""

    id: str
    name: str
    spec: str
    enabled: bool
    created_at: datetime


class Step(NamedTuple):
    """One thing to do.

    Attributes
    ----------
    recurring_run_id : empty for `create`.
    """

    word: Word
    name: str
    recurring_run_id: str


def steps(wanted: Sequence[Wanted], found: Sequence[Found]) -> list[Step]:
    """What leads from `found` to `wanted`: makes and starts first, then stops; deletes what is stopped."""
    todo: list[Step] = []
    kept: set[str] = set()
    for want in wanted:
        name, paused = want.schedule.name, want.schedule.paused
        same = sorted((f for f in found if (f.name, f.spec) == (name, want.spec)), key=lambda f: (f.created_at, f.id))
        keep = next((f for f in same if f.enabled), same[0] if same else None)
        if keep is None:
            todo.append(Step("create", name, ""))
            continue
        kept.add(keep.id)
        if keep.enabled == paused:
            todo.append(Step("disable" if paused else "enable", name, keep.id))
    rest = [f for f in found if f.id not in kept]
    return todo + [Step("disable" if f.enabled else "delete", f.name, f.id) for f in rest]


def apply(
    server: Server,
    wanted: Sequence[Wanted],
    *,
    failures: int = _FAILURES,
    pause: Callable[[float], None] = time.sleep,
) -> list[Step]:
    """Bring the server's schedules to `wanted`; returns what was done, and as `drain` what waits for its runs to end.

    What passes (no answer, 429, 5xx) is tried again, after a look at how things stand: a write whose answer was lost is
    found, not made twice.

    Parameters
    ----------
    failures : after so many it gives up.

    Raises
    ------
    NotReady
        the server kept failing. Run again, it goes on where it stopped.
    InvalidInput
        the server refuses.
    """
    done: list[Step] = []
    failed = 0
    for _ in range(_ROUNDS):
        try:
            todo = steps(wanted, ours(server))
            draining = [step for step in todo if step.word == "delete" and _has_runs(server, step.recurring_run_id)]
            todo = [step for step in todo if step not in draining]
            if not todo:
                return done + [step._replace(word="drain") for step in draining]
            by_name = {want.schedule.name: want for want in wanted}
            for step in todo:
                _do(server, step, by_name)
                done.append(step)
        except NotReady:
            failed += 1
            if failed >= failures:
                raise
            pause(_PAUSE_S * 2 ** (failed - 1))
    raise NotReady("the schedules do not settle", field="PVF_KFP_URL", hint="does another client change them?")


def ours(server: Server) -> list[Found]:
    """Every recurring run that carries our mark; those of others are left alone."""
    listed = server.pages(
        "listing schedules",
        RecurringRunServiceApi(server.client).recurring_run_service_list_recurring_runs_with_http_info,
        "recurring_runs",
        namespace=server.namespace or None,
    )
    return list(_marked(listed))


def _marked(listed: Iterable[Any]) -> Iterable[Found]:
    for item in listed:
        mark = _MARK.search(item.description or "")
        if mark:
            enabled = (item.status or item.mode) in ("ENABLED", "ENABLE")
            created = item.created_at or datetime.min.replace(tzinfo=UTC)
            yield Found(str(item.recurring_run_id), mark["name"], mark["spec"], enabled, created)


def _has_runs(server: Server, recurring_run_id: str) -> bool:
    listed = server.pages(
        "listing the runs of a schedule",
        RunServiceApi(server.client).run_service_list_runs_with_http_info,
        "runs",
        namespace=server.namespace or None,
        filter=equals("recurring_run_id", recurring_run_id),
        sort_by="created_at desc",
    )
    newest = islice(listed, _NEWEST)  # one at a time goes on, and none is started any more
    return any(run.recurring_run_id == recurring_run_id and run.state in _ACTIVE for run in newest)


def _do(server: Server, step: Step, wanted: dict[str, Wanted]) -> None:
    api, what = RecurringRunServiceApi(server.client), f"schedule {step.name}: {step.word}"
    try:
        match step.word:
            case "create":
                server.call(
                    what,
                    api.recurring_run_service_create_recurring_run_with_http_info,
                    _body(server, wanted[step.name]),
                )
            case "enable":
                server.call(what, api.recurring_run_service_enable_recurring_run_with_http_info, step.recurring_run_id)
            case "disable":
                server.call(what, api.recurring_run_service_disable_recurring_run_with_http_info, step.recurring_run_id)
            case "delete":
                server.call(what, api.recurring_run_service_delete_recurring_run_with_http_info, step.recurring_run_id)
    except NotThere:
        if step.word == "create":
            raise
        # Another client was quicker; the next look shows how things stand.


def _body(server: Server, want: Wanted) -> V2beta1RecurringRun:
    schedule, version = want.schedule, want.version
    return V2beta1RecurringRun(
        display_name=f"{PREFIX}{schedule.name}",
        description=f"Every {schedule.every}: {version.name} [pvforecast schedule={schedule.name} spec={want.spec}]",
        pipeline_version_reference=V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=V2beta1RuntimeConfig(parameters=schedule.parameters),
        trigger=V2beta1Trigger(cron_schedule=V2beta1CronSchedule(cron=schedule.cron)),
        mode="DISABLE" if schedule.paused else "ENABLE",
        max_concurrency="1",
        no_catchup=True,  # the look-back loads what was missed
        experiment_id=want.experiment_id,
        namespace=server.namespace or None,
        service_account=want.service_account or None,
    )
