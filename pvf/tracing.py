"""What a drift event led to: its run, the verdict, the MLflow run, the promotion, and whether the drift was cleared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inference.retrain import cloudevent
from inference.retrain.store import Row, Store
from pvforecast import announcing, clients, wiring
from pvforecast.errors import InvalidInput, NotReady
from pvforecast.registry import Promotion
from pvforecast.settings import Settings


@dataclass(frozen=True)
class Step:
    """One link of the chain.

    Attributes
    ----------
    id : of the event, run, MLflow run or promotion; empty for a step that has not been.
    """

    name: str
    id: str
    at: datetime | None
    says: str

    def as_dict(self) -> dict[str, Any]:
        return {"step": self.name, "id": self.id, "at": self.at.isoformat() if self.at else None, "says": self.says}


def trace(settings: Settings, event_id: str) -> list[Step]:
    """The chain from the event with this id, in the order of cause and effect.

    Raises
    ------
    InvalidInput
        no such event has come in.
    """
    dsn = wiring.needed(settings.postgres_dsn.get_secret_value(), "PVF_POSTGRES_DSN")
    store = Store(dsn)
    try:
        store.open()
        event = store.event(event_id)
        if event is None:
            raise InvalidInput(
                f"no event {event_id!r} has come in",
                field="EVENT_ID",
                hint="GET /runs of the trigger names the known ones",
            )
        run = None if event["run_id"] is None else store.run(event["run_id"])
        later = [
            row for park in cloudevent.parks_of(event["event"]) for row in store.of_park(park, event["event_time"])
        ]
    finally:
        store.close()
    promotion = None
    told = ""
    if run is not None and run["mlflow_run_id"]:
        promotion = clients.promotions(settings).of_run(run["mlflow_run_id"])
    if promotion is not None:
        told = announcing.Outbox(dsn).outcome(promotion.id)
    return chain(event, run, _mlflow(settings, run), promotion, told, later)


def chain(
    event: Row, run: Row | None, mlflow: str, promotion: Promotion | None, told: str, later: Sequence[Row]
) -> list[Step]:
    """The steps from what is stored.

    Parameters
    ----------
    mlflow : in words, what the MLflow run says of its event.
    told : delivered, refused or waiting: the event of the promotion.
    later : events about the same parks since.
    """
    data = event["event"]["data"]
    steps = [Step("event", event["id"], event["event_time"], _cause(data))]
    steps += [
        Step("quarantined", row["id"], row["event_time"], row["reason"])
        for row in later
        if row["type"] == cloudevent.QUARANTINED_TYPE and row["event"]["data"]["event_id"] == event["id"]
    ]
    if run is None:
        return [*steps, Step("run", "", None, f"{event['status']}: {event['reason'] or 'for others, or its turn'}"),
                *_cleared(event, later)]  # fmt: skip
    steps.append(Step("run", str(run["id"]), run["started_at"], f"{run['status']}, {run['error'] or run['reason']}"))
    if run["mlflow_run_id"]:
        steps.append(Step("verdict", str(run["pipeline_run_id"] or ""), run["finished_at"], str(run["verdict"])))
        steps.append(Step("mlflow", run["mlflow_run_id"], None, mlflow))
    if promotion is not None:
        says = f"version {promotion.model_version}, {promotion.verdict}: {promotion.reason}"
        steps.append(Step("promotion", str(promotion.id), promotion.promoted_at, says))
        steps.append(Step("announced", announcing.event(promotion)["id"], None, told))
    return steps + _cleared(event, later)


def _cleared(event: Row, later: Sequence[Row]) -> list[Step]:
    """The clearance that names this event, else the first since for its park, else that there is none."""
    found = [row for row in later if row["type"] == cloudevent.CLEARED_TYPE]
    naming = [row for row in found if row["event"]["data"].get("opened_by") == event["id"]]
    first = next(iter(naming or found), None)
    if first is None:
        return [Step("cleared", "", None, "not yet")]
    return [Step("cleared", first["id"], first["event_time"], str(first["event"]["data"]["reason"]))]


def _cause(data: dict[str, Any]) -> str:
    return f"{data['park_id']}, {data['day']}: {data['cause']['likely']}, advice {data['advice']}"


def _mlflow(settings: Settings, run: Row | None) -> str:
    """Whether the MLflow run names the event that started its run."""
    if run is None or not run["mlflow_run_id"] or not settings.mlflow_uri:
        return "" if settings.mlflow_uri else "PVF_MLFLOW_URI is not set"
    try:
        tags = clients.tracking(settings).run(run["mlflow_run_id"])["tags"]
    except NotReady as error:
        return str(error)
    named = tags.get("event_id", "")
    return f"names event {named}" if named else "names no event"
