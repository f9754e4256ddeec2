"""The manifests, rendered as they would be applied: kinds and fields exist, commands run, what is named is there.

Held against schemas only. They have not run on a cluster.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from pipelines import profile, schedules
from pvforecast import settings
from pvforecast.settings import Settings
from tests import rendered
from tests.commands import accepted
from tests.rendered import NAME, OVERLAYS, ROOT, Manifest

VALIDATOR = ROOT.parent / "shared" / "tools" / "validate-manifests"  # an extra, where it is present
KUBERNETES = "1.34"
OF_KUBERNETES = {  # all of them in their last version
    "v1",
    "apps/v1",
    "autoscaling/v2",
    "batch/v1",
    "networking.k8s.io/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
    "scheduling.k8s.io/v1",
}
OF_OTHERS = {
    "serving.kserve.io/v1beta1": {"InferenceService"},
    "eventing.knative.dev/v1": {"Broker", "Trigger"},
    "sources.knative.dev/v1": {"SinkBinding"},
    "gateway.networking.k8s.io/v1": {"BackendTLSPolicy", "Gateway", "HTTPRoute"},
    "gateway.envoyproxy.io/v1alpha1": {
        *("BackendTrafficPolicy", "ClientTrafficPolicy", "EnvoyExtensionPolicy", "EnvoyProxy", "HTTPRouteFilter"),
        "SecurityPolicy",
    },
    "cert-manager.io/v1": {"Certificate", "Issuer"},
    "external-secrets.io/v1": {"ExternalSecret"},
    "keda.sh/v1alpha1": {"ScaledObject"},
    "monitoring.coreos.com/v1": {"PodMonitor", "PrometheusRule", "ServiceMonitor"},
    "monitoring.coreos.com/v1alpha1": {"AlertmanagerConfig"},
}
OTHER_VARIABLES = {
    "PVF_BUNDLE_URI",  # inference: pins the bundle
    "PVF_MODEL_VERSION",
    "PVF_NAMESPACE",  # inference.transformer: names the source of logged predictions
    "PVF_TRAINING_COMMAND",  # inference.retrain
    "PVF_GIT_COMMIT",  # pvforecast.tracking
    "PVF_PASSWORD",  # manifests/postgres/databases.sh
}
QUANTITY = re.compile(r"[1-9][0-9]*(m|[KMGT]i)?")


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manifests(overlay: str) -> list[Manifest]:
    return rendered.objects(overlay)


def test_there_are_three_overlays() -> None:
    assert OVERLAYS == ["dev", "prod", "staging"]


def test_kinds_of_kubernetes_have_no_unknown_or_wrong_field(manifests: list[Manifest]) -> None:
    core = [manifest for manifest in manifests if manifest["apiVersion"] in OF_KUBERNETES]
    assert len(core) >= 40
    for manifest in core:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_all_kinds_pass_the_schemas_of_their_projects(overlay: str) -> None:
    if VALIDATOR.exists():
        validate(rendered.text(ROOT / "kustomize" / "overlays" / overlay))


def validate(text: str) -> None:
    done = subprocess.run([sys.executable, VALIDATOR], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(" documents, 0 errors\n")
    assert done.stdout.count("\n") == 1, done.stdout


def test_custom_kinds_are_the_ones_the_platform_is_written_for(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if manifest["apiVersion"] not in OF_KUBERNETES:
            assert manifest["kind"] in OF_OTHERS[manifest["apiVersion"]], rendered.name(manifest)


def test_everything_that_runs_is_here(overlay: str, manifests: list[Manifest]) -> None:
    ours = {
        "InferenceService/pv-forecast",
        "Deployment/forecast-stream",
        "Deployment/forecast-page",
        "Deployment/prediction-log",
        "Deployment/telemetry",
        "Deployment/retrain-trigger",
        "Deployment/mlflow",
        "Deployment/fleet-metrics",
        "CronJob/drift-check",
        "CronJob/drift-references",
        "CronJob/retention",
        "Job/migrate",
        "Job/pipeline-schedule",
    }
    stores = {"StatefulSet/postgres", "StatefulSet/seaweedfs", "StatefulSet/mosquitto"}
    assert set(rendered.pods(manifests)) == ours | (stores if overlay == "dev" else {"CronJob/backup"})


def test_containers_are_bounded_and_probed(manifests: list[Manifest]) -> None:
    for where, container in rendered.containers(manifests):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), where
        if not where.startswith(("CronJob/", "Job/")):
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), where


def test_probes_ask_a_port_that_the_container_listens_on(manifests: list[Manifest]) -> None:
    for where, container in rendered.containers(manifests):
        named = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        words = " ".join(container.get("args", []))
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(probe, {})
            port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
            if port is not None and "pvforecast/" in container["image"]:
                assert re.search(rf"\b{named.get(port, port)}\b", words), f"{where}: {probe}"


def test_quantities_are_written_as_kubernetes_writes_them(manifests: list[Manifest]) -> None:
    """Another spelling of the same number is a difference to a GitOps tool."""
    for manifest in manifests:
        for key, value in _quantities(manifest):
            number, unit = re.fullmatch(r"([0-9]+)(.*)", str(value)).groups()  # type: ignore[union-attr]
            assert QUANTITY.fullmatch(str(value)), f"{rendered.name(manifest)}: {key} {value}"
            assert isinstance(value, str), f"{rendered.name(manifest)}: {key} {value} needs quotes"
            larger = {"m": 1000, "Ki": 1024, "Mi": 1024, "Gi": 1024}.get(unit)
            assert larger is None or int(number) % larger, f"{rendered.name(manifest)}: {key} {value}"


def _quantities(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("requests", "limits") and isinstance(inner, dict):
                yield from inner.items()
            elif key in ("sizeLimit", "bufferLimit"):
                yield key, inner
            elif key == "requestBuffer":
                yield key, inner["limit"]
            else:
                yield from _quantities(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _quantities(inner)


def test_commands_are_there_and_take_their_arguments(
    manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    for where, container in rendered.containers(manifests):
        if "pvforecast/" not in container["image"]:
            continue
        python, m, module = container["command"]
        assert (python, m) == ("python", "-m"), where
        seen.add(module)
        if module == "pvf":
            assert accepted(container["args"]), where
        elif module in ("mlflow", "inference.drift"):
            pass  # see below
        else:
            assert module.startswith("inference."), where
            served = import_module(f"{module}.__main__")
            monkeypatch.setattr(served, "_serve", lambda *_: None)
            monkeypatch.setattr(served.web, "configure_logging", lambda: None)
            monkeypatch.setattr(asyncio, "run", lambda _: None)
            monkeypatch.setattr("inference.server.run", lambda _: None)
            assert served.main(container["args"]) == 0, where
    assert {"pvf", "mlflow", "inference.drift", "inference.transformer", "inference.ingest"} <= seen


@pytest.mark.slow
def test_mlflow_s_server_accepts_its_arguments() -> None:
    (container,) = rendered.pods(rendered.objects("prod"))["Deployment/mlflow"]["spec"]["containers"]
    command, *words = container["args"]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", command, "--help"], capture_output=True, text=True, check=True, timeout=120
    )
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", done.stdout))


@pytest.mark.parametrize("name", ["drift-check", "drift-references"])
def test_the_drift_jobs_accept_their_arguments(name: str, tmp_path: Path) -> None:
    """It gets as far as the lake, which is empty here (1); a wrong call would end with 2."""
    (container,) = rendered.pods(rendered.objects("prod"))[f"CronJob/{name}"]["spec"]["containers"]
    command = [str(ROOT / ".venv-drift" / "bin" / "python"), *container["command"][1:], *container["args"]]
    environment = {**os.environ, "PVF_LAKE_URI": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "the lake has no parks" in done.stderr


def test_variables_are_settings(overlay: str, manifests: list[Manifest]) -> None:
    config_maps = [m for m in manifests if m["kind"] == "ConfigMap"]
    given = {key for manifest in config_maps for key in manifest["data"]}
    given |= {key for keys in rendered.secrets(manifests).values() for key in keys or ()}
    given |= {
        variable["name"] for _, container in rendered.containers(manifests) for variable in container.get("env", [])
    }
    known = {f"PVF_{field.upper()}" for field in Settings.model_fields} | OTHER_VARIABLES
    assert {name for name in given if name.startswith("PVF_")} <= known
    assert {"PVF_S3_ENDPOINT", "PVF_S3_SECRET_KEY", "PVF_POSTGRES_DSN", "PVF_MQTT_PASSWORD"} <= given


def test_settings_are_read_as_they_are_meant(
    overlay: str, manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the overlay's values the program's own loaders are content: settings, profile and schedules of pipelines."""
    folder = ROOT / "kustomize" / "overlays" / overlay
    for name in [name for name in os.environ if name.startswith("PVF_")]:
        monkeypatch.delenv(name)
    for key, value in _settings(manifests).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PVF_PIPELINE_PROFILE", str(folder / "profile.yaml"))
    monkeypatch.setenv("PVF_PIPELINE_SCHEDULES", str(folder / "schedules.yaml"))
    known = settings.load()
    assert known.s3_bucket in known.lake_uri
    assert {schedule.name for schedule in schedules.load(known)} == {"ingestion", "training", "maintenance"}
    assert profile.load(known.pipeline_profile).labels == {NAME: known.kfp_service_account}


def test_what_pods_read_of_config_maps_and_secrets_is_there(manifests: list[Manifest]) -> None:
    """kustomize gives generated ConfigMaps new names: every mention must have followed."""
    maps = {
        (m["metadata"]["namespace"], m["metadata"]["name"]): set(m["data"])
        for m in manifests
        if m["kind"] == "ConfigMap"
    }
    there = {"ConfigMap": maps, "Secret": rendered.secrets(manifests)}
    accounts = {(m["metadata"]["namespace"], m["metadata"]["name"]) for m in manifests if m["kind"] == "ServiceAccount"}
    namespaces = {rendered.name(m): m["metadata"].get("namespace") for m in manifests}
    for where, pod in rendered.pods(manifests).items():
        namespace = namespaces[where]
        assert (namespace, pod["spec"]["serviceAccountName"]) in accounts, where
        for kind, name, key in rendered.sources(pod["spec"]):
            keys = there[kind].get((namespace, name), ...)  # type: ignore[call-overload]
            assert keys is not ..., f"{where}: {kind} {name}"
            assert key is None or key in keys, f"{where}: {kind} {name}, {key}"


def test_what_tasks_of_pipelines_read_is_there_in_kfp_s_namespace(overlay: str, manifests: list[Manifest]) -> None:
    wanted = profile.load(ROOT / "kustomize" / "overlays" / overlay / "profile.yaml")
    maps = {
        m["metadata"]["name"]: m["data"]
        for m in manifests
        if m["kind"] == "ConfigMap" and m["metadata"]["namespace"] == "kubeflow"
    }
    for source, names in wanted.config_maps.items():
        assert set(names) <= maps[source].keys()
    secrets = rendered.secrets(manifests)
    for source, names in wanted.secrets.items():
        assert set(names) <= (secrets["kubeflow", source] or set())


def test_tasks_run_the_image_that_the_pods_run(overlay: str, manifests: list[Manifest], tmp_path: Path) -> None:
    (config,) = [m for m in manifests if m["metadata"]["name"].startswith("pvforecast-pipelines")]
    file = tmp_path / "profile.yaml"
    file.write_text(config["data"]["profile.yaml"])
    images = {c["image"] for _, c in rendered.containers(manifests) if re.search(r"pvforecast/app[:@]", c["image"])}
    assert {profile.load(file).image} == images


def test_objects_carry_the_standard_labels(overlay: str, manifests: list[Manifest]) -> None:
    of_an_app = {"Deployment", "StatefulSet", "CronJob", "Job", "InferenceService", "Service", "ServiceAccount"}
    of_an_app |= {"Gateway", "HTTPRoute", "Broker", "Trigger", "SinkBinding", "Role", "RoleBinding"}
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert {"app.kubernetes.io/part-of", "app.kubernetes.io/instance"} <= labels.keys(), rendered.name(manifest)
        if manifest["kind"] in of_an_app:
            assert {NAME, "app.kubernetes.io/component", "app.kubernetes.io/version"} <= labels.keys(), rendered.name(
                manifest
            )
    for where, pod in rendered.pods(manifests).items():
        assert pod["labels"]["app.kubernetes.io/part-of"] == "pvforecast", where


def test_only_what_is_the_cluster_s_has_no_namespace(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        of_cluster = manifest["kind"] in {"Namespace", "PriorityClass"}
        assert of_cluster != ("namespace" in manifest["metadata"]), rendered.name(manifest)


def _settings(manifests: list[Manifest]) -> dict[str, str]:
    (found,) = [m["data"] for m in manifests if re.match("pvforecast-settings-", m["metadata"]["name"])]
    return dict(found)


def test_modules_of_commands_are_in_the_tree_or_installed(manifests: list[Manifest]) -> None:
    for where, container in rendered.containers(manifests):
        if "pvforecast/" in container["image"]:
            assert importlib.util.find_spec(container["command"][2]) is not None, where
