"""The manifests, rendered as they would be applied: kinds and fields exist, containers are restricted and bounded.

Held against schemas only. They have not run on a cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pvforecast.settings import Settings
from tests.debian import program

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = sorted(path.parent.name for path in (ROOT / "kustomize" / "overlays").glob("*/kustomization.yaml"))
VALIDATOR = ROOT.parent / "shared" / "tools" / "validate-manifests"  # an extra, where it is present
KUBERNETES = "1.34"
OF_KUBERNETES = {"v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "policy/v1", "rbac.authorization.k8s.io/v1"}
OTHER_VARIABLES = {
    "PVF_BUNDLE_URI",  # inference: pins the bundle
    "PVF_MODEL_VERSION",
    "PVF_NAMESPACE",  # inference.transformer: names the source of logged predictions
    "PVF_TRAINING_COMMAND",  # inference.retrain
    "PVF_GIT_COMMIT",  # pvforecast.tracking
}

Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> str:
    kustomize = program("kustomize")
    overlay = ROOT / "kustomize" / "overlays" / request.param
    return subprocess.run(
        [kustomize, "build", str(overlay)], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.fixture(scope="module")
def manifests(rendered: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(rendered) if document]


@pytest.fixture(scope="module")
def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Kind/name -> pod spec of all that starts pods."""
    found = {_name(manifest): _pod_spec(manifest) for manifest in manifests}
    return {name: spec for name, spec in found.items() if spec}


def test_there_are_overlays() -> None:
    assert "dev" in OVERLAYS


def test_kinds_of_kubernetes_have_no_unknown_or_wrong_field(manifests: list[Manifest]) -> None:
    core = [manifest for manifest in manifests if manifest["apiVersion"] in OF_KUBERNETES]
    assert len(core) >= 10
    for manifest in core:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_all_kinds_pass_the_schemas_of_their_projects(rendered: str) -> None:
    if VALIDATOR.exists():
        done = subprocess.run([sys.executable, VALIDATOR], input=rendered, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_custom_kinds_are_the_ones_the_platform_is_written_for(manifests: list[Manifest]) -> None:
    custom = {m["apiVersion"]: m["kind"] for m in manifests if m["apiVersion"] not in OF_KUBERNETES}
    assert custom == {
        "serving.kserve.io/v1beta1": "InferenceService",
        "eventing.knative.dev/v1": custom.get("eventing.knative.dev/v1"),
        "sources.knative.dev/v1": "SinkBinding",
    }


def test_everything_that_runs_is_here(workloads: dict[str, Manifest]) -> None:
    assert set(workloads) == {
        "InferenceService/pv-forecast",
        "Deployment/prediction-log",
        "Deployment/retrain-trigger",
        "CronJob/drift-check",
    }


def test_containers_are_restricted(workloads: dict[str, Manifest]) -> None:
    for name, spec in workloads.items():
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True, name
        assert pod["runAsUser"] > 0, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for container in _containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{name}/{container['name']}"


def test_containers_are_bounded_and_probed(workloads: dict[str, Manifest]) -> None:
    for name, spec in workloads.items():
        for container in _containers(spec):
            where = f"{name}/{container['name']}"
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= container["resources"][kind].keys(), where
            if not name.startswith("CronJob/"):
                assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), where


def test_probes_ask_a_port_that_the_container_listens_on(workloads: dict[str, Manifest]) -> None:
    for name, spec in workloads.items():
        for container in _containers(spec):
            named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            listening = {int(word) for word in container["args"] if word.isdigit()}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    port = container[probe]["httpGet"]["port"]
                    assert named.get(port, port) in listening, f"{name}/{container['name']}: {probe}"


def test_images_are_ours_and_versioned(workloads: dict[str, Manifest]) -> None:
    for spec in workloads.values():
        for container in _containers(spec):
            image, _, tag = container["image"].partition(":")
            assert image in {"pvforecast/app", "pvforecast/serve", "pvforecast/drift"}
            assert tag == "0.1.0"


def test_commands_name_modules_of_this_tree(workloads: dict[str, Manifest]) -> None:
    for name, spec in workloads.items():
        for container in _containers(spec):
            python, m, module = container["command"]
            assert (python, m) == ("python", "-m")
            path = ROOT.joinpath(*module.split("."))
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{name}: {module}"


def test_the_drift_job_accepts_its_arguments(workloads: dict[str, Manifest], tmp_path: Path) -> None:
    """It gets as far as the lake, which is empty here (1); a wrong call would end with 2."""
    (container,) = _containers(workloads["CronJob/drift-check"])
    command = [str(ROOT / ".venv-drift" / "bin" / "python"), *container["command"][1:], *container["args"]]
    environment = {**os.environ, "PVF_LAKE_URI": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "the lake has no parks" in done.stderr


def test_variables_are_settings(manifests: list[Manifest], workloads: dict[str, Manifest]) -> None:
    sources = [m for m in manifests if m["kind"] in {"ConfigMap", "Secret"}]
    given = {key for manifest in sources for key in manifest.get("data", {})}
    containers = [container for spec in workloads.values() for container in _containers(spec)]
    given |= {variable["name"] for container in containers for variable in container.get("env", [])}
    known = {f"PVF_{field.upper()}" for field in Settings.model_fields} | OTHER_VARIABLES
    assert {name for name in given if name.startswith("PVF_")} <= known
    assert "PVF_S3_ENDPOINT" in given


def test_every_source_of_variables_exists(manifests: list[Manifest], workloads: dict[str, Manifest]) -> None:
    """kustomize gives generated ConfigMaps and Secrets new names: every mention must have followed."""
    there = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    for name, spec in workloads.items():
        assert ("ServiceAccount", spec["serviceAccountName"]) in there, name
        for container in _containers(spec):
            for source in container["envFrom"]:
                for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                    if key in source:
                        assert (kind, source[key]["name"]) in there, f"{name}/{container['name']}"


def test_secrets_reach_only_who_needs_them(workloads: dict[str, Manifest]) -> None:
    holders: dict[str, set[str]] = {}
    for name, spec in workloads.items():
        for container in _containers(spec):
            for source in container["envFrom"]:
                if "secretRef" in source:
                    secret = source["secretRef"]["name"].rsplit("-", 1)[0]  # less the hash
                    holders.setdefault(secret, set()).add(name.partition("/")[2])
    assert holders == {
        "pvforecast-s3": {"pv-forecast", "drift-check", "retrain-trigger"},
        "pvforecast-postgres": {"prediction-log", "retrain-trigger"},
    }


def test_the_bundle_belongs_to_the_deployer(manifests: list[Manifest], workloads: dict[str, Manifest]) -> None:
    """Git names no model: both containers read it from annotations that `pvf-deploy` owns."""
    (service,) = [m for m in manifests if m["kind"] == "InferenceService"]
    assert "pvforecast.io/bundle-uri" not in service["spec"]["predictor"].get("annotations", {})
    for container in _containers(workloads["InferenceService/pv-forecast"]):
        pins = {v["name"]: v["valueFrom"]["fieldRef"]["fieldPath"] for v in container["env"]}
        assert pins["PVF_BUNDLE_URI"] == "metadata.annotations['pvforecast.io/bundle-uri']"
        assert pins["PVF_MODEL_VERSION"] == "metadata.annotations['pvforecast.io/model-version']"


def test_transformer_and_predictor_agree_on_their_port(
    manifests: list[Manifest], workloads: dict[str, Manifest]
) -> None:
    predictor, transformer = _containers(workloads["InferenceService/pv-forecast"])
    assert (predictor["name"], transformer["name"]) == ("kserve-container", "transformer-container")  # KServe's
    port = predictor["args"][predictor["args"].index("--grpc-port") + 1]
    (settings,) = [m for m in manifests if m["kind"] == "ConfigMap"]
    assert settings["data"]["PVF_PREDICTOR_GRPC"] == f"127.0.0.1:{port}"


def test_a_drift_event_reaches_the_trigger(manifests: list[Manifest]) -> None:
    """job -> SinkBinding -> Broker -> Trigger -> Service -> pods of the Deployment."""
    by_name = {_name(manifest): manifest for manifest in manifests}
    binding = by_name["SinkBinding/drift-check"]["spec"]
    job = by_name["CronJob/drift-check"]["spec"]["jobTemplate"]
    assert binding["subject"]["selector"]["matchLabels"].items() <= job["metadata"]["labels"].items()
    assert f"Broker/{binding['sink']['ref']['name']}" in by_name
    trigger = by_name["Trigger/retrain-on-drift"]["spec"]
    assert trigger["broker"] == binding["sink"]["ref"]["name"]
    assert trigger["filter"]["attributes"] == {"type": "io.pvforecast.drift.detected.v1"}
    service = by_name[f"Service/{trigger['subscriber']['ref']['name']}"]["spec"]
    pods = by_name["Deployment/retrain-trigger"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= pods.items()


def test_network_is_closed_but_for_what_each_app_needs(
    manifests: list[Manifest], workloads: dict[str, Manifest]
) -> None:
    policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]
    closed = [policy for policy in policies if not policy["podSelector"]]
    assert [policy["policyTypes"] for policy in closed] == [["Ingress", "Egress"]]
    selected = {
        policy["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for policy in policies if policy["podSelector"]
    }
    assert selected == {name.partition("/")[2] for name in workloads}


def test_objects_carry_the_standard_labels_and_a_namespace(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["kind"] == "Namespace":
            assert manifest["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
            continue
        assert manifest["metadata"]["namespace"], _name(manifest)
        if manifest["kind"] not in {"ConfigMap", "Secret", "NetworkPolicy"}:
            labels = manifest["metadata"]["labels"]
            assert labels["app.kubernetes.io/part-of"] == "pvforecast", _name(manifest)
            assert {
                "app.kubernetes.io/name",
                "app.kubernetes.io/component",
                "app.kubernetes.io/version",
            } <= labels.keys()


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _pod_spec(manifest: Manifest) -> Manifest | None:
    match manifest:
        case {"kind": "InferenceService", "spec": {"predictor": spec}}:
            return dict(spec)
        case {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}:
            return dict(spec)
        case {"spec": {"template": {"spec": spec}}}:
            return dict(spec)
    return None


def _containers(spec: Manifest) -> Iterator[Manifest]:
    yield from spec.get("initContainers", [])
    yield from spec["containers"]
