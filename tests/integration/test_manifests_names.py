"""Names that two files must agree on, each held against the code that owns it."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import pytest
import yaml

from components.deploy import cluster
from inference.retrain import cloudevent
from inference.transformer.model import CLIENT_HEADER
from pvf.monitoring import cluster_alerts
from pvf.stack import gateway_config, gateway_errors, gateway_options, mosquitto
from tests import rendered
from tests.rendered import NAME, OVERLAYS, ROOT, Manifest

ANY_POD = "pods.pvforecast"  # the name that Prometheus asks each of our pods by


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered.objects(request.param)


def settings(manifests: list[Manifest]) -> dict[str, str]:
    (found,) = [m["data"] for m in manifests if m["metadata"]["name"].startswith("pvforecast-settings-")]
    return dict(found)


def test_one_version_everywhere(manifests: list[Manifest]) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (version,) = re.findall(r'^version = "(.+)"$', text, re.MULTILINE)
    for where, pod in rendered.pods(manifests).items():
        if not where.startswith("StatefulSet/"):
            assert pod["labels"]["app.kubernetes.io/version"] == version, where
    for where, container in rendered.containers(manifests):
        name, _, tag = container["image"].partition(":")
        assert not name.startswith("pvforecast/") or tag == version, where


def test_services_point_at_ports_that_pods_of_theirs_open(manifests: list[Manifest]) -> None:
    everyone = rendered.pods(manifests).values()
    for name, service in rendered.of_kind(manifests, "Service").items():
        (pod,) = [p for p in everyone if service["spec"]["selector"].items() <= p["labels"].items()]
        named = {port["name"] for c in pod["spec"]["containers"] for port in c.get("ports", [])}
        words = {word for c in pod["spec"]["containers"] for word in c.get("args", [])}
        for port in service["spec"]["ports"]:
            target = port["targetPort"]
            assert target in named or str(target) in words, f"{name}: {target}"


def test_routes_point_at_services_and_their_ports(manifests: list[Manifest]) -> None:
    services = rendered.of_kind(manifests, "Service")
    routes = rendered.of_kind(manifests, "HTTPRoute")
    for name, route in routes.items():
        assert {parent["name"] for parent in route["spec"]["parentRefs"]} == {"pvforecast"}
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", []):
                ports = {port["port"] for port in services[backend["name"]]["spec"]["ports"]}
                assert backend["port"] in ports, name
    targets = {
        (target["kind"], target["name"])
        for m in manifests
        if m["kind"] in {"BackendTrafficPolicy", "ClientTrafficPolicy"}
        for target in m["spec"]["targetRefs"]
    }
    assert targets == {("Gateway", "pvforecast")} | {("HTTPRoute", name) for name in routes}


def test_settings_name_services_of_this_namespace(manifests: list[Manifest]) -> None:
    services = rendered.of_kind(manifests, "Service")
    namespace = services["forecast-api"]["metadata"]["namespace"]
    for key in ("PVF_PREDICTION_LOG_URL", "PVF_MLFLOW_URI", "PVF_TRANSFORMER_URL"):
        scheme, _, address = settings(manifests)[key].partition("://")
        host, _, port = address.partition(":")
        name, _, rest = host.partition(".")
        assert rest in ("", f"{namespace}.svc"), key
        asked = int(port or {"http": 80, "https": 443}[scheme])
        assert asked in {p["port"] for p in services[name]["spec"]["ports"]}, key
    url = settings(manifests)["PVF_MLFLOW_URI"].removeprefix("http://")
    assert url in settings(manifests)["MLFLOW_SERVER_ALLOWED_HOSTS"].split(","), "MLflow refuses other host names"


def certificates(manifests: list[Manifest]) -> dict[str, set[str]]:
    """Secret -> the names that its certificate is for, of our own authority's."""
    return {
        m["spec"]["secretName"]: set(m["spec"].get("dnsNames", []))
        for m in manifests
        if m["kind"] == "Certificate" and m["spec"]["issuerRef"]["name"] == "pvforecast-ca"
    }


def shown(pod: Manifest) -> str | None:
    """The Secret with the certificate that a pod's servers show."""
    folders = {v["value"] for c in pod["spec"]["containers"] for v in c.get("env", []) if v["name"] == "PVF_TLS_FOLDER"}
    if not folders:
        return None
    (folder,) = folders
    names = {m["name"] for c in pod["spec"]["containers"] for m in c["volumeMounts"] if m["mountPath"] == folder}
    (secret,) = [v["secret"]["secretName"] for v in pod["spec"]["volumes"] if v["name"] in names]
    return str(secret)


def test_our_servers_show_certificates_for_the_names_they_are_asked_by(manifests: list[Manifest]) -> None:
    issuers, made = rendered.of_kind(manifests, "Issuer"), certificates(manifests)
    assert "pvforecast-ca" in issuers
    services = rendered.of_kind(manifests, "Service")
    servers = {w.partition("/")[2]: p for w, p in rendered.pods(manifests).items() if shown(p)}
    assert set(servers) == {
        *("pv-forecast", "forecast-stream", "forecast-page", "prediction-log", "telemetry", "fleet-metrics")
    }
    for name, pod in servers.items():
        called = {n for n, s in services.items() if s["spec"]["selector"].items() <= pod["labels"].items()}
        assert called | {ANY_POD} == made[str(shown(pod))], name
        for container in pod["spec"]["containers"]:
            assert {"name": "PVF_TLS_FOLDER", "value": "/etc/pvforecast/tls"} in container["env"], name
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe].get("httpGet", {"scheme": "HTTPS"})["scheme"] == "HTTPS", name


def test_the_gateway_verifies_every_service_it_sends_to(manifests: list[Manifest]) -> None:
    verified = {}
    for policy in rendered.of_kind(manifests, "BackendTLSPolicy").values():
        (target,), validation = policy["spec"]["targetRefs"], policy["spec"]["validation"]
        (authority,) = validation["caCertificateRefs"]
        assert validation["hostname"] in certificates(manifests)[authority["name"]]
        verified[target["name"]] = authority["name"]
    routes = rendered.of_kind(manifests, "HTTPRoute").values()
    backends = {ref["name"] for r in routes for rule in r["spec"]["rules"] for ref in rule.get("backendRefs", [])}
    assert set(verified) == backends
    proxy = rendered.of_kind(manifests, "EnvoyProxy")["pvforecast"]["spec"]["backendTLS"]
    assert proxy["alpnProtocols"] == ["h2", "http/1.1"], "gRPC's server insists on h2"


def test_prometheus_scrapes_every_port_of_ours_and_verifies_it(manifests: list[Manifest]) -> None:
    monitor = rendered.of_kind(manifests, "PodMonitor")["pvforecast"]["spec"]
    endpoints = {endpoint["port"]: endpoint for endpoint in monitor["podMetricsEndpoints"]}
    left_out = {value for rule in monitor["selector"]["matchExpressions"] for value in rule["values"]}
    for where, pod in rendered.pods(manifests).items():
        for container in pod["spec"]["containers"]:
            for port in container.get("ports", []):
                if pod["labels"][NAME] in left_out:
                    continue
                endpoint = endpoints[port["name"]]
                assert endpoint.get("scheme", "http") == ("https" if shown(pod) else "http"), where
                if shown(pod):
                    assert endpoint["tlsConfig"]["serverName"] in certificates(manifests)[str(shown(pod))], where
                    assert endpoint["tlsConfig"]["ca"]["secret"]["name"] in certificates(manifests), where


def test_transformer_and_predictor_agree_on_their_port(manifests: list[Manifest]) -> None:
    for where in ("InferenceService/pv-forecast", "Deployment/forecast-stream"):
        (predictor,) = [
            c for c in rendered.pods(manifests)[where]["spec"]["containers"] if "inference.predictor" in c["command"]
        ]
        port = predictor["args"][predictor["args"].index("--grpc-port") + 1]
        assert settings(manifests)["PVF_PREDICTOR_GRPC"] == f"127.0.0.1:{port}"
        assert predictor["args"][predictor["args"].index("--grpc-host") + 1] == "127.0.0.1", "it is not encrypted"
    names = [c["name"] for c in rendered.pods(manifests)["InferenceService/pv-forecast"]["spec"]["containers"]]
    assert names == ["kserve-container", "transformer-container"]  # KServe knows them by these


def test_the_bundle_belongs_to_the_deployer(manifests: list[Manifest]) -> None:
    """Git names no model: both containers read it from annotations that `pvf-deploy` owns."""
    (service,) = [m for m in manifests if m["kind"] == "InferenceService"]
    assert cluster.BUNDLE_URI not in service["spec"]["predictor"].get("annotations", {})
    for container in service["spec"]["predictor"]["containers"]:
        fields = [v for v in container["env"] if "valueFrom" in v]
        pins = {v["name"]: v["valueFrom"]["fieldRef"]["fieldPath"] for v in fields}
        assert pins["PVF_BUNDLE_URI"] == f"metadata.annotations['{cluster.BUNDLE_URI}']"
        assert pins["PVF_MODEL_VERSION"] == f"metadata.annotations['{cluster.MODEL_VERSION}']"


def test_a_promotion_finds_the_service_that_is_here(manifests: list[Manifest]) -> None:
    (service,) = [m for m in manifests if m["kind"] == "InferenceService"]
    told = settings(manifests)["PVF_INFERENCE_SERVICE"]
    if told:  # not in dev: servers follow models/deployed.json, and may sleep
        assert told == f"{service['metadata']['namespace']}/{service['metadata']['name']}"
    rules = rendered.of_kind(manifests, "Role")["pvf-deploy"]["rules"]
    name = service["metadata"]["name"]
    assert [rule["resourceNames"] for rule in rules] == [[name], [f"{name}-predictor"]]
    assert service["apiVersion"] == cluster.GROUP_VERSION


def test_the_gateway_is_the_one_at_home(manifests: list[Manifest]) -> None:
    limits, home = rendered.of_kind(manifests, "BackendTrafficPolicy"), gateway_options.Options()
    keys = rendered.of_kind(manifests, "SecurityPolicy")["api-keys"]["spec"]["apiKeyAuth"]
    assert keys["forwardClientIDHeader"] == CLIENT_HEADER == gateway_errors.CLIENT_HEADER
    assert keys["extractFrom"][0]["headers"] == [gateway_errors.KEY_HEADER]
    assert keys["extractFrom"][0]["cookies"] == [gateway_errors.KEY_COOKIE]
    assert keys["sanitize"] is True
    (lua,) = rendered.of_kind(manifests, "EnvoyExtensionPolicy")["own-origin"]["spec"]["lua"]
    assert lua["inline"].strip() == gateway_config._OWN_ORIGIN.strip()
    stripped = rendered.of_kind(manifests, "ClientTrafficPolicy")["clients"]["spec"]["headers"]["earlyRequestHeaders"]
    assert {CLIENT_HEADER, gateway_errors.ACCOUNT_HEADER, gateway_errors.KEY_ID_HEADER} <= set(stripped["remove"])
    for name, policy in limits.items():
        (rule,) = policy["spec"]["rateLimit"]["local"]["rules"]
        assert rule["limit"] == {"requests": home.requests_per_second, "unit": "Second"}, name
        assert rule["clientSelectors"] == [{"headers": [{"type": "Distinct", "name": CLIENT_HEADER}]}], name
    assert limits["limits"]["spec"]["requestBuffer"]["limit"] == f"{home.max_body_bytes // 2**20}Mi"
    assert limits["limits"]["spec"]["timeout"]["http"]["requestTimeout"] == f"{home.timeout_s:.0f}s"
    (rule,) = rendered.of_kind(manifests, "HTTPRoute")["stream"]["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "Exact", "value": gateway_config.STREAM_PATH}}]


def test_errors_of_the_gateway_have_the_shape_of_those_at_home(manifests: list[Manifest]) -> None:
    at_home = {
        mapper["filter"]["status_code_filter"]["comparison"]["value"]["default_value"]: mapper["body_format_override"]
        for mapper in reversed(gateway_errors.bodies(2**20, 100))
    }
    overrides = rendered.of_kind(manifests, "BackendTrafficPolicy")["limits"]["spec"]["responseOverride"]
    assert {o["match"]["statusCodes"][0]["value"] for o in overrides} == {401, 413, 429, 503, 504}
    for override in overrides:
        status = override["match"]["statusCodes"][0]["value"]
        body = json.loads(override["response"]["body"]["inline"])
        assert body["code"] == at_home[status]["json_format"]["code"], status
        assert set(body) == {"error", "code", "field", "hint"}
        assert override["source"] == "Local", "the services say themselves what is wrong"


def test_a_drift_event_reaches_the_trigger(manifests: list[Manifest]) -> None:
    """job -> SinkBinding -> Broker -> Trigger -> Service -> pods of the Deployment."""
    by_name = {rendered.name(manifest): manifest for manifest in manifests}
    binding = by_name["SinkBinding/drift-check"]["spec"]
    job = by_name["CronJob/drift-check"]["spec"]["jobTemplate"]
    assert binding["subject"]["selector"]["matchLabels"].items() <= job["metadata"]["labels"].items()
    assert f"Broker/{binding['sink']['ref']['name']}" in by_name
    trigger = by_name["Trigger/retrain-on-drift"]["spec"]
    assert trigger["broker"] == binding["sink"]["ref"]["name"]
    types = {wanted["exact"]["type"] for wanted in trigger["filters"][0]["any"]}
    assert types == {cloudevent.DRIFT_TYPE, cloudevent.CLEARED_TYPE, cloudevent.QUARANTINED_TYPE}
    service = by_name[f"Service/{trigger['subscriber']['ref']['name']}"]["spec"]
    assert service["selector"].items() <= rendered.pods(manifests)["Deployment/retrain-trigger"]["labels"].items()


def test_the_broker_at_home_and_on_the_cluster_forget_nothing_alike() -> None:
    def lines(text: str) -> set[str]:
        own = ("listener", "password_file", "acl_file", "persistence_location", "#")
        return {line for line in text.splitlines() if line and not line.startswith(own)}

    at_home = mosquitto._SETTINGS.format(
        port=0, folder="", queued=mosquitto.QUEUED_MESSAGES, message_bytes=mosquitto.MESSAGE_BYTES
    )
    assert lines((ROOT / "manifests/mosquitto/mosquitto.conf").read_text()) == lines(at_home)
    assert (ROOT / "manifests/mosquitto/acl").read_text() == mosquitto._ACL


@pytest.mark.parametrize("overlay", ["prod", "staging"])
def test_trainings_find_the_nodes_that_terraform_makes(overlay: str) -> None:
    profile = yaml.safe_load((ROOT / "kustomize/overlays" / overlay / "profile.yaml").read_text())
    cluster_tf = (ROOT / "terraform/aws/cluster.tf").read_text()
    for label, value in profile["node_selector"].items():
        assert f'"{label}" = "{value}"' in cluster_tf
    for toleration in profile["tolerations"]:
        assert f'key    = "{toleration["key"]}"' in cluster_tf


@pytest.mark.parametrize("overlay", ["prod", "staging"])
def test_the_runs_account_is_the_one_terraform_trusts(overlay: str) -> None:
    accounts = {
        (m["metadata"]["namespace"], m["metadata"]["name"])
        for m in rendered.objects(overlay)
        if m["kind"] == "ServiceAccount"
    }
    text = (ROOT / "terraform/aws/identity.tf").read_text()
    ((namespace, name),) = re.findall(r'pipelines += \{ namespace = "(.+)", name = "(.+)" \}', text)
    assert (namespace, name) in accounts


@pytest.mark.parametrize("overlay", ["prod", "staging"])
def test_the_backup_s_account_takes_the_role_that_terraform_makes_for_it(overlay: str) -> None:
    """The platform's own keys may not write to the bucket of backups; whoever may, may not delete there."""
    account = rendered.of_kind(rendered.objects(overlay), "ServiceAccount")["backup"]
    text = (ROOT / "terraform/aws/identity.tf").read_text()
    assert "backup     = { namespace = var.namespace, name = " + f'"{account["metadata"]["name"]}"' in text
    role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].rpartition("/")[2]
    assert role == f"pvforecast-{overlay}-backup"  # name = "${local.name}-${each.key}"
    assert 'name               = "${local.name}-${each.key}"' in text
    assert 'name  = "pvforecast-${var.environment}"' in (ROOT / "terraform/aws/network.tf").read_text()


def test_alerts_watch_the_jobs_and_namespaces_that_are_here(manifests: list[Manifest]) -> None:
    (namespace,) = rendered.of_kind(manifests, "Namespace")
    assert re.fullmatch(cluster_alerts.NAMESPACES, namespace)
    assert {m["metadata"].get("namespace") for m in manifests if m["kind"] in {"CronJob", "Certificate"}} == {namespace}
    jobs = rendered.of_kind(manifests, "CronJob")
    assert set(cluster_alerts.MISSED_H) - set(jobs) == (set() if "backup" in jobs else {"backup"})
    for name in cluster_alerts.MISSED_H.keys() & jobs.keys():
        minute, hour, *days = jobs[name]["spec"]["schedule"].split()
        assert (minute.isdigit(), days) == (True, ["*", "*", "*"]), name
        every_h = 1 if hour == "*" else 24
        most_h = jobs[name]["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] / 3600
        assert every_h + most_h < cluster_alerts.MISSED_H[name], f"{name}: one that takes its time is not missed"


def test_what_settings_name_in_other_namespaces_can_be_reached(manifests: list[Manifest]) -> None:
    """Setting -> the label that opens the way there: its policy names that namespace and a port of it."""
    policies = rendered.of_kind(manifests, "NetworkPolicy")
    for key, policy in {"PVF_PROMETHEUS_URL": "page-to-prometheus", "PVF_KFP_URL": "to-kfp"}.items():
        url = urlsplit(settings(manifests)[key])
        _, namespace, kind = str(url.hostname).split(".")
        assert kind == "svc", key
        (rule,) = policies[policy]["spec"]["egress"]
        (peer,) = rule["to"]
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": namespace}, key
        assert url.port in {port["port"] for port in rule["ports"]}, key


def test_alertmanager_finds_its_routes_and_keys_in_its_own_namespace(manifests: list[Manifest]) -> None:
    """It is the Prometheus operator's and reads no other: docs/monitoring.md names the two."""
    page = (ROOT / "docs/monitoring.md").read_text()
    routes = rendered.of_kind(manifests, "Secret")["pvforecast-alertmanager"]
    keys = rendered.of_kind(manifests, "ExternalSecret").get("pvforecast-alert-keys", routes)
    assert {m["metadata"]["namespace"] for m in (routes, keys)} == {"monitoring"}
    assert "configSecret: pvforecast-alertmanager" in page
    assert "secrets: [pvforecast-alert-keys]" in page


def test_selectors_of_deployments_find_their_own_pods_alone(manifests: list[Manifest]) -> None:
    everyone = rendered.pods(manifests)
    for m in manifests:
        if m["kind"] in {"Deployment", "StatefulSet"}:
            chosen = [w for w, p in everyone.items() if rendered.selects(m["spec"]["selector"], p["labels"])]
            assert chosen == [rendered.name(m)]
            assert m["spec"]["selector"]["matchLabels"] == {NAME: m["metadata"]["name"]}  # immutable: no version in it
