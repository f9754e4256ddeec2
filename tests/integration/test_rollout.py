"""A champion is brought into service, and taken back by itself when it does not come up.

Registry, MLflow, object store, predictor and transformer are real; the API server is a stand-in. The servers follow
`models/deployed.json`, so "through the gateway" is shown on what really answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from components.deploy import cluster, shipping
from pvf.stack.local import Stack
from pvforecast import promoting, serving_check, wiring
from pvforecast.clients import Clients
from pvforecast.errors import BundleError, InvalidInput, NotReady
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.registry import DEPLOYED_KEY, Promotion, Promotions
from pvforecast.settings import Settings
from pvforecast.tracking import Tracking
from tests.bundles import record, site, tiny_bundle
from tests.kubernetes_stub import BUNDLE_URI, NAME, NAMESPACE, KubernetesStub
from tests.serving import Serving, eventually, serving
from tests.stack_fixtures import new_home

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@dataclass
class Cluster:
    """Real servers behind a stand-in for the API server."""

    settings: Settings
    clients: Clients
    serving: Serving
    stub: KubernetesStub
    model: Bundle
    made: list[str] = field(default_factory=list)

    def train(self) -> Callable[[], Promotion]:
        """A training that won; what it gives promotes its bundle, however often it is called."""
        bundle = replace(self.model, info={**self.model.info, "number": len(self.made), "recipe_hash": "r"})
        uri = bundles.save(self.clients.store, bundle)
        self.made.append(uri)
        current = self.clients.promotions.current()
        job: dict[str, Any] = {
            "predecessor": current.id if current else 0,
            "bundle_uri": uri,
            "run_id": self.clients.tracking.start_run(f"training {len(self.made)}", {}, {}),
            "verdict": "promote",
            "reason": "a test",
            "actor": "test",
        }
        return lambda: promoting.deploy(self.clients.store, self.clients.tracking, self.clients.promotions, **job)

    def ship(self, promote: Callable[[], Promotion]) -> Promotion:
        return shipping.ship(self.settings, self.clients, promote)

    def agree(self) -> bool:
        """Table, alias, pointer and cluster name one bundle."""
        champion = self.clients.promotions.champion()
        pointer = self.clients.store.get_json(DEPLOYED_KEY)
        return (
            self.clients.tracking.champion_version() == champion.model_version
            and pointer["bundle_uri"] == champion.bundle_uri == self.stub.annotations[BUNDLE_URI]
            and self.stub.annotations["pvforecast.io/model-version"] == str(champion.model_version)
        )


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    home = new_home()
    with (
        Stack(home, ["mlflow"]) as stack,
        serving(stack.settings, "predictor", "transformer", PVF_PREDICTION_LOG_URL="") as servers,
    ):
        dsn = servers.env["PVF_POSTGRES_DSN"]
        settings = servers.settings.model_copy(
            update={
                "inference_service": f"{NAMESPACE}/{NAME}",
                "gateway_url": servers.url,
                "rollout_timeout_s": 30.0,
                "postgres_dsn": SecretStr(dsn),
            }
        )
        store = wiring.objects(settings)
        every = Clients(wiring.lake(settings), store, Tracking(settings.mlflow_uri), Promotions(dsn))
        yield Cluster(settings, every, servers, KubernetesStub(), tiny_bundle(record(site("sim-a"))))


@pytest.fixture
def place(running: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(cluster, "_LOOK_S", 0.05)
    monkeypatch.setattr(cluster, "_PAUSE_S", 0.01)
    with KubernetesStub() as stub:
        monkeypatch.setenv("KUBECONFIG", str(stub.kubeconfig(tmp_path)))
        running.stub = stub
        first = running.ship(running.train())
        assert running.agree()
        assert first == running.clients.promotions.champion()
        yield running


def test_a_champion_is_told_waited_for_and_checked_through_the_gateway(place: Cluster) -> None:
    second = place.ship(place.train())
    assert place.agree()
    assert place.stub.pods[second.bundle_uri] == 2
    assert place.stub.fewest == 2
    compared = serving_check.verify(place.clients.store, place.serving.url, "", second.bundle_uri)
    assert compared == 5 * 2 * 48 * 3  # answers, parks, hours, quantiles


def test_one_whose_pods_do_not_get_ready_is_rolled_back_and_no_request_is_lost(place: Cluster) -> None:
    before = place.clients.promotions.champion()
    promote = place.train()
    place.stub.broken = {place.made[-1]}
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            statuses.append(place.serving.ask({"park_id": "sim-a"}).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(NotReady, match="did not come into service: its new pods do not get ready"):
        place.ship(promote)
    eventually(lambda: _served(place) == before.bundle_id)
    done.set()
    asking.join()

    champion = place.clients.promotions.champion()
    assert (champion.bundle_id, champion.verdict, champion.actor) == (before.bundle_id, "rollback", "pvf-deploy")
    assert "did not come into service" in champion.reason
    assert place.agree()
    assert place.stub.fewest == 2
    assert len(statuses) > 20
    assert set(statuses) == {200}

    with pytest.raises(NotReady, match="was rolled back"):  # the task that is tried again is no success
        place.ship(promote)
    assert place.clients.promotions.champion() == champion


def test_one_that_the_gateway_does_not_serve_is_rolled_back(place: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    before = place.clients.promotions.champion()
    as_it_is = serving_check.verify

    def of_another(store: Any, gateway: str, key: str, bundle_uri: str) -> int:
        return as_it_is(store, gateway, key, place.made[0], patience_s=0.5)

    monkeypatch.setattr(serving_check, "verify", of_another)
    with pytest.raises(NotReady, match="the gateway answers with bundle"):
        place.ship(place.train())
    assert place.clients.promotions.champion().bundle_id == before.bundle_id
    assert place.agree()


def test_killed_after_the_promotion_the_repetition_tells_the_cluster(place: Cluster) -> None:
    promote = place.train()
    promotion = promote()  # and here it was killed
    assert not place.agree()
    assert place.ship(promote) == promotion
    assert place.agree()


def test_what_cannot_be_told_is_not_promoted(place: Cluster) -> None:
    before = place.clients.promotions.champion()
    place.stub.service["spec"]["predictor"]["minReplicas"] = 0  # type: ignore[index]
    with pytest.raises(InvalidInput, match="could be without servers"):
        place.ship(place.train())
    assert place.clients.promotions.champion() == before


def test_reconcile_repairs_the_cluster_too(place: Cluster) -> None:
    place.stub.service["spec"]["predictor"]["annotations"][BUNDLE_URI] = "s3://pvf/models/bundles/other"  # type: ignore[index]
    champion = place.clients.promotions.champion()
    assert shipping.repair(place.settings, place.clients) == [f"{NAMESPACE}/{NAME} -> {champion.bundle_id}"]
    assert shipping.repair(place.settings, place.clients) == []
    assert place.agree()


def test_an_answer_that_is_not_the_bundles_is_a_bundle_error(place: Cluster) -> None:
    champion = place.clients.promotions.champion()
    eventually(lambda: _served(place) == champion.bundle_id)
    bundle = bundles.load(place.clients.store, champion.bundle_uri)
    [prediction] = place.serving.ask({"park_id": "sim-b", "horizon_hours": 24}).json()["predictions"]
    assert serving_check._compare(place.clients.store, bundle, prediction) == 24 * 3
    prediction["power_kw"]["0.5"][9] += 0.01
    with pytest.raises(BundleError, match=r"sim-b is answered 0\.01\d* kW away"):
        serving_check._compare(place.clients.store, bundle, prediction)


def _served(place: Cluster) -> str:
    return str(place.serving.ask({"park_id": "sim-a"}).json()["predictions"][0]["bundle_id"])
