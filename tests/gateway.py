"""Real forecast services behind a real Envoy, with one key of each kind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.sync.client import ClientConnection, connect

from pvf.stack import api_keys, gateway
from pvf.stack.gateway_config import Upstreams
from pvf.stack.gateway_options import Options
from pvf.stack.supervisor import Supervisor
from pvforecast.settings import Settings
from tests.bundles import record, site, tiny_bundle
from tests.serving import PARKS, Serving, eventually, free_ports, serving

PREDICT = "/v1/models/pv-forecast:predict"


@dataclass
class Place:
    """The services, the gateway's address, and one key of each kind: `limited` sees the first park only."""

    services: Serving
    home: Path
    url: str
    desk: str
    limited: str

    @property
    def address(self) -> str:
        return urlsplit(self.url).netloc

    def ask(self, park: str, key: str, **fields: Any) -> httpx.Response:
        body = {"instances": [{"park_id": park, "horizon_hours": 3, **fields}]}
        return self.post(PREDICT, body, key)

    def post(self, path: str, body: object, key: str, **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, headers={"x-api-key": key, **headers}, timeout=30)

    def get(self, path: str, key: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", headers={"x-api-key": key, **headers}, timeout=30)

    def listen(self, query: str, key: str) -> ClientConnection:
        url = f"ws://{self.address}/v1/forecasts/stream?{query}"
        return connect(url, additional_headers={"x-api-key": key}, proxy=None)


@contextlib.contextmanager
def place(infra: Settings, home: Path, *, page: bool = False) -> Iterator[Place]:
    """Predictor, transformer and stream with one model and two parks, behind the gateway.

    Parameters
    ----------
    page : with the forecast page and the prediction log that it reads, else without a log.
    """
    for name in ("run", "log"):
        (home / name).mkdir()
    file = gateway.keys_file(home)
    desk = api_keys.add(file, "desk").key
    limited = api_keys.add(file, "bi", parks=[PARKS[0]]).key
    stream_port, rpc_port, page_port, port, admin = free_ports(5)
    started = ["predictor", "transformer", "stream", *(["sink", "page"] if page else [])]
    environment = {"PVF_PARK_ACCESS_FILE": str(gateway.access_file(home)), "PVF_STREAM_HEARTBEAT_S": "0.3"}
    if not page:
        environment["PVF_PREDICTION_LOG_URL"] = ""
    with serving(infra, **environment) as services:
        services.deploy(tiny_bundle(record(site(PARKS[0]))), "1")
        services.services["transformer"].arguments += ["--grpc-port", str(rpc_port)]
        upstreams = Upstreams(
            *([("127.0.0.1", at)] for at in (services.ports["transformer"], rpc_port, stream_port)),
            page=[("127.0.0.1", page_port)] if page else [],
        )
        part = gateway.part(home, port, admin, upstreams, Options(requests_per_second=1_000, burst=1_000))
        envoy = Supervisor([part], home / "run", home / "log", lambda _line: None)
        health = f"http://127.0.0.1:{stream_port}/healthz"
        services.add("stream", "inference.stream", ["--port", str(stream_port)], health)
        lake = {"PVF_LAKE_URI": f"s3://{services.settings.s3_bucket}/lake", "PVF_TRANSFORMER_URL": services.url}
        health = f"http://127.0.0.1:{page_port}/healthz"
        services.add("page", "inference.page", ["--port", str(page_port)], health, **lake)
        try:
            envoy.start()
            for name in started:
                services.services[name].start()
            for name in started:
                services.services[name].wait()
            made = Place(services, home, part.url, desk, limited)
            eventually(lambda: made.ask(PARKS[0], desk).status_code == 200)
            yield made
        finally:
            envoy.stop()
