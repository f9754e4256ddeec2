"""The champion: one row in Postgres, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from components.deploy.component import deploy
from pvforecast import clients, wiring
from pvforecast.errors import PromotionConflict
from pvforecast.registry import DEPLOYED_KEY
from tests.component_fixtures import Workshop

pytestmark = pytest.mark.stack


def test_the_promotion_names_everything(
    connected: Workshop, compared: Any, refitted: str, deployed: dict[str, Any]
) -> None:
    current = clients.promotions(connected.settings).champion()
    assert current.as_dict() == deployed
    assert (deployed["predecessor"], deployed["verdict"], deployed["bundle_uri"]) == (0, "promote", refitted)
    assert (deployed["mlflow_run_id"], deployed["event_id"]) == (compared.job["run_id"], "event-1")
    assert deployed["reason"].startswith("a test; first model: ")


def test_serving_and_mlflow_follow(connected: Workshop, deployed: dict[str, Any]) -> None:
    pointer = wiring.objects(connected.settings).get_json(DEPLOYED_KEY)
    assert (pointer["bundle_id"], pointer["promotion_id"]) == (deployed["bundle_id"], deployed["id"])
    tracking = clients.tracking(connected.settings)
    assert tracking.champion_version() == deployed["model_version"]
    assert tracking.run(deployed["mlflow_run_id"])["tags"]["model_version"] == str(deployed["model_version"])


def test_of_two_that_follow_the_same_champion_one_wins(
    connected: Workshop, compared: Any, refitted: str, deployed: dict[str, Any]
) -> None:
    rival = {**compared.job, "run_id": clients.tracking(connected.settings).start_run("rival", {}, {})}
    with pytest.raises(PromotionConflict, match="already has a successor"):
        connected.call(deploy, job=rival, bundle_uri=refitted)
    assert clients.promotions(connected.settings).champion().id == deployed["id"]


def test_deploying_again_changes_nothing(
    connected: Workshop, compared: Any, refitted: str, deployed: dict[str, Any]
) -> None:
    assert connected.call(deploy, job=compared.job, bundle_uri=refitted) == deployed
    assert len(clients.promotions(connected.settings).history()) == 1
