"""MLflow as the platform uses it, and the projections of the promotions table on it."""

from __future__ import annotations

import uuid
from pathlib import Path

import mlflow
import numpy as np
import psycopg
import pytest
from mlflow import MlflowClient
from psycopg.conninfo import make_conninfo

from inference.history import follow
from pvforecast import model_card
from pvforecast import tracking as module
from pvforecast.errors import InvalidInput, NotReady
from pvforecast.objects import ObjectStore
from pvforecast.provenance import git_commit
from pvforecast.registry import DEPLOYED_KEY, HISTORY_KEY, Promotion, Promotions, reconcile
from pvforecast.settings import Settings
from pvforecast.tracking import EXPERIMENT, MODEL_NAME, Tracking
from tests.bundles import record, site, tiny_bundle
from tests.stack_fixtures import object_store

stack = pytest.mark.stack


@pytest.fixture(scope="module")
def tracking(tracked: Settings) -> Tracking:
    return Tracking(tracked.mlflow_uri)


@pytest.fixture(scope="module")
def client(tracked: Settings) -> MlflowClient:
    return MlflowClient(tracked.mlflow_uri)


@pytest.fixture(scope="module")
def store(tracked: Settings) -> ObjectStore:
    return object_store(tracked)


@pytest.fixture
def promotions(tracked: Settings) -> Promotions:
    """An empty table of its own for each test."""
    schema, whole = f"test_{uuid.uuid4().hex[:8]}", tracked.postgres_dsn.get_secret_value()
    with psycopg.connect(whole) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return Promotions(make_conninfo(whole, options=f"-c search_path={schema}"))


def promote(promotions: Promotions, tracking: Tracking, name: str) -> Promotion:
    """Register a version and promote it."""
    run_id = tracking.start_run(name, {}, {})
    uri = f"s3://pvf/models/bundles/{name}"
    version = tracking.register(run_id, uri, {"bundle_id": name})
    current = promotions.current()
    return promotions.promote(
        current.id if current else 0, model_version=version, bundle_uri=uri, bundle_id=name,
        verdict="promote", reason="test", actor="test", mlflow_run_id=run_id,
    )  # fmt: skip


# --- runs and versions -----------------------------------------------------------------------------------------------


@stack
def test_a_run_keeps_what_it_saw_and_gave(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.start_run("a run", {"rounds": 250, "parks": "x" * 9000}, {"event_id": "e-1"})
    tracking.log(run_id, metrics={"nmae": 0.069, "unknown": float("nan")}, tags={"verdict": "promote"})
    tracking.log(run_id, text={"report/verdict.md": "# promote\n"}, params={"later": 1})
    kept = tracking.run(run_id)
    assert kept["params"] == {"rounds": "250", "parks": "x" * 6000, "later": "1"}
    assert kept["metrics"] == {"nmae": 0.069}  # what is not known is not logged
    assert kept["tags"].items() >= {"event_id": "e-1", "verdict": "promote"}.items()
    assert kept["tags"]["pvforecast.git_commit"] == git_commit()
    assert client.get_run(run_id).info.status == "RUNNING"
    tracking.end_run(run_id)
    assert client.get_run(run_id).info.status == "FINISHED"
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert [item.path for item in client.list_artifacts(run_id, "report")] == ["report/verdict.md"]
    assert client.get_run(run_id).info.experiment_id == experiment.experiment_id


@stack
def test_a_run_whose_work_fails_is_marked_as_failed(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.start_run("fails", {}, {})
    with tracking.ending(run_id):
        pass
    assert client.get_run(run_id).info.status == "RUNNING"
    with pytest.raises(ZeroDivisionError), tracking.ending(run_id):
        raise ZeroDivisionError
    assert client.get_run(run_id).info.status == "FAILED"


@stack
def test_a_version_points_to_its_bundle_and_run(tracking: Tracking, client: MlflowClient) -> None:
    run_id = tracking.start_run("registers", {}, {})
    first = tracking.register(run_id, "s3://pvf/models/bundles/a", {"bundle_id": "a"})
    second = tracking.register(run_id, "s3://pvf/models/bundles/b", {"bundle_id": "b"})
    assert second == first + 1
    version = client.get_model_version(MODEL_NAME, str(first))
    assert (version.source, version.run_id, version.tags) == ("s3://pvf/models/bundles/a", run_id, {"bundle_id": "a"})


@stack
def test_the_same_bundle_is_the_same_version(tracking: Tracking) -> None:
    """So a deployment that is repeated after a crash registers nothing twice."""
    run_id = tracking.start_run("repeats", {}, {})
    first = tracking.register(run_id, "s3://pvf/models/bundles/same", {})
    assert tracking.register(run_id, "s3://pvf/models/bundles/same", {}) == first
    assert tracking.register(tracking.start_run("other", {}, {}), "s3://pvf/models/bundles/same", {}) == first
    assert [v.bundle_id for v in tracking.versions()].count("same") == 1


@stack
def test_the_challenger_is_named_until_it_is_champion(tracking: Tracking) -> None:
    run_id = tracking.start_run("challenges", {}, {})
    a, b = (tracking.register(run_id, f"s3://pvf/models/bundles/challenge-{name}", {}) for name in "ab")
    tracking.set_champion(a)
    tracking.set_challenger(b)
    assert (tracking.version(a).aliases, tracking.version(b).aliases) == (("champion",), ("challenger",))
    tracking.set_champion(b)
    assert (tracking.version(a).aliases, tracking.version(b).aliases) == ((), ("champion",))
    assert [v.version for v in tracking.versions()][:2] == [b, a]


@stack
def test_a_version_that_is_not_there_is_named(tracking: Tracking) -> None:
    with pytest.raises(InvalidInput, match=r"VERSION: there is no version 999 .*pvf model list"):
        tracking.version(999)


@stack
def test_runs_are_found_by_a_tag_newest_first(tracking: Tracking) -> None:
    older, newer = (tracking.start_run(name, {}, {"training_key": "k-1"}) for name in ("older", "newer"))
    tracking.end_run(older, failed=True)
    assert tracking.runs_tagged("training_key", "k-1") == [(newer, "RUNNING"), (older, "FAILED")]
    assert tracking.runs_tagged("training_key", "k-2") == []


@stack
def test_a_fleet_has_more_metrics_than_fit_in_one_request(tracking: Tracking) -> None:
    run_id = tracking.start_run("a fleet", {}, {})
    tracking.log(run_id, metrics={f"holdout.park-{n}.nmae": n / 1e5 for n in range(2500)})
    assert len(tracking.run(run_id)["metrics"]) == 2500


@stack
def test_any_mlflow_client_reads_signature_and_input_example(tracking: Tracking, tracked: Settings) -> None:
    bundle = tiny_bundle(record(site()))
    run_id = tracking.start_run("has a model", {}, {})
    tracking.log(run_id, text=model_card.files(bundle, "s3://pvf/models/bundles/x", run_id))
    mlflow.set_tracking_uri(tracked.mlflow_uri)
    info = mlflow.models.get_model_info(f"runs:/{run_id}/model")
    assert info.signature.inputs.input_names() == list(bundle.spec.names)
    assert info.signature.outputs.input_names() == ["q0.1", "q0.5", "q0.9"]
    assert info.flavors["pvforecast"]["bundle_id"] == bundle.bundle_id
    folder = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/model")
    example = mlflow.models.Model.load(folder).load_input_example(folder)
    np.testing.assert_array_equal(example.to_numpy(np.float32), bundle.golden_features[:5])


@stack
def test_the_champion_left_is_archived_and_a_champion_that_returns_is_not(
    tracking: Tracking, client: MlflowClient
) -> None:
    run_id = tracking.start_run("champions", {}, {})
    a, b = (tracking.register(run_id, f"s3://pvf/models/bundles/{name}", {}) for name in "ab")

    def archived() -> list[int]:
        return [v for v in (a, b) if client.get_model_version(MODEL_NAME, str(v)).tags.get("archived") == "true"]

    tracking.set_champion(a)
    assert (tracking.champion_version(), archived()) == (a, [])
    tracking.set_champion(b)
    assert (tracking.champion_version(), archived()) == (b, [a])
    tracking.set_champion(b)
    assert archived() == [a]
    tracking.set_champion(a)
    assert (tracking.champion_version(), archived()) == (a, [b])


@stack
def test_what_mlflow_refuses_is_its_own_error(tracking: Tracking) -> None:
    with pytest.raises(mlflow.exceptions.RestException, match="not found"):
        tracking.run("0" * 32)


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = Tracking("http://127.0.0.1:9")
    for ask in (gone.champion_version, lambda: gone.run("x"), lambda: gone.start_run("x", {}, {})):
        with pytest.raises(NotReady, match=r"MLflow at http://127\.0\.0\.1:9 did not answer"):
            ask()


# --- projections -----------------------------------------------------------------------------------------------------


@stack
def test_nothing_promoted_is_nothing_to_project(promotions: Promotions, tracking: Tracking, store: ObjectStore) -> None:
    assert reconcile(promotions, tracking, store) == []


@stack
def test_alias_and_pointer_follow_the_table_and_are_repaired(
    promotions: Promotions, tracking: Tracking, store: ObjectStore
) -> None:
    first = promote(promotions, tracking, "first")
    deployed = {
        "bundle_uri": "s3://pvf/models/bundles/first", "bundle_id": "first",
        "model_version": str(first.model_version), "promotion_id": first.id,
    }  # fmt: skip
    assert len(reconcile(promotions, tracking, store)) == 3
    assert store.get_json(DEPLOYED_KEY) == deployed
    assert store.get_json(HISTORY_KEY) == [{**deployed, "promoted_at": first.promoted_at.isoformat(), "as_of": None}]
    assert tracking.champion_version() == first.model_version
    assert reconcile(promotions, tracking, store) == []

    store.put_json(DEPLOYED_KEY, {**deployed, "bundle_id": "someone else's"})
    assert reconcile(promotions, tracking, store) == ["deployed pointer -> first"]
    assert store.get_json(DEPLOYED_KEY) == deployed

    store.put_json(HISTORY_KEY, [])
    assert reconcile(promotions, tracking, store) == ["history of promotions -> 1, the last of first"]

    stranger = tracking.register(tracking.start_run("by hand", {}, {}), "s3://pvf/x", {})
    tracking.set_champion(stranger)
    assert reconcile(promotions, tracking, store) == [f"alias champion -> version {first.model_version}"]
    assert tracking.champion_version() == first.model_version


@stack
def test_a_broken_pointer_is_written_anew(promotions: Promotions, tracking: Tracking, store: ObjectStore) -> None:
    promote(promotions, tracking, "whole")
    store.put(DEPLOYED_KEY, b'{"bundle_uri": ')
    assert "deployed pointer -> whole" in reconcile(promotions, tracking, store)
    assert store.get_json(DEPLOYED_KEY)["bundle_id"] == "whole"


@stack
def test_a_rollback_takes_the_same_way(promotions: Promotions, tracking: Tracking, store: ObjectStore) -> None:
    first, second = (promote(promotions, tracking, name) for name in ("good", "bad"))
    reconcile(promotions, tracking, store)
    assert tracking.champion_version() == second.model_version
    back = promotions.rollback(actor="operator", reason="test")
    assert len(reconcile(promotions, tracking, store)) == 3
    history = follow(store).check()
    assert history is not None
    assert [one.deployment.bundle_id for one in history] == ["good", "bad", "good"]
    assert {(one.as_of, str(one.promoted_at)[:4]) for one in history} == {(None, str(back.promoted_at.year))}
    assert tracking.champion_version() == first.model_version == back.model_version
    pointer = store.get_json(DEPLOYED_KEY)
    assert (pointer["bundle_id"], pointer["promotion_id"]) == ("good", back.id)


# --- the commit ------------------------------------------------------------------------------------------------------


def test_the_commit_is_read_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PVF_GIT_COMMIT", raising=False)
    assert git_commit(tmp_path) == "unknown"
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("a" * 40 + "\n")
    assert git_commit(tmp_path) == "a" * 40  # detached
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) == "unknown"
    (git / "packed-refs").write_text("# pack-refs\n" + "b" * 40 + " refs/heads/main\n")
    assert git_commit(tmp_path) == "b" * 40
    (git / "refs" / "heads" / "main").write_text("c" * 40 + "\n")
    assert git_commit(tmp_path) == "c" * 40
    monkeypatch.setenv("PVF_GIT_COMMIT", "d" * 40)
    assert git_commit(tmp_path) == "d" * 40


def test_the_commit_of_a_worktree_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PVF_GIT_COMMIT", raising=False)
    own, shared, root = tmp_path / "main/.git/worktrees/w", tmp_path / "main/.git", tmp_path / "w"
    (shared / "refs/heads").mkdir(parents=True)
    for folder in (own, root):
        folder.mkdir(parents=True)
    (root / ".git").write_text(f"gitdir: {own}\n")
    (own / "HEAD").write_text("ref: refs/heads/feature\n")
    (own / "commondir").write_text("../..\n")
    assert git_commit(root) == "unknown"
    (shared / "refs/heads/feature").write_text("e" * 40 + "\n")
    assert git_commit(root) == "e" * 40


def test_values_of_tags_are_compact_and_stable() -> None:
    assert module.to_json({"b": 1, "a": [1, 2]}) == '{"a":[1,2],"b":1}'
