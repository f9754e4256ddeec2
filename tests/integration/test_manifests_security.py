"""What each pod may do, read and reach: the tables that docs/threat-model.md leans on."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
import yaml

from tests import rendered
from tests.rendered import NAME, OVERLAYS, ROOT, Manifest

KFP = "kubeflow"
IMAGES = {"pvforecast/app", "pvforecast/serve", "pvforecast/drift"}
STORES = {"postgres", "chrislusf/seaweedfs", "eclipse-mosquitto"}  # of dev only


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def manifests(overlay: str) -> list[Manifest]:
    return rendered.objects(overlay)


def test_namespaces_refuse_what_is_not_restricted(manifests: list[Manifest]) -> None:
    (namespace,) = rendered.of_kind(manifests, "Namespace").values()
    labels = namespace["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


def test_pods_are_restricted(manifests: list[Manifest]) -> None:
    for where, pod in rendered.pods(manifests).items():
        spec, context = pod["spec"], pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, where
        assert context["runAsUser"] > 0, where
        assert context["runAsGroup"] > 0, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys(), where
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "configMap", "secret", "projected"}, where
    for where, container in rendered.containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, where
        assert not any("hostPort" in port for port in container.get("ports", [])), where


def test_what_is_written_has_a_limit(manifests: list[Manifest]) -> None:
    for where, pod in rendered.pods(manifests).items():
        for volume in pod["spec"].get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], where


def test_the_gateway_s_proxies_are_restricted_too(manifests: list[Manifest]) -> None:
    proxy = rendered.of_kind(manifests, "EnvoyProxy")["pvforecast"]["spec"]["provider"]["kubernetes"]["envoyDeployment"]
    assert proxy["container"]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_images_are_known_and_fixed(overlay: str, manifests: list[Manifest]) -> None:
    for where, container in rendered.containers(manifests):
        image = container["image"]
        assert ":latest" not in image, where
        assert "imagePullPolicy" not in container, where  # the default for a version or digest: not pulled again
        if overlay == "dev":
            name, _, tag = image.partition(":")
            assert name in IMAGES | STORES, where
            assert re.fullmatch(r"[0-9]+\.[0-9]+.*", tag), where
        else:
            name, _, digest = image.partition("@")
            assert name.removeprefix("registry.example.org/") in IMAGES, where
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest), where


def test_each_app_has_an_account_of_its_own_without_a_token(manifests: list[Manifest]) -> None:
    accounts = {name: pod["spec"]["serviceAccountName"] for name, pod in rendered.pods(manifests).items()}
    assert {kind_name.partition("/")[2]: account for kind_name, account in accounts.items()} == {
        account: account for account in accounts.values()
    }
    for where, pod in rendered.pods(manifests).items():
        assert pod["spec"]["automountServiceAccountToken"] is False, where
    for name, account in rendered.of_kind(manifests, "ServiceAccount").items():
        if name != "pvforecast-runs":
            assert account["automountServiceAccountToken"] is False, name


def test_every_verb_that_an_account_may_use(overlay: str, manifests: list[Manifest]) -> None:
    """All of it: (account) -> (resource, names, verbs). Whoever is not here may ask the API server for nothing."""
    namespace = next(iter(rendered.of_kind(manifests, "Namespace")))
    roles = {(m["metadata"]["namespace"], m["metadata"]["name"]): m["rules"] for m in manifests if m["kind"] == "Role"}
    may: dict[tuple[str, str], set[Any]] = {}
    for m in manifests:
        assert m["kind"] not in {"ClusterRole", "ClusterRoleBinding"}, rendered.name(m)
        if m["kind"] != "RoleBinding":
            continue
        where = m["metadata"]["namespace"]
        for subject in m["subjects"]:
            mine = may.setdefault((subject.get("namespace", where), subject["name"]), set())
            for rule in roles.get((where, m["roleRef"]["name"]), [m["roleRef"]["name"]]):
                mine.add(rule if isinstance(rule, str) else _words(where, rule))
    assert may == {
        (KFP, "pvforecast-runs"): {
            "pipeline-runner",  # KFP's own Role, of its installation
            (namespace, "serving.kserve.io/inferenceservices", "pv-forecast", "get patch"),
            (namespace, "apps/deployments", "pv-forecast-predictor", "get"),
        }
    }


def _words(namespace: str, rule: Manifest) -> tuple[str, ...]:
    (group,), (resource,) = rule["apiGroups"], rule["resources"]
    return namespace, f"{group}/{resource}", " ".join(rule["resourceNames"]), " ".join(rule["verbs"])


def test_tokens_are_projected_only_for_kfp_and_only_for_its_audience(manifests: list[Manifest]) -> None:
    holders = {}
    for where, pod in rendered.pods(manifests).items():
        for volume in pod["spec"].get("volumes", []):
            for source in volume.get("projected", {}).get("sources", []):
                if "serviceAccountToken" in source:
                    holders[where] = source["serviceAccountToken"]["audience"]
    audience = "pipelines.kubeflow.org"
    assert holders == dict.fromkeys(
        ["Deployment/retrain-trigger", "Deployment/fleet-metrics", "Job/pipeline-schedule"], audience
    )


def test_secrets_reach_only_who_needs_them(overlay: str, manifests: list[Manifest]) -> None:
    holders: dict[str, set[str]] = {}
    for where, pod in rendered.pods(manifests).items():
        for kind, name, _ in rendered.sources(pod["spec"]):
            if kind == "Secret":
                holders.setdefault(name, set()).add(where.partition("/")[2])
    s3 = {
        "pv-forecast",
        "forecast-stream",
        "forecast-page",
        "telemetry",
        "drift-check",
        "drift-references",
        "retention",
        "retrain-trigger",
        "mlflow",
        "fleet-metrics",
    }
    wanted = {
        "pvforecast-s3": s3 | ({"seaweedfs"} if overlay == "dev" else set()),
        "pvforecast-postgres": {
            "forecast-page",
            "prediction-log",
            "retrain-trigger",
            "fleet-metrics",
            "migrate",
            "drift-check",
        },
        "pvforecast-mlflow": {"mlflow", "migrate"},
        "pvforecast-mqtt": {"telemetry"},
        "forecast-api-tls": {"pv-forecast"},
    }
    wanted |= {
        f"{app}-tls": {app}
        for app in ("forecast-stream", "forecast-page", "prediction-log", "telemetry", "fleet-metrics")
    }
    if overlay == "dev":
        wanted |= {name: {"postgres"} for name in ("postgres-passwords", "postgres-tls")}
        wanted["mosquitto-passwords"] = {"mosquitto"}
    else:
        wanted["pvforecast-backup"] = {"backup"}  # the platform's own keys could take its backups with it
    assert holders == wanted


def test_git_holds_secrets_of_dev_only(overlay: str, manifests: list[Manifest]) -> None:
    routes = "pvforecast-alertmanager"  # a Secret by Alertmanager's wish; its keys are files of another one
    assert (set(rendered.of_kind(manifests, "Secret")) == {routes}) == (overlay != "dev")
    text = base64.b64decode(rendered.of_kind(manifests, "Secret")[routes]["data"]["alertmanager.yaml"]).decode()
    assert not re.search(r"(?im)^ *-? *(password|routing_key|service_key|api_url|credentials|auth_password):", text)
    for manifest in manifests:
        if manifest["kind"] == "ConfigMap":
            assert not re.search(r"(?i)password|secret_key|token=", str(manifest["data"].keys())), rendered.name(
                manifest
            )
    for where, container in rendered.containers(manifests):
        for variable in container.get("env", []):
            secret = re.search(r"(?i)password|secret|api_key|dsn", variable["name"])
            assert not secret or "value" not in variable, f"{where}: {variable['name']}"


def test_every_secret_comes_from_the_vault(overlay: str, manifests: list[Manifest]) -> None:
    """And names what Terraform makes there."""
    made = set(re.findall(r"^    ([a-z0-9-]+) += \"", (ROOT / "terraform/aws/secrets.tf").read_text(), re.MULTILINE))
    for name, secret in rendered.of_kind(manifests, "ExternalSecret").items():
        assert secret["spec"]["secretStoreRef"] == {"kind": "ClusterSecretStore", "name": "pvforecast"}
        parts = [item["remoteRef"] for item in secret["spec"].get("data", [])]
        parts += [item["extract"] for item in secret["spec"].get("dataFrom", [])]
        assert {part["key"] for part in parts} <= made, name
        assert all("decodingStrategy" in part for part in parts), f"{name}: the operator's default is a difference"


def test_what_each_pod_may_reach_and_be_reached_by(overlay: str, manifests: list[Manifest]) -> None:
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    table: dict[str, set[str]] = {}
    for where, pod in rendered.pods(manifests).items():
        chosen = {p["metadata"]["name"] for p in policies if rendered.selects(p["spec"]["podSelector"], pod["labels"])}
        assert "default-deny" in chosen, where
        table[where.partition("/")[2]] = chosen - {"default-deny", "prometheus-scrapes"}
    out = {
        "to-s3",
        "to-postgres",
        "to-mlflow",
        "to-kfp",
        "to-mqtt",
        "forecasts-to-log",
        "to-broker",
        "page-to-forecasts",
        "page-to-prometheus",
    }
    assert {app: chosen & out for app, chosen in table.items()} == {
        "pv-forecast": {"to-s3", "forecasts-to-log"},
        "forecast-stream": {"to-s3", "forecasts-to-log"},
        "forecast-page": {"to-s3", "to-postgres", "page-to-forecasts", "page-to-prometheus"},
        "prediction-log": {"to-postgres"},
        "telemetry": {"to-s3", "to-mqtt"},
        "drift-check": {"to-s3", "to-postgres", "to-mlflow", "to-broker"},
        "drift-references": {"to-s3"},
        "retention": {"to-s3"},
        "retrain-trigger": {"to-s3", "to-postgres", "to-mlflow", "to-kfp", "to-broker"},
        "mlflow": {"to-s3", "to-postgres"},
        "fleet-metrics": {"to-s3", "to-postgres", "to-kfp"},
        "migrate": {"to-postgres"},
        "pipeline-schedule": {"to-kfp"},
        **({"postgres": set(), "seaweedfs": set(), "mosquitto": set()} if overlay == "dev" else {"backup": {"to-s3"}}),
    }
    into = {
        "pv-forecast": {"gateway-to-forecasts", "forecasts-from-page"},
        "forecast-stream": {"gateway-to-stream"},
        "forecast-page": {"gateway-to-page"},
        "prediction-log": {"log-from-forecasts"},
        "retrain-trigger": {"broker-to-trigger"},
        "mlflow": {"mlflow-from-trainings"},
        "postgres": {"postgres-from-services"},
        "seaweedfs": {"s3-from-services"},
        "mosquitto": {"mqtt-from-telemetry"},
    }
    assert {app: chosen - out for app, chosen in table.items()} == {app: into.get(app, set()) for app in table}


def test_tasks_of_pipelines_are_reached_by_nobody_and_reach_what_they_need(
    overlay: str, manifests: list[Manifest]
) -> None:
    policy = rendered.of_kind(manifests, "NetworkPolicy")["pvforecast-runs"]
    assert policy["metadata"]["namespace"] == KFP
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy["spec"]
    labels = yaml.safe_load((ROOT / "kustomize/overlays" / overlay / "profile.yaml").read_text())["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    (ours,) = rendered.of_kind(manifests, "Namespace").values()
    opened = {
        port["port"]
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        if rendered.selects(peer.get("namespaceSelector", {"matchLabels": {"": ""}}), ours["metadata"]["labels"])
        for port in rule["ports"]
    }
    services = rendered.of_kind(manifests, "Service")
    wanted = {
        services[name]["spec"]["ports"][0]["port"] for name in ("mlflow", "postgres", "seaweedfs") if name in services
    }
    assert wanted <= opened == {5000, 5432, 8333}


def test_every_path_has_a_reason_and_ports(manifests: list[Manifest]) -> None:
    for name, policy in rendered.of_kind(manifests, "NetworkPolicy").items():
        assert policy["metadata"]["annotations"]["pvforecast.io/reason"], name
        for direction in ("ingress", "egress"):
            for rule in policy["spec"].get(direction, []):
                assert rule["ports"], name
                assert rule.get("from") or rule.get("to"), name


def test_a_path_between_our_pods_is_open_at_both_ends(manifests: list[Manifest]) -> None:
    policies = [m for m in manifests if m["kind"] == "NetworkPolicy"]
    everyone = rendered.pods(manifests)
    checked = 0
    for policy in policies:
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                if "namespaceSelector" in peer or "ipBlock" in peer:
                    continue
                senders = [p for p in everyone.values() if rendered.selects(policy["spec"]["podSelector"], p["labels"])]
                targets = [p for p in everyone.values() if rendered.selects(peer["podSelector"], p["labels"])]
                assert senders, policy["metadata"]["name"]
                assert targets, policy["metadata"]["name"]
                for sender in senders:
                    for target in targets:
                        for port in rule["ports"]:
                            assert _lets_in(policies, target, sender, port["port"]), policy["metadata"]["name"]
                            checked += 1
    assert checked >= 3


def _lets_in(policies: list[Manifest], target: Manifest, sender: Manifest, port: int) -> bool:
    return any(
        rendered.selects(policy["spec"]["podSelector"], target["labels"])
        and any(port == allowed["port"] for allowed in rule["ports"])
        and any(
            rendered.selects(peer["podSelector"], sender["labels"]) for peer in rule["from"] if "podSelector" in peer
        )
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
    )


def test_who_has_a_store_s_keys_has_the_way_there(manifests: list[Manifest]) -> None:
    """And the other way round: labels of the pods open the path, Secrets hold the keys."""
    keys = {
        "s3": {"pvforecast-s3", "pvforecast-backup"},
        "postgres": {"pvforecast-postgres", "pvforecast-mlflow"},
        "mqtt": {"pvforecast-mqtt"},
    }
    for where, pod in rendered.pods(manifests).items():
        held = {name for kind, name, _ in rendered.sources(pod["spec"]) if kind == "Secret"}
        for store, names in keys.items():
            if pod["labels"][NAME] != "seaweedfs":
                assert (f"pvforecast.io/uses-{store}" in pod["labels"]) == bool(held & names), f"{where}: {store}"


def test_gateway_and_services_speak_tls_and_postgres_is_verified(overlay: str, manifests: list[Manifest]) -> None:
    (listener,) = rendered.of_kind(manifests, "Gateway")["pvforecast"]["spec"]["listeners"]
    assert (listener["protocol"], listener["tls"]["mode"]) == ("HTTPS", "Terminate")
    certificates = {m["spec"]["secretName"] for m in manifests if m["kind"] == "Certificate"}
    assert listener["tls"]["certificateRefs"][0]["name"] in certificates
    assert rendered.of_kind(manifests, "ClientTrafficPolicy")["clients"]["spec"]["tls"]["minVersion"] == "1.2"
    (settings,) = [m["data"] for m in manifests if m["metadata"]["name"].startswith("pvforecast-settings-")]
    assert settings["PVF_TRANSFORMER_URL"].startswith("https://")
    assert settings["PVF_PREDICTION_LOG_URL"].startswith("https://")
    folder = settings["PGSSLROOTCERT"].rpartition("/")[0]
    for where, container in rendered.containers(manifests):
        names = {source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source}
        if names & {"pvforecast-postgres", "pvforecast-mlflow"}:
            assert folder in {mount["mountPath"] for mount in container["volumeMounts"]}, where
    if overlay != "dev":
        assert settings["PVF_S3_ENDPOINT"].startswith("https://")
        assert settings["PVF_MQTT_URL"].startswith("mqtts://")
