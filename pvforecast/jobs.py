"""The global tasks of the training pipeline, with references only: what KFP can pass from task to task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pvforecast import learning, promoting
from pvforecast.clients import Clients
from pvforecast.evaluation import pages, report
from pvforecast.evaluation.compare import Comparison
from pvforecast.registry import Promotion
from pvforecast.shards import Status, as_datetime64, left_out, recipe_of, without_generation

Job = dict[str, Any]


class Compared(NamedTuple):
    """Outputs of the component `compare`."""

    job: Job
    verdict: str
    promotes: bool


def train(
    clients: Clients,
    statuses: Sequence[Status],
    as_of: str,
    reason: str,
    event_id: str,
    recipe: dict[str, Any],
    actor: str = "",
    pipeline_run: str = "",
) -> Job:
    """See the component `train`.

    Raises
    ------
    NotEnoughData
        no park came through, or there is too little history.
    """
    out = left_out(statuses)
    parks = sorted(park for status in statuses for park in status if park not in out)
    job = learning.train_challenger(
        clients.lake,
        clients.store,
        clients.tracking,
        clients.promotions,
        recipe=recipe_of(recipe),
        parks=parks,
        as_of=as_datetime64(as_of),
        reason=reason,
        event_id=event_id,
        actor=actor,
        pipeline_run=pipeline_run,
    )
    return {
        **job,
        "parks": parks,
        "left_out": out,
        "without_generation": without_generation(statuses),
        "recipe": recipe,
        "reason": reason,
        "event_id": event_id,
        "actor": actor,
    }


def evaluate(
    clients: Clients, job: Job, log_metric: Callable[[str, float], None], report_path: str, page_path: str
) -> Job:
    """See the component `evaluate`."""
    with clients.tracking.ending(job["run_id"]):
        made = learning.evaluate(clients.lake, clients.store, clients.tracking, job, job["parks"])
    for scores in made.results:
        log_metric(f"{scores.park_id} daylight nMAE", scores.model["daylight_nmae"])
        log_metric(f"{scores.park_id} skill", scores.skill)
        log_metric(f"{scores.park_id} 80 % band holds", scores.model["daylight_picp80"])
    _write(report_path, report.scores(made.results))
    _write(page_path, made.page)
    return {**job, "nmae": made.nmae}


def compare(
    clients: Clients, job: Job, log_metric: Callable[[str, float], None], report_path: str, page_path: str
) -> Compared:
    """See the component `compare`."""
    with clients.tracking.ending(job["run_id"]):
        outcome: Comparison = learning.compare(clients.lake, clients.store, clients.tracking, job, job["parks"])
    values = {
        "challenger loss": outcome.challenger,
        "champion loss": outcome.champion,
        "difference": outcome.difference,
        "days": float(outcome.days),
    }
    for name, value in values.items():
        if math.isfinite(value):
            log_metric(name, value)
    _write(report_path, report.comparison(outcome))
    _write(page_path, pages.verdict(outcome))
    if not outcome.promotes:
        learning.keep_challenger(clients.store, clients.tracking, clients.promotions, job, outcome)
        clients.tracking.end_run(job["run_id"])
    return Compared(
        {**job, "verdict": outcome.verdict, "verdict_reason": outcome.reason}, outcome.verdict, outcome.promotes
    )


def refit(clients: Clients, job: Job) -> str:
    """See the component `refit`."""
    with clients.tracking.ending(job["run_id"]):
        return learning.refit(clients.lake, clients.store, clients.tracking, job, job["parks"])


def deploy(
    clients: Clients,
    job: Job,
    bundle_uri: str,
    ship: Callable[[Callable[[], Promotion]], Promotion] = lambda promote: promote(),
) -> dict[str, Any]:
    """See the component `deploy`.

    Parameters
    ----------
    ship : calls what it is given, which promotes, and brings the champion into service where servers must be told.
    """

    def promote() -> Promotion:
        return promoting.deploy(
            clients.store,
            clients.tracking,
            clients.promotions,
            predecessor=int(job["predecessor_id"]),
            bundle_uri=bundle_uri,
            run_id=job["run_id"],
            verdict=job["verdict"],
            reason=f"{job['reason']}; {job['verdict_reason']}",
            actor=job.get("actor") or "training pipeline",
            event_id=job["event_id"],
            as_of=datetime.fromisoformat(job["as_of"]).replace(tzinfo=UTC),
        )

    with clients.tracking.ending(job["run_id"]):
        promotion = ship(promote)
        clients.tracking.log(job["run_id"], tags={"model_version": str(promotion.model_version)})
    clients.tracking.end_run(job["run_id"])
    return promotion.as_dict()


def _write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
