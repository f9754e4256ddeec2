"""What a cluster is told, and what is refused before it is, against a stand-in for its API server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client, config

from components.deploy import cluster
from components.deploy.cluster import BUNDLE_URI, MODEL_VERSION, InferenceService
from pvforecast.errors import InvalidInput, NotReady
from tests.contract.tree import ROOT
from tests.kubernetes_stub import NAME, NAMESPACE, SERVICE, KubernetesStub

OLD, NEW = "s3://pvf/models/bundles/aaaa", "s3://pvf/models/bundles/bbbb"
VALIDATOR = ROOT.parent / "shared" / "tools" / "validate-manifests"  # an extra, where it is present


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesStub]:
    monkeypatch.setattr(cluster, "_PAUSE_S", 0.01)
    with KubernetesStub() as running:
        yield running


@pytest.fixture
def service(stub: KubernetesStub, tmp_path: Path) -> InferenceService:
    api = config.new_client_from_config(str(stub.kubeconfig(tmp_path)))
    return InferenceService(f"{NAMESPACE}/{NAME}", 2.0, api)


def test_the_two_annotations_are_applied_by_their_field_manager_and_nothing_else_is_owned(
    stub: KubernetesStub, service: InferenceService
) -> None:
    service.preflight()
    assert stub.annotations == {}  # that was a dry run
    assert service.tell(NEW, 7)
    assert stub.annotations == {BUNDLE_URI: NEW, MODEL_VERSION: "7"}
    assert stub.owners == dict.fromkeys((BUNDLE_URI, MODEL_VERSION), "pvf-deploy")
    patches = [query for method, path, query in stub.requests if (method, path) == ("PATCH", SERVICE)]
    assert patches == [{"fieldManager": ["pvf-deploy"], "dryRun": ["All"]}, {"fieldManager": ["pvf-deploy"]}]
    if VALIDATOR.exists():
        whole = yaml.safe_dump(stub.service)
        done = subprocess.run([sys.executable, VALIDATOR], input=whole, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_same_again_is_no_request_to_change(stub: KubernetesStub, service: InferenceService) -> None:
    service.tell(NEW, 7)
    before = len(stub.requests)
    assert not service.tell(NEW, 7)
    assert [method for method, *_ in stub.requests[before:]] == ["GET"]


def test_it_waits_until_no_old_pod_is_left_and_there_were_always_enough(
    stub: KubernetesStub, service: InferenceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LOOK_S", 0.01)
    stub.pods = {OLD: 2}
    service.tell(NEW, 7)
    service.wait(NEW)
    assert stub.pods == {OLD: 0, NEW: 2}
    assert stub.fewest == 2


def test_pods_that_never_get_ready_are_given_up_when_kubernetes_does(
    stub: KubernetesStub, service: InferenceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_LOOK_S", 0.01)
    stub.pods, stub.broken = {OLD: 2}, {NEW}
    service.tell(NEW, 7)
    with pytest.raises(NotReady, match="its new pods do not get ready: 2 pods unready"):
        service.wait(NEW)
    assert stub.pods == {OLD: 2}


def test_what_takes_too_long_says_how_far_it_came(stub: KubernetesStub, service: InferenceService) -> None:
    service._patience_s = 0.05
    service.tell(NEW, 7)
    stub.broken = {NEW}
    with pytest.raises(NotReady, match=f"does not serve {NEW} after 0 s: "):
        service.wait(NEW)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("minReplicas",), 0, "minReplicas: 0"),
        (("deploymentStrategy", "rollingUpdate", "maxUnavailable"), 1, "maxUnavailable: 1"),
        (("deploymentStrategy",), None, "maxUnavailable: None"),
    ],
)
def test_an_inference_service_that_could_be_without_servers_is_refused(
    stub: KubernetesStub, service: InferenceService, path: tuple[str, ...], value: object, said: str
) -> None:
    *parents, last = path
    at = stub.service["spec"]["predictor"]  # type: ignore[index]
    for name in parents:
        at = at[name]
    at[last] = value
    with pytest.raises(InvalidInput, match=f"{said}: it could be without servers"):
        service.preflight()


def test_another_holder_of_our_fields_is_named_and_not_overruled(
    stub: KubernetesStub, service: InferenceService
) -> None:
    service.tell(OLD, 6)
    stub.owners[BUNDLE_URI] = "kubectl-edit"
    with pytest.raises(InvalidInput, match='conflict with "kubectl-edit"'):
        service.tell(NEW, 7)
    assert stub.annotations[BUNDLE_URI] == OLD


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "service account"), (403, "get and patch of inferenceservices"), (404, "no Inference")]
)
def test_what_the_api_server_refuses_has_a_line_of_its_own(
    stub: KubernetesStub, service: InferenceService, status: int, hint: str
) -> None:
    stub.failures = [status]
    with pytest.raises(InvalidInput, match=f"{status} told to fail") as caught:
        service.preflight()
    assert hint in str(caught.value.hint)
    assert len(stub.requests) == 1


def test_what_may_pass_is_tried_again(stub: KubernetesStub, service: InferenceService) -> None:
    stub.failures = [503, 429, 500]
    assert service.tell(NEW, 7)
    stub.failures = [503] * 4
    with pytest.raises(NotReady, match="503 told to fail"):
        service.tell(OLD, 6)


def test_an_object_that_is_gone_or_made_anew_is_not_made_by_us(stub: KubernetesStub, service: InferenceService) -> None:
    found = service._get()
    stub.service["metadata"]["uid"] = "uid-2"  # type: ignore[index]
    with pytest.raises(InvalidInput, match="409 the UID"):
        service._apply(found, NEW, "7")
    stub.service = None
    with pytest.raises(InvalidInput, match="404"):
        service.tell(NEW, 7)


def test_a_server_that_is_away_and_a_wrong_name_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster, "_PAUSE_S", 0.01)
    away = client.ApiClient(client.Configuration(host="http://127.0.0.1:1"))
    away.rest_client.pool_manager.connection_pool_kw["retries"] = 0
    with pytest.raises(NotReady, match="the API server did not answer"):
        InferenceService("a/b", 1.0, away).preflight()
    with pytest.raises(InvalidInput, match="'pv-forecast' is not namespace/name"):
        InferenceService("pv-forecast", 1.0, away)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="no cluster is known here"):
        InferenceService("a/b", 1.0)
