"""In which order a champion is promoted, told, waited for, checked and taken back: real Postgres and object store.

MLflow's alias is a variable here, and the API server a stand-in; `test_rollout.py` has it all with real servers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from kubernetes import config
from psycopg.conninfo import make_conninfo

from components.deploy import cluster
from components.deploy.cluster import BUNDLE_URI, InferenceService
from pvforecast import promoting, rollout
from pvforecast.errors import BundleError, InvalidInput, NotReady
from pvforecast.objects import ObjectStore
from pvforecast.registry import DEPLOYED_KEY, Promotion, Promotions
from pvforecast.settings import Settings
from tests.kubernetes_stub import NAME, NAMESPACE, KubernetesStub

pytestmark = pytest.mark.stack


class Alias:
    """What a promotion tells MLflow."""

    champion: int | None = None

    def champion_version(self) -> int | None:
        return self.champion

    def set_champion(self, version: int) -> None:
        self.champion = version


@dataclass
class Place:
    store: ObjectStore
    promotions: Promotions
    service: InferenceService
    stub: KubernetesStub
    alias: Alias = field(default_factory=Alias)
    verified: list[int] = field(default_factory=list)
    wrong: frozenset[int] = frozenset()

    def promote(self, version: int) -> Promotion:
        """As a training does, also for the second time."""
        done = self.promotions.of_run(f"run-{version}")
        if done is not None:
            return done
        last = self.promotions.current()
        return self.promotions.promote(
            last.id if last else 0,
            model_version=version,
            bundle_uri=uri(version),
            bundle_id=f"bundle-{version}",
            verdict="promote",
            reason="a test",
            actor="test",
            mlflow_run_id=f"run-{version}",
        )

    def ship(self, version: int, *, takes_back: bool = True) -> Promotion:
        return rollout.ship(
            self.store, self.alias, self.promotions, self.service, lambda: self.promote(version), self.verify,  # type: ignore[arg-type]
            takes_back=takes_back,
        )  # fmt: skip

    def verify(self, promotion: Promotion) -> None:
        assert self.stub.pods[promotion.bundle_uri] == 2  # not before all pods are new
        self.verified.append(promotion.model_version)
        if promotion.model_version in self.wrong:
            raise BundleError("other answers")

    @property
    def told(self) -> str:
        return self.stub.annotations[BUNDLE_URI]


def uri(version: int) -> str:
    return f"s3://pvf/models/bundles/bundle-{version}"


@pytest.fixture
def place(
    infra: Settings, infra_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    monkeypatch.setattr(cluster, "_LOOK_S", 0.01)
    # Bundles are names here: what they hold is the matter of other tests.
    monkeypatch.setattr(promoting.bundles, "load", lambda _store, _uri: None)
    schema, whole = f"test_{uuid.uuid4().hex[:8]}", infra.postgres_dsn.get_secret_value()
    with psycopg.connect(whole) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    promotions = Promotions(make_conninfo(whole, options=f"-c search_path={schema}"))
    with KubernetesStub() as stub:
        api = config.new_client_from_config(str(stub.kubeconfig(tmp_path)))
        yield Place(infra_store, promotions, InferenceService(f"{NAMESPACE}/{NAME}", 20.0, api), stub)


def test_it_is_checked_when_all_servers_are_new(place: Place) -> None:
    promotion = place.ship(1)
    assert (place.told, place.verified) == (uri(1), [1])
    assert promotion == place.promotions.champion()
    assert place.ship(1) == promotion  # again: told nothing new, checked once more
    assert place.verified == [1, 1]


@pytest.mark.parametrize("how", ["pods", "answers"])
def test_what_fails_is_taken_back_everywhere_and_the_repetition_is_no_success(place: Place, how: str) -> None:
    place.ship(1)
    place.stub.broken, place.wrong = ({uri(2)}, frozenset()) if how == "pods" else (set(), frozenset({2}))
    with pytest.raises(NotReady, match=r"version 2 did not come into service: .*; version 1 serves again"):
        place.ship(2)
    champion = place.promotions.champion()
    assert (champion.bundle_id, champion.verdict, champion.actor) == ("bundle-1", "rollback", "pvf-deploy")
    assert place.told == uri(1)
    assert place.alias.champion == 1
    assert place.store.get_json(DEPLOYED_KEY)["promotion_id"] == champion.id
    assert place.stub.pods[uri(1)] == 2
    assert place.stub.fewest == 2
    with pytest.raises(NotReady, match="version 2 was rolled back: version 2 did not come into service"):
        place.ship(2)
    assert place.promotions.champion() == champion


def test_the_first_of_all_has_none_before_it(place: Place) -> None:
    place.stub.broken = {uri(1)}
    with pytest.raises(NotReady, match="it is the first: there is none to go back to"):
        place.ship(1)
    assert place.promotions.champion().model_version == 1


def test_who_was_overtaken_tells_nobody(place: Place) -> None:
    first = place.promote(1)  # and here it was killed
    place.ship(2)
    assert place.ship(1) == first
    assert place.told == uri(2)


def test_a_rollback_by_hand_goes_no_further_back_by_itself(place: Place) -> None:
    place.ship(1)
    place.ship(2)
    place.wrong = frozenset({3})
    with pytest.raises(BundleError, match="other answers"):
        place.ship(3, takes_back=False)
    assert place.promotions.champion().model_version == 3


def test_nothing_is_promoted_where_nobody_could_be_told(place: Place) -> None:
    place.stub.service = None
    with pytest.raises(InvalidInput, match="404"):
        place.ship(1)
    assert place.promotions.current() is None
