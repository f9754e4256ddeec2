"""TLS at each hop between processes: Envoy as a BackendTLSPolicy makes it, the services, their log, Prometheus."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import psycopg
import pytest
from cryptography import x509
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from inference import tls
from pvf.stack import api_keys, gateway
from pvf.stack.gateway_config import Upstreams
from pvf.stack.gateway_options import Options
from pvf.stack.part import Part
from pvf.stack.supervisor import Supervisor
from pvforecast.settings import Settings
from tests import monitoring
from tests.bundles import record, site, tiny_bundle
from tests.certificates import Authority
from tests.debian import requires_debian
from tests.serving import PARKS, Serving, eventually, free_ports, serving

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.debian, pytest.mark.timeout(900)]

SERVICE, ANY_POD = "forecast-api", "pods.pvforecast"
PREDICT = "/v1/models/pv-forecast:predict"


@dataclass(frozen=True)
class Place:
    services: Serving
    authority: Authority
    folder: Path
    rpc_port: int
    gateway: str
    key: str

    def ask(self) -> int:
        body, headers = {"instances": [{"park_id": PARKS[0]}]}, {"x-api-key": self.key}
        return httpx.post(f"{self.gateway}{PREDICT}", json=body, headers=headers, timeout=30).status_code

    def channel(self) -> grpc.Channel:
        trusted = grpc.ssl_channel_credentials((self.folder / "ca.crt").read_bytes())
        named = [("grpc.ssl_target_name_override", SERVICE)]
        return grpc.secure_channel(f"127.0.0.1:{self.rpc_port}", trusted, options=named)


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, home = tmp_path_factory.mktemp("tls"), tmp_path_factory.mktemp("home")
    authority = Authority()
    authority.issue(folder, SERVICE, "prediction-log", ANY_POD)
    for name in ("run", "log"):
        (home / name).mkdir()
    key = api_keys.add(gateway.keys_file(home), "desk").key
    gateway.write_access(home, now=datetime.now(UTC))
    rpc_port, port, admin = free_ports(3)
    with ExitStack() as stack:
        trust = stack.enter_context(pytest.MonkeyPatch.context())
        trust.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))  # of this process: the tests' own questions
        environment = {"PVF_TLS_FOLDER": str(folder), "PVF_PARK_ACCESS_FILE": str(gateway.access_file(home))}
        environment["SSL_CERT_FILE"] = ""  # of theirs: they must know the authority by the folder
        services = stack.enter_context(serving(infra, **environment))
        services.deploy(tiny_bundle(record(site(PARKS[0]))), "1")
        services.services["transformer"].arguments += ["--grpc-port", str(rpc_port)]
        upstreams = Upstreams([("127.0.0.1", services.ports["transformer"])], [("127.0.0.1", rpc_port)])
        part = gateway.part(home, port, admin, upstreams, Options(requests_per_second=1_000, burst=1_000))
        for name in ("sink", "predictor", "transformer"):
            services.services[name].start()
        for name in ("sink", "predictor", "transformer"):
            services.services[name].wait()
        envoy = Supervisor([_verifying(part, folder / "ca.crt")], home / "run", home / "log", lambda _line: None)
        stack.callback(envoy.stop)
        envoy.start()
        yield Place(services, authority, folder, rpc_port, part.url, key)


def test_a_forecast_through_the_gateway_is_answered_and_logged(place: Place) -> None:
    eventually(lambda: place.ask() == 200, 120)
    eventually(lambda: _logged(place.services.dsn) >= 2, 60)  # request and response, posted over HTTPS


def test_grpc_is_encrypted_and_answers_through_the_gateway(place: Place) -> None:
    with place.channel() as channel:
        assert GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=60).ready
    with grpc.insecure_channel(f"127.0.0.1:{place.rpc_port}") as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest(), timeout=10)
    with grpc.insecure_channel(urlsplit(place.gateway).netloc) as channel:
        stub, key = GRPCInferenceServiceStub(channel), (("x-api-key", place.key),)
        assert stub.ServerReady(pb.ServerReadyRequest(), metadata=key, timeout=60).ready


def test_services_speak_no_plain_http_and_clients_take_no_other_authority(place: Place, tmp_path: Path) -> None:
    address = urlsplit(place.services.url).netloc
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{address}/", timeout=10)
    Authority("another").issue(tmp_path, SERVICE)
    stranger = tls.trusted(Settings(tls_folder=tmp_path))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{place.services.url}/", verify=stranger, timeout=10)


@requires_debian("prometheus")
def test_prometheus_scrapes_what_it_verifies(place: Place, tmp_path: Path) -> None:
    targets = {
        name: (f"127.0.0.1:{place.services.ports[name]}", "/metrics") for name in ("transformer", "predictor", "sink")
    }
    verified = {"ca_file": str(place.folder / "ca.crt"), "server_name": ANY_POD}
    with monitoring.prometheus(tmp_path / "ours", targets, tls=verified) as url:
        eventually(lambda: _up(url) == dict.fromkeys(targets, 1.0), 60)
    wrong = verified | {"server_name": "pods.elsewhere"}
    with monitoring.prometheus(tmp_path / "wrong", targets, tls=wrong) as url:
        eventually(lambda: _up(url) == dict.fromkeys(targets, 0.0), 60)


def test_a_renewed_certificate_is_shown_without_a_restart(place: Place) -> None:
    started = {name: service.process for name, service in place.services.services.items()}
    renewed = place.authority.issue(place.folder, SERVICE, "prediction-log", ANY_POD)
    ports = [place.services.ports[name] for name in ("transformer", "predictor", "sink")]
    eventually(lambda: {_shown(port) for port in (*ports, place.rpc_port)} == {renewed}, 60)
    assert place.ask() == 200
    assert all(process is None or process.poll() is None for process in started.values())


def _verifying(part: Part, authority: Path) -> Part:
    """The home gateway, its clusters as Envoy Gateway makes them of a BackendTLSPolicy and EnvoyProxy.backendTLS."""
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    name = {"san_type": "DNS", "matcher": {"exact": SERVICE}}
    validation = {"trusted_ca": {"filename": str(authority)}, "match_typed_subject_alt_names": [name]}
    common = {"validation_context": validation, "alpn_protocols": ["h2", "http/1.1"]}
    socket = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": kind, "sni": SERVICE, "common_tls_context": common},
    }

    def prepare() -> None:
        part.prepare()
        file = Path(part.command[part.command.index("-c", 4) + 1])
        bootstrap: dict[str, Any] = json.loads(file.read_text())
        for cluster in bootstrap["static_resources"]["clusters"]:
            if cluster["name"].startswith("transformer"):
                cluster["transport_socket"] = socket
        file.write_text(json.dumps(bootstrap))

    return replace(part, prepare=prepare)


def _up(url: str) -> dict[str, float]:
    return {one["metric"]["job"]: float(one["value"][1]) for one in monitoring.query(url, "up")}


def _shown(port: int) -> int:
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def _logged(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM prediction_log").fetchone()
    return int(row[0]) if row else 0
