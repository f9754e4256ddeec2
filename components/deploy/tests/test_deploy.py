"""The champion: one row in Postgres, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from kfp import dsl

from components.compare.component import compare
from components.deploy.component import deploy
from components.evaluate.component import evaluate
from components.featurize.component import featurize
from components.refit.component import refit
from components.train.component import train
from pvforecast import clients, wiring
from pvforecast.errors import PromotionConflict
from pvforecast.registry import DEPLOYED_KEY
from tests.component_fixtures import AS_OF, QUICK, Workshop

pytestmark = pytest.mark.stack


def test_the_promotion_names_everything(
    connected: Workshop, compared: Any, refitted: str, deployed: dict[str, Any]
) -> None:
    current = clients.promotions(connected.settings).champion()
    assert current.as_dict() == deployed
    assert (deployed["predecessor"], deployed["verdict"], deployed["bundle_uri"]) == (0, "promote", refitted)
    assert (deployed["mlflow_run_id"], deployed["event_id"]) == (compared.job["run_id"], "event-1")
    assert deployed["reason"].startswith("a test; first model: ")
    assert deployed["as_of"] == compared.job["as_of"] + "+00:00"  # of the run, not of the machine's clock


def test_serving_and_mlflow_follow(connected: Workshop, deployed: dict[str, Any]) -> None:
    pointer = wiring.objects(connected.settings).get_json(DEPLOYED_KEY)
    assert (pointer["bundle_id"], pointer["promotion_id"]) == (deployed["bundle_id"], deployed["id"])
    tracking = clients.tracking(connected.settings)
    assert tracking.champion_version() == deployed["model_version"]
    assert tracking.run(deployed["mlflow_run_id"])["tags"]["model_version"] == str(deployed["model_version"])


def test_of_two_that_follow_the_same_champion_one_wins(
    connected: Workshop, compared: Any, deployed: dict[str, Any]
) -> None:
    rival = {**compared.job, "run_id": clients.tracking(connected.settings).start_run("rival", {}, {})}
    other = compared.job["challenger_uri"]
    with pytest.raises(PromotionConflict, match="already has a successor"):
        connected.call(deploy, job=rival, bundle_uri=other)
    assert clients.promotions(connected.settings).champion().id == deployed["id"]
    assert other not in {v.bundle_uri for v in clients.tracking(connected.settings).versions()}  # nothing registered


def test_deploying_again_changes_nothing(
    connected: Workshop, compared: Any, refitted: str, deployed: dict[str, Any]
) -> None:
    assert connected.call(deploy, job=compared.job, bundle_uri=refitted) == deployed
    assert len(clients.promotions(connected.settings).history()) == 1


def test_a_training_that_is_started_again_is_the_same_training(
    connected: Workshop, shard: dict[str, Any], featurized: dict[str, str], trained: Any, refitted: str, deployed: Any
) -> None:
    """As after a kill between the promotion and the end of the run: same verdict, no second version or promotion."""
    assert connected.call(featurize, shard=shard, status=featurized) == featurized  # writes the features anew
    job = connected.call(train, statuses=[featurized], as_of=AS_OF, reason="a test", event_id="event-1", recipe=QUICK)
    assert job == trained
    again = connected.call(
        compare,
        dsl.Metrics,
        dsl.Markdown,
        dsl.HTML,
        job=connected.call(evaluate, dsl.Metrics, dsl.Markdown, dsl.HTML, job=job),
    )
    assert (again.verdict, again.promotes) == ("promote", True)
    bundle_uri = connected.call(refit, job=again.job)
    assert bundle_uri == refitted
    assert connected.call(deploy, job=again.job, bundle_uri=bundle_uri) == deployed
    assert len(clients.promotions(connected.settings).history()) == 1
    assert [v.bundle_uri for v in clients.tracking(connected.settings).versions()] == [refitted]
