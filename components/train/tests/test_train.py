"""The challenger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from mlflow import MlflowClient

from components.compare.component import compare
from components.train.component import train
from pvforecast import clients, wiring
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.model import bundle as bundles
from pvforecast.provenance import environment_hash
from tests.component_fixtures import AS_OF, QUICK, Workshop

pytestmark = pytest.mark.stack


def test_the_challenger_has_not_seen_the_hold_out(connected: Workshop, trained: dict[str, Any]) -> None:
    assert (trained["holdout_from"], trained["as_of"]) == ("2013-07-13T06:00:00", "2013-08-10T06:00:00")
    assert trained["parks"] == ["pvdaq-50", "serf-east"]
    assert trained["predecessor_id"] == 0
    challenger = bundles.load(wiring.objects(connected.settings), trained["challenger_uri"])
    assert challenger.info["trained_until"] == trained["holdout_from"]
    assert challenger.info["recipe"]["rounds"] == QUICK["rounds"]


def test_the_run_says_why_and_from_what(connected: Workshop, trained: dict[str, Any]) -> None:
    run = clients.tracking(connected.settings).run(trained["run_id"])
    assert (run["tags"]["reason"], run["tags"]["event_id"]) == ("a test", "event-1")
    assert run["params"]["holdout_from"] == trained["holdout_from"]
    assert run["tags"]["trigger"] == "drift"
    assert '"processed/generation":' in run["tags"]["data_versions"]


def test_the_run_names_its_data_features_and_environment(connected: Workshop, trained: dict[str, Any]) -> None:
    client = MlflowClient(connected.settings.mlflow_uri)
    run = client.get_run(trained["run_id"])
    texts = {
        name: Path(client.download_artifacts(trained["run_id"], name, str(connected.folder))).read_text()
        for name in ("data.json", "spec.json", "environment.txt")
    }
    named = {entry["table"]: entry for entry in json.loads(texts["data.json"])}
    assert named["features"]["version"] == trained["data_versions"]["features"]
    assert named["features"]["parks"] == trained["parks"]
    assert named["features"]["until"].startswith(trained["holdout_from"])
    assert json.loads(texts["spec.json"])["hash"] == run.data.params["spec"]
    assert "\nxgboost==" in texts["environment.txt"]
    assert run.data.tags["environment_hash"] == environment_hash(texts["environment.txt"])


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"statuses": [{"pvdaq-50": "failed: OSError: gone"}]}, NotEnoughData, "no park came through"),
        ({"recipe": {"depth": 3}}, InvalidInput, "unknown setting 'depth'"),
    ],
)
def test_what_cannot_be_trained_is_said(
    connected: Workshop, featurized: dict[str, str], changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        connected.call(train, **{**_arguments(featurized), **changes})


@pytest.mark.usefixtures("deployed")
def test_no_training_before_what_the_champion_has_learned(connected: Workshop, featurized: dict[str, str]) -> None:
    earlier = {**_arguments(featurized), "as_of": "2013-08-09T06:00:00+00:00"}
    with pytest.raises(InvalidInput, match="up to which the champion has learned"):
        connected.call(train, **earlier)


def _arguments(featurized: dict[str, str]) -> dict[str, Any]:
    return {"statuses": [featurized], "as_of": AS_OF, "reason": "a test", "event_id": "", "recipe": QUICK}


@pytest.mark.usefixtures("deployed")
def test_a_champion_whose_bundle_is_lost_does_not_end_training(connected: Workshop, featurized: dict[str, str]) -> None:
    """Nor one of another release's format: it is judged as without a champion, and that is said."""
    store, promotions = wiring.objects(connected.settings), clients.promotions(connected.settings)
    key = f"models/bundles/{promotions.champion().bundle_id}/bundle.json"
    kept = store.get(key)
    store.remove(key)
    try:
        job = connected.call(train, **{**_arguments(featurized), "event_id": "event-2"})
    finally:
        store.put(key, kept)
    assert (job["champion_uri"], job["predecessor_id"]) == ("", promotions.champion().id)
    assert "bundle.json" in job["champion_unreadable"]
    verdict = connected.call(compare, dsl.Metrics, dsl.Markdown, dsl.HTML, job=job).job["verdict_reason"]
    assert verdict.startswith("the champion cannot be scored (")
