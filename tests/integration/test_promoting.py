"""The way to another champion, on real Postgres, MLflow and SeaweedFS: one at a time, and safe to repeat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pvforecast import promoting, pruning
from pvforecast.errors import BundleError, InvalidInput, NotReady, PromotionConflict
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.objects import ObjectStore
from pvforecast.registry import DEPLOYED_KEY, Promotion, Promotions, reconcile
from pvforecast.settings import Settings, to_env
from pvforecast.tracking import REMOVED, Tracking
from tests.bundles import record, site, tiny_bundle
from tests.stack_fixtures import object_store

pytestmark = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Fleet:
    """Everything a deployment talks to, with a promotions table of its own."""

    store: ObjectStore
    tracking: Tracking
    promotions: Promotions
    dsn: str
    settings: Settings
    model: Bundle
    made: int = 0

    @property
    def places(self) -> tuple[ObjectStore, Tracking, Promotions]:
        return self.store, self.tracking, self.promotions

    def trained(self) -> dict[str, Any]:
        """A finished training: a bundle no other has, its run, and the champion it was compared with."""
        self.made += 1
        bundle = replace(self.model, info={**self.model.info, "name": uuid.uuid4().hex, "recipe_hash": "r"})
        current = self.promotions.current()
        return {
            "predecessor": current.id if current else 0,
            "bundle_uri": bundles.save(self.store, bundle),
            "run_id": self.tracking.start_run(f"training {self.made}", {}, {}),
            "verdict": "promote",
            "reason": "a test",
            "actor": "test",
        }

    def deployed(self) -> Promotion:
        return promoting.deploy(*self.places, **self.trained())

    def versions_of(self, *jobs: dict[str, Any]) -> int:
        """How many registered versions are bundles of these trainings."""
        return sum(v.bundle_uri in {job["bundle_uri"] for job in jobs} for v in self.tracking.versions())

    def agree(self) -> bool:
        """Alias and pointer are those of the last promotion."""
        current, pointer = self.promotions.champion(), self.store.get_json(DEPLOYED_KEY)
        return (self.tracking.champion_version(), pointer["promotion_id"], pointer["bundle_id"]) == (
            current.model_version, current.id, current.bundle_id,
        )  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Bundle:
    return tiny_bundle(record(site()))


@pytest.fixture
def fleet(tracked: Settings, model: Bundle) -> Fleet:
    schema, whole = f"test_{uuid.uuid4().hex[:8]}", tracked.postgres_dsn.get_secret_value()
    with psycopg.connect(whole) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    dsn = make_conninfo(whole, options=f"-c search_path={schema}")
    return Fleet(object_store(tracked), Tracking(tracked.mlflow_uri), Promotions(dsn), dsn, tracked, model)


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run all at the same time; what each returned or raised, in order."""
    together, outcomes = threading.Barrier(len(works)), [None] * len(works)

    def run(at: int) -> None:
        together.wait()
        try:
            outcomes[at] = works[at]()
        except Exception as error:  # noqa: BLE001 - it is the outcome
            outcomes[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_the_winner_is_registered_promoted_and_served(fleet: Fleet) -> None:
    job = fleet.trained()
    promotion = promoting.deploy(*fleet.places, **job)
    version = fleet.tracking.version(promotion.model_version)
    assert (version.bundle_uri, version.run_id, version.aliases) == (job["bundle_uri"], job["run_id"], ("champion",))
    assert version.tags.items() >= {"verdict": "promote", "verdict_reason": "a test", "recipe_hash": "r"}.items()
    assert fleet.agree()


def test_who_lost_the_race_has_registered_nothing(fleet: Fleet) -> None:
    fleet.deployed()
    winner, loser = fleet.trained(), fleet.trained()
    promoting.deploy(*fleet.places, **winner)
    with pytest.raises(PromotionConflict, match="another run promoted first"):
        promoting.deploy(*fleet.places, **loser)
    assert (fleet.versions_of(winner), fleet.versions_of(loser)) == (1, 0)
    assert fleet.agree()


def test_of_two_trainings_that_end_at_once_one_is_champion_and_one_is_refused(fleet: Fleet) -> None:
    race(fleet, rounds=3)


@pytest.mark.slow
def test_fifty_rounds_of_two_trainings_that_end_at_once(fleet: Fleet) -> None:
    race(fleet, rounds=50)


def race(fleet: Fleet, rounds: int) -> None:
    for number in range(1, rounds + 1):
        jobs = fleet.trained(), fleet.trained()
        clients = [
            (object_store(fleet.settings), Tracking(fleet.settings.mlflow_uri), Promotions(fleet.dsn)) for _ in jobs
        ]
        outcomes = at_once(*(lambda c=c, j=j: promoting.deploy(*c, **j) for c, j in zip(clients, jobs, strict=True)))
        won = [outcome for outcome in outcomes if isinstance(outcome, Promotion)]
        lost = [outcome for outcome in outcomes if isinstance(outcome, PromotionConflict)]
        assert (len(won), len(lost)) == (1, 1), outcomes
        assert "another run promoted first" in str(lost[0])
        assert fleet.promotions.champion() == won[0]
        assert len(fleet.promotions.history(limit=1000)) == number
        assert fleet.versions_of(*jobs) == 1
        assert fleet.agree()


def test_a_deployment_that_is_repeated_gives_the_same_row_and_version(fleet: Fleet) -> None:
    job = fleet.trained()
    first = promoting.deploy(*fleet.places, **job)
    assert promoting.deploy(*fleet.places, **job) == first
    assert fleet.versions_of(job) == 1
    later = fleet.deployed()
    assert promoting.deploy(*fleet.places, **job) == first  # it did promote, before another did
    assert fleet.promotions.champion() == later
    assert fleet.agree()


def test_killed_between_version_and_row_the_repetition_takes_the_same_version(fleet: Fleet) -> None:
    job = fleet.trained()
    version = fleet.tracking.register(job["run_id"], job["bundle_uri"], {})  # and here it was killed
    assert promoting.deploy(*fleet.places, **job).model_version == version
    assert fleet.versions_of(job) == 1


_DEPLOY = """
import json, sys
from pvforecast import promoting
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotions
from pvforecast.settings import load
from pvforecast.tracking import Tracking
s = load()
keys = s.s3_access_key.get_secret_value(), s.s3_secret_key.get_secret_value()
places = ObjectStore(s.s3_endpoint, s.s3_bucket, *keys), Tracking(s.mlflow_uri), Promotions(sys.argv[1])
print("go", flush=True)
promoting.deploy(*places, **json.loads(sys.argv[2]))
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_each_step_and_repeated_it_is_one_version_and_one_row(fleet: Fleet) -> None:
    def locked(job: dict[str, Any]) -> bool:
        with psycopg.connect(fleet.dsn) as connection:
            return connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").fetchone() is not None

    def served(job: dict[str, Any]) -> bool:
        return bool(fleet.store.get_json(DEPLOYED_KEY)["bundle_uri"] == job["bundle_uri"])

    steps: list[Callable[[dict[str, Any]], bool]] = [
        lambda _: True,
        locked,
        lambda job: fleet.versions_of(job) == 1,
        lambda job: fleet.promotions.of_run(job["run_id"]) is not None,
        served,
    ]
    last, cut = fleet.deployed(), 0
    for reached in steps * 2:
        job = fleet.trained()
        command = [sys.executable, "-c", _DEPLOY, fleet.dsn, json.dumps(job)]
        env = {**os.environ, **to_env(fleet.settings)}
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        while not reached(job) and child.poll() is None:
            pass
        child.send_signal(signal.SIGKILL)
        cut += "done" not in child.communicate(timeout=60)[0]
        promotion = promoting.deploy(*fleet.places, **job)
        assert promotion.predecessor == last.id
        assert fleet.versions_of(job) == 1
        assert fleet.agree()
        last = promotion
    assert cut >= len(steps)  # of those that were killed late, some had just ended
    assert len(fleet.promotions.history(limit=1000)) == 2 * len(steps) + 1


def test_a_bundle_that_cannot_be_served_is_refused_before_anything_is_written(fleet: Fleet) -> None:
    first, job = fleet.deployed(), fleet.trained()
    key = job["bundle_uri"].removeprefix(f"s3://{fleet.store.bucket}/") + "/model.ubj"
    fleet.store.put(key, fleet.store.get(key)[:-7])
    with pytest.raises(BundleError, match="damaged"):
        promoting.deploy(*fleet.places, **job)
    assert fleet.versions_of(job) == 0
    assert fleet.promotions.champion() == first


def test_a_version_is_promoted_by_hand_and_who_and_why_are_kept(fleet: Fleet) -> None:
    first, second = fleet.deployed(), fleet.deployed()
    again = promoting.promote_version(*fleet.places, first.model_version, actor="ada", reason="second is worse at noon")
    assert (again.bundle_id, again.predecessor, again.actor) == (first.bundle_id, second.id, "ada")
    assert again.reason == "second is worse at noon"
    assert fleet.agree()
    with pytest.raises(InvalidInput, match="is the champion already"):
        promoting.promote_version(*fleet.places, first.model_version, actor="ada", reason="twice")


def test_a_rollback_takes_the_same_way_and_refuses_what_cannot_be_served(fleet: Fleet) -> None:
    first, second = fleet.deployed(), fleet.deployed()
    back = promoting.rollback(*fleet.places, actor="ada", reason="second is bad")
    assert (back.bundle_id, back.predecessor, back.verdict) == (first.bundle_id, second.id, "rollback")
    assert fleet.agree()
    third = fleet.deployed()
    fleet.store.remove(first.bundle_uri.removeprefix(f"s3://{fleet.store.bucket}/") + "/bundle.json")
    with pytest.raises(BundleError, match=r"has no .*bundle\.json"):
        promoting.rollback(*fleet.places, actor="ada", reason="test")
    assert fleet.promotions.champion() == third


def test_reconcilers_at_once_do_not_fight(fleet: Fleet) -> None:
    last = fleet.deployed()
    fleet.store.put_json(DEPLOYED_KEY, {"bundle_id": "someone else's"})
    fleet.tracking.set_champion(fleet.tracking.register(last.mlflow_run_id, "s3://pvf/models/bundles/stranger", {}))
    done = at_once(*[lambda: reconcile(Promotions(fleet.dsn), fleet.tracking, fleet.store)] * 4)
    assert sorted(map(len, done)) == [0, 0, 0, 2]  # one repaired, the others found nothing to do
    assert fleet.agree()


def test_one_that_holds_for_too_long_is_said(fleet: Fleet) -> None:
    fleet.deployed()
    other = Promotions(fleet.dsn)
    busy = pytest.raises(NotReady, match="another deployment did not end within 1 s")
    with fleet.promotions.exclusive(), busy, other.exclusive(wait_s=1):
        raise AssertionError("two at a time")
    with other.exclusive(wait_s=1):
        pass


def test_gc_deletes_what_nobody_names_and_says_why_the_rest_stays(fleet: Fleet) -> None:
    first, second = fleet.deployed(), fleet.deployed()
    challenger, unnamed = fleet.trained(), fleet.trained()
    kept = fleet.tracking.register(challenger["run_id"], challenger["bundle_uri"], {})
    fleet.tracking.set_challenger(kept)
    gone = fleet.tracking.register(unnamed["run_id"], unnamed["bundle_uri"], {})
    ids = {name: job["bundle_uri"].rsplit("/", 1)[-1] for name, job in (("c", challenger), ("u", unnamed))}
    now = datetime.now(UTC)

    young = {fate.bundle_id: fate.why for fate in pruning.prune(*fleet.places, now, 30, dry_run=False)}
    assert young[ids["u"]] == "younger than 30 days"

    later = now + timedelta(days=31)
    dry = {fate.bundle_id: fate for fate in pruning.prune(*fleet.places, later, 30)}
    assert (dry[first.bundle_id].why, dry[second.bundle_id].why) == ("was promoted", "was promoted")
    assert (dry[ids["c"]].why, dry[ids["u"]].kept) == ("is the challenger", False)
    assert bundles.load(fleet.store, unnamed["bundle_uri"])  # a dry run touches nothing

    pruning.prune(*fleet.places, later, 30, dry_run=False)
    assert list(fleet.store.keys(f"models/bundles/{ids['u']}/")) == []
    assert REMOVED in fleet.tracking.version(gone).tags
    for uri in (first.bundle_uri, second.bundle_uri, challenger["bundle_uri"]):
        assert bundles.load(fleet.store, uri)
    with pytest.raises(BundleError, match=r"has no .*bundle\.json"):
        promoting.promote_version(*fleet.places, gone, actor="ada", reason="too late")
    assert ids["u"] not in {fate.bundle_id for fate in pruning.prune(*fleet.places, later, 30)}
