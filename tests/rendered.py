"""Overlays as they would be applied, and what tests ask of them."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.debian import program

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = sorted(path.parent.name for path in (ROOT / "kustomize" / "overlays").glob("*/kustomization.yaml"))
NAME = "app.kubernetes.io/name"

Manifest = dict[str, Any]


@functools.cache
def text(folder: Path) -> str:
    """What `kustomize build` says; a warning of it fails."""
    done = subprocess.run(
        [program("kustomize"), "build", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@functools.cache
def objects(overlay: str) -> list[Manifest]:
    """Of an overlay; whoever looks at them leaves them as they are."""
    return parsed(text(ROOT / "kustomize" / "overlays" / overlay))


def parsed(rendered: str) -> list[Manifest]:
    return [document for document in yaml.load_all(rendered, yaml.CSafeLoader) if document]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in manifests if m["kind"] == kind}


def name(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Kind/name -> what its pods are: `labels` and `spec`."""
    found = {}
    for manifest in manifests:
        match manifest:
            case {"kind": "InferenceService", "spec": {"predictor": spec}}:
                found[name(manifest)] = {"labels": spec["labels"], "spec": spec}
            case {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template}}}}:
                found[name(manifest)] = {"labels": template["metadata"]["labels"], "spec": template["spec"]}
            case {"kind": "Deployment" | "StatefulSet" | "Job", "spec": {"template": template}}:
                found[name(manifest)] = {"labels": template["metadata"]["labels"], "spec": template["spec"]}
    return found


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Kind/name/container of all that runs."""
    for where, pod in pods(manifests).items():
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{where}/{container['name']}", container


def sources(pod_spec: Manifest) -> Iterator[tuple[str, str, str | None]]:
    """(ConfigMap or Secret, its name, the key or None for all) of whatever a pod reads of them."""
    for container in pod_spec["containers"]:
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                yield "ConfigMap", source["configMapRef"]["name"], None
            if "secretRef" in source:
                yield "Secret", source["secretRef"]["name"], None
        for variable in container.get("env", []):
            given = variable.get("valueFrom", {})
            if "configMapKeyRef" in given:
                yield "ConfigMap", given["configMapKeyRef"]["name"], given["configMapKeyRef"]["key"]
            if "secretKeyRef" in given:
                yield "Secret", given["secretKeyRef"]["name"], given["secretKeyRef"]["key"]
    for volume in pod_spec.get("volumes", []):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"], None
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"], None
        for source in volume.get("projected", {}).get("sources", []):
            if "secret" in source and not source["secret"].get("optional"):
                yield "Secret", source["secret"]["name"], None


def secrets(manifests: list[Manifest]) -> dict[tuple[str, str], set[str] | None]:
    """(namespace, name) -> keys of each Secret that will be there; None where only the vault knows them."""
    found: dict[tuple[str, str], set[str] | None] = {}
    for m in manifests:
        namespace = m["metadata"].get("namespace", "")
        match m:
            case {"kind": "Secret"}:
                found[namespace, m["metadata"]["name"]] = set(m["data"])
            case {"kind": "ExternalSecret", "spec": {"target": {"name": made}, **spec}}:
                keys = {item["secretKey"] for item in spec["data"]} if "data" in spec else None
                found[namespace, made] = keys
            case {"kind": "Certificate", "spec": {"secretName": made}}:
                found[namespace, made] = {"tls.crt", "tls.key", "ca.crt"}
    return found


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())
