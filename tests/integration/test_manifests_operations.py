"""What a cluster does with the manifests over time: drains, roll-outs, scaling, another name, a GitOps tool."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
import yaml

from components.deploy import cluster
from tests import rendered
from tests.integration.test_manifests import VALIDATOR, validate
from tests.rendered import NAME, OVERLAYS, ROOT, Manifest

COMPONENTS = ROOT / "kustomize" / "components"
STANDING = ["prod", "staging"]
ANSWERING = {"pv-forecast", "forecast-stream", "forecast-page", "prediction-log", "mlflow"}
SINGLE = {"telemetry", "retrain-trigger", "fleet-metrics"}  # by nature: docs/kubernetes.md


@pytest.fixture(scope="module", params=STANDING)
def standing(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered.objects(request.param)


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered.objects(request.param)


def app_of(where: str) -> str:
    return where.partition("/")[2]


def test_two_of_everything_that_answers(standing: list[Manifest]) -> None:
    at_least = {m["metadata"]["name"]: m["spec"].get("replicas") for m in standing if m["kind"] == "Deployment"}
    at_least |= {
        name: m["spec"]["minReplicas"] for name, m in rendered.of_kind(standing, "HorizontalPodAutoscaler").items()
    }
    at_least |= {
        n: m["spec"]["predictor"]["minReplicas"] for n, m in rendered.of_kind(standing, "InferenceService").items()
    }
    assert at_least == dict.fromkeys(ANSWERING, 2) | dict.fromkeys(SINGLE, 1)
    proxy = rendered.of_kind(standing, "EnvoyProxy")["pvforecast"]["spec"]["provider"]["kubernetes"]
    assert (proxy["envoyDeployment"]["replicas"], proxy["envoyPDB"]) == (2, {"maxUnavailable": 1})


def test_drains_leave_one_of_two(standing: list[Manifest]) -> None:
    everyone = rendered.pods(standing)
    for name, budget in rendered.of_kind(standing, "PodDisruptionBudget").items():
        assert budget["spec"]["maxUnavailable"] == 1
        chosen = [w for w, p in everyone.items() if rendered.selects(budget["spec"]["selector"], p["labels"])]
        assert [app_of(where) for where in chosen] == [name]
    assert set(rendered.of_kind(standing, "PodDisruptionBudget")) == ANSWERING


def test_they_are_spread_and_ranked(standing: list[Manifest]) -> None:
    classes = rendered.of_kind(standing, "PriorityClass")
    for where, pod in rendered.pods(standing).items():
        rank = pod["spec"].get("priorityClassName")
        assert rank is None or rank in classes, where
        if app_of(where) not in ANSWERING:
            continue
        assert rank == "pvforecast-serving", where
        spread = pod["spec"]["topologySpreadConstraints"]
        assert [s["topologyKey"] for s in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"], where
        for constraint in spread:
            assert rendered.selects(constraint["labelSelector"], pod["labels"]), where
            assert constraint["matchLabelKeys"] == [NAME, "pod-template-hash"], "of the same app and version only"


def test_a_roll_out_takes_nothing_away_first(manifests: list[Manifest]) -> None:
    for m in manifests:
        if m["kind"] == "Deployment":
            name, strategy = m["metadata"]["name"], m["spec"]["strategy"]
            if name in ANSWERING:
                assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}, name
            else:
                assert (strategy["type"], name in SINGLE) == ("Recreate", True), name
        if m["kind"] == "InferenceService":
            rolling = m["spec"]["predictor"]["deploymentStrategy"]["rollingUpdate"]
            assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_pods_wait_until_nobody_sends_before_they_stop(manifests: list[Manifest]) -> None:
    """And may then finish what is under way: servers take 5 s for that (inference.web.GRACE_S)."""
    from inference import web

    for where, pod in rendered.pods(manifests).items():
        if app_of(where) not in ANSWERING:
            continue
        waits = [c["lifecycle"]["preStop"]["sleep"]["seconds"] for c in pod["spec"]["containers"] if "lifecycle" in c]
        assert waits, where
        given = pod["spec"].get("terminationGracePeriodSeconds", 30)
        assert max(waits) + web.GRACE_S + 5 <= given, where


def test_what_an_autoscaler_sets_is_not_set_here(manifests: list[Manifest]) -> None:
    """A number here would be set back at each sync."""
    scaled = {
        m["spec"]["scaleTargetRef"]["name"]
        for m in manifests
        if m["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}
    }
    deployments = rendered.of_kind(manifests, "Deployment")
    for name in scaled - {"pv-forecast-predictor"}:  # which KServe makes
        assert "replicas" not in deployments[name]["spec"], name


def test_an_idle_dev_sleeps() -> None:
    dev = rendered.objects("dev")
    scaled = rendered.of_kind(dev, "ScaledObject")
    assert {m["spec"]["scaleTargetRef"]["name"] for m in scaled.values()} == {
        "pv-forecast-predictor",
        "forecast-stream",
        "forecast-page",
        "prediction-log",
    }
    assert {m["spec"]["minReplicaCount"] for m in scaled.values()} == {0}
    service = rendered.of_kind(dev, "InferenceService")["pv-forecast"]
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
    assert {"StatefulSet/postgres", "StatefulSet/seaweedfs", "StatefulSet/mosquitto"} <= set(rendered.pods(dev))


def test_nothing_runs_on_gpu_nodes(standing: list[Manifest]) -> None:
    for where, pod in rendered.pods(standing).items():
        node = pod["spec"]["affinity"]["nodeAffinity"]
        (term,) = node["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchExpressions"] == [{"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"}], where


def test_jobs_by_the_clock_never_run_beside_themselves(manifests: list[Manifest]) -> None:
    for name, job in rendered.of_kind(manifests, "CronJob").items():
        spec = job["spec"]
        assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Etc/UTC"), name
        assert spec["startingDeadlineSeconds"], name
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"], name


def test_a_backup_with_databases_has_their_keys_and_the_way_there(tmp_path: Path) -> None:
    manifests = rendered.parsed(rendered.text(_kustomization(tmp_path, "prod", ["database-backups"])))
    backup = rendered.pods(manifests)["CronJob/backup"]
    assert backup["labels"]["pvforecast.io/uses-postgres"] == "true"
    names = {name for kind, name, _ in rendered.sources(backup["spec"]) if kind == "Secret"}
    assert names == {"pvforecast-backup", "pvforecast-postgres", "pvforecast-mlflow"}
    (container,) = backup["spec"]["containers"]
    assert container["args"] == ["backup", "create", "--databases"]
    folder = rendered.of_kind(manifests, "ConfigMap")
    (settings,) = [m["data"] for n, m in folder.items() if n.startswith("pvforecast-settings-")]
    assert settings["PGSSLROOTCERT"].rpartition("/")[0] in {m["mountPath"] for m in container["volumeMounts"]}
    assert settings["PVF_BACKUP_URI"].startswith("s3://")


def test_jobs_are_made_anew_by_gitops_tools(manifests: list[Manifest]) -> None:
    for name, job in rendered.of_kind(manifests, "Job").items():
        annotations = job["metadata"]["annotations"]
        # PreSync would wait for an account and settings that come with Sync, PostSync for a model that is served
        assert annotations["argocd.argoproj.io/hook"] == "Sync", name
        assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation", name
        assert annotations["kustomize.toolkit.fluxcd.io/force"] == "enabled", name
        assert "ttlSecondsAfterFinished" not in job["spec"], f"{name}: gone by itself, it would be made again and again"


def test_defaults_that_servers_write_are_written_here(manifests: list[Manifest]) -> None:
    """Gateway API and its policies: what their CRDs default and a tool would take for a difference."""
    for m in manifests:
        match m["kind"]:
            case "HTTPRoute":
                for parent in m["spec"]["parentRefs"]:
                    assert {"group", "kind"} <= parent.keys()
                for rule in m["spec"]["rules"]:
                    assert all({"type", "value"} <= match["path"].keys() for match in rule["matches"])
                    assert all({"group", "kind", "weight"} <= ref.keys() for ref in rule.get("backendRefs", []))
            case "Gateway":
                for listener in m["spec"]["listeners"]:
                    assert listener["allowedRoutes"] == {"namespaces": {"from": "Same"}}
                    assert all({"group", "kind"} <= ref.keys() for ref in listener["tls"]["certificateRefs"])
            case "ExternalSecret":
                assert {"refreshPolicy", "refreshInterval"} <= m["spec"].keys()
                assert {"creationPolicy", "deletionPolicy"} <= m["spec"]["target"].keys()


def test_another_name_breaks_no_reference(tmp_path: Path) -> None:
    """Under a prefix whatever names an object of ours follows. Host names in settings and selectors' labels do not."""
    before = rendered.objects("prod")
    after = rendered.parsed(rendered.text(_kustomization(tmp_path, "prod", [], extra="namePrefix: north-\n")))
    names = {(m["kind"], m["metadata"]["name"]) for m in after}
    renamed = {(m["kind"], f"north-{m['metadata']['name']}") for m in before if m["kind"] != "Namespace"}
    assert renamed <= names
    assert set(map(_references, before)) != set(map(_references, after))
    for m in after:
        for kind, name in _references(m):
            assert (kind, name) in names, f"{rendered.name(m)}: {kind} {name}"


def _references(m: Manifest) -> frozenset[tuple[str, str]]:
    """(kind, name) of our own objects that a custom kind names; kustomize itself sees to Kubernetes' own."""
    spec, found = m.get("spec", {}), set()
    match m["kind"]:
        case "HTTPRoute":
            found |= {("Gateway", parent["name"]) for parent in spec["parentRefs"]}
            found |= {(ref["kind"], ref["name"]) for rule in spec["rules"] for ref in rule.get("backendRefs", [])}
            filters = [
                f["extensionRef"] for rule in spec["rules"] for f in rule.get("filters", []) if "extensionRef" in f
            ]
            found |= {(ref["kind"], ref["name"]) for ref in filters}
        case "SecurityPolicy" | "ClientTrafficPolicy" | "BackendTrafficPolicy":
            found |= {(target["kind"], target["name"]) for target in spec["targetRefs"]}
        case "BackendTLSPolicy":
            found |= {(target["kind"], target["name"]) for target in spec["targetRefs"]}
        case "Certificate":
            found |= {(ref["kind"], ref["name"]) for ref in [spec["issuerRef"]] if ref["kind"] == "Issuer"}
        case "Trigger":
            found |= {("Broker", spec["broker"]), ("Service", spec["subscriber"]["ref"]["name"])}
        case "SinkBinding":
            found |= {(spec["sink"]["ref"]["kind"], spec["sink"]["ref"]["name"])}
        case "InferenceService":
            found |= {("ServiceAccount", spec["predictor"]["serviceAccountName"])}
            found |= {("PriorityClass", spec["predictor"]["priorityClassName"])}
            found |= {("ConfigMap", v["configMap"]["name"]) for v in spec["predictor"]["volumes"] if "configMap" in v}
        case "HorizontalPodAutoscaler":
            found |= {("Deployment", spec["scaleTargetRef"]["name"])}
    return frozenset(found)


def combinations() -> list[tuple[str, tuple[str, ...]]]:
    """Those of docs/kubernetes.md: `overlay + component + ...` in its table of combinations."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    rows = re.findall(r"^\| `([a-z]+)((?: \+ [a-z-]+)+)` \|", text, re.MULTILINE)
    return [(overlay, tuple(words.split(" + ")[1:])) for overlay, words in rows]


@pytest.mark.parametrize(
    ("overlay", "more"), combinations(), ids=lambda value: value if isinstance(value, str) else "+".join(value)
)
def test_combinations_of_the_guide_render_and_are_valid(overlay: str, more: tuple[str, ...], tmp_path: Path) -> None:
    text = rendered.text(_kustomization(tmp_path, overlay, more))
    assert len(rendered.parsed(text)) >= len(rendered.objects(overlay))
    if VALIDATOR.exists():
        validate(text)


def test_the_guide_names_combinations_and_every_component_is_used() -> None:
    used = set(itertools.chain.from_iterable(more for _, more in combinations()))
    for overlay in OVERLAYS:
        own = yaml.safe_load((ROOT / "kustomize/overlays" / overlay / "kustomization.yaml").read_text())
        used |= {Path(component).name for component in own["components"]}
    assert used == {path.parent.name for path in COMPONENTS.glob("*/kustomization.yaml")}


def test_the_guide_s_table_says_what_pods_ask_for() -> None:
    """`workload` or `workload/container` in its first column; each of prod's containers stands in one row."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    said = {}
    for names, requests, limits in re.findall(r"^\| (`[^|]+) \| (\w+, \w+) \| (\w+, \w+) \|", text, re.MULTILINE):
        said |= dict.fromkeys(re.findall(r"`([^`]+)`", names), (requests, limits))
    asked = {}
    for where, container in rendered.containers(rendered.objects("prod")):
        _, workload, name = where.split("/")
        both = container["resources"]
        key = workload if name in (workload, "stream") else f"{workload}/{name}"
        asked[key] = tuple(", ".join((both[kind]["cpu"], both[kind]["memory"])) for kind in ("requests", "limits"))
    assert said == asked


def _yaml_of_the_guide() -> list[Manifest]:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    return [m for block in re.findall(r"```yaml\n(.*?)```", text, re.S) for m in rendered.parsed(block)]


def test_the_guide_s_own_objects_fit_the_manifests() -> None:
    whole = {m["kind"]: m for m in _yaml_of_the_guide() if "kind" in m}
    prod = rendered.objects("prod")
    assert (
        rendered.of_kind(prod, "Gateway")["pvforecast"]["spec"]["gatewayClassName"]
        == whole["GatewayClass"]["metadata"]["name"]
    )
    store = whole["ClusterSecretStore"]
    for name, secret in rendered.of_kind(prod, "ExternalSecret").items():
        assert secret["spec"]["secretStoreRef"]["name"] == store["metadata"]["name"], name
        assert secret["metadata"]["namespace"] in store["spec"]["conditions"][0]["namespaces"], name
    if VALIDATOR.exists():
        validate(yaml.safe_dump_all(whole.values()))


def test_argo_cd_is_told_of_what_the_deployer_holds() -> None:
    (application,) = [m["spec"] for m in _yaml_of_the_guide() if "syncPolicy" in m.get("spec", {})]
    (rule,) = application["ignoreDifferences"]
    assert rule["managedFieldsManagers"] == [cluster.FIELD_MANAGER]
    assert f"{rule['group']}/v1beta1" == cluster.GROUP_VERSION
    assert "RespectIgnoreDifferences=true" in application["syncPolicy"]["syncOptions"], "else a sync takes them away"


def test_the_canary_gets_its_share_and_nothing_else(tmp_path: Path) -> None:
    manifests = rendered.parsed(rendered.text(_kustomization(tmp_path, "prod", ["canary"])))
    services = rendered.of_kind(manifests, "InferenceService")
    assert set(services) == {"pv-forecast", "pv-forecast-canary"}
    rule = rendered.of_kind(manifests, "HTTPRoute")["forecasts"]["spec"]["rules"][1]
    assert {ref["name"]: ref["weight"] for ref in rule["backendRefs"]} == {
        "forecast-api": 90,
        "forecast-api-canary": 10,
    }
    everyone = rendered.pods(manifests)
    for name, pod in (("forecast-api", "pv-forecast"), ("forecast-api-canary", "pv-forecast-canary")):
        selector = rendered.of_kind(manifests, "Service")[name]["spec"]["selector"]
        assert [w for w, p in everyone.items() if selector.items() <= p["labels"].items()] == [
            f"InferenceService/{pod}"
        ]
    canary = services["pv-forecast-canary"]["spec"]["predictor"]
    assert {name for kind, name, _ in rendered.sources(canary) if kind == "ConfigMap"} <= {
        m["metadata"]["name"] for m in manifests if m["kind"] == "ConfigMap"
    }


def _kustomization(folder: Path, overlay: str, more: list[str] | tuple[str, ...], extra: str = "") -> Path:
    """An overlay of somebody's own on one of ours."""
    resource, parts = ROOT / "kustomize/overlays" / overlay, [COMPONENTS / name for name in more]
    lines = ["resources:", f"  - {os.path.relpath(resource, folder)}"]
    if parts:
        lines += ["components:", *(f"  - {os.path.relpath(part, folder)}" for part in parts)]
    (folder / "kustomization.yaml").write_text("\n".join(lines) + f"\n{extra}")
    return folder
