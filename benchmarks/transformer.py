"""Processor time of the transformer's application for one request: `make bench NAME=transformer`.

The whole ASGI application in one process, 100 simulated parks of 48 hours, seven levels: routes, KServe's data plane,
questions, features, answers and log rows; from memory, and made anew. Without network, object store and log; the
predictor is a table of fixed numbers, so that none of its time is in the figures. Processor time bears a shared machine
better than latencies do. The last line is one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
from fastapi import FastAPI
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane

from benchmarks.serve import fleet
from inference.deployed import Deployment
from inference.prediction_log.emitter import Emitter
from inference.protocol import MODEL_NAME
from inference.transformer.access import ParkAccess
from inference.transformer.app import build_app
from inference.transformer.client import Inference, PredictorClient
from inference.transformer.clock import Clock
from inference.transformer.header import Header
from inference.transformer.made import MadeBefore
from inference.transformer.model import Transformer
from inference.transformer.newest import Newest
from inference.transformer.portfolio import Portfolios
from inference.transformer.snapshots import Snapshot, Snapshots
from inference.transformer.specs import Specs
from inference.transformer.v2 import Status
from pvforecast.features import DEFAULT_SPEC, Features

_LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
_HEADER = Header(Deployment("s3://pvf/models/bundles/fixed", "fixed", "1"), DEFAULT_SPEC, _LEVELS)
_ROUNDS = 3


class _Fixed:
    """Snapshots in memory, a model that is deployed, and a predictor that says the same of every row."""

    def __init__(self, parks: dict[str, Snapshot]) -> None:
        self._parks = parks

    async def newest(self, park_id: str) -> Snapshot | None:
        return self._parks.get(park_id)

    async def current(self) -> Header:
        return _HEADER

    def version(self) -> str:
        return "1"

    async def ready(self) -> bool:
        return True

    async def infer(self, features: Features, spec_hash: str, _: str, **__: object) -> Inference:
        said = np.tile(np.array(_LEVELS, np.float32), (len(features), 1))
        return Inference(said, _LEVELS, "fixed", "1", spec_hash, fleet.NOW)


def main() -> None:
    """Prints the result."""
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")  # KServe answers V1 with it
    known = list(fleet.parks(fleet.record(), 100))
    parks = {one.site.park_id: Snapshot("0" * 64, one) for one in known}
    result = {
        f"cpu_ms_{name}": asyncio.run(_measure(parks, rows)) for name, rows in (("remembered", 10**6), ("made", 0))
    }
    print(json.dumps(result))


async def _measure(parks: dict[str, Snapshot], rows: int) -> float:
    app = _app(_Fixed(parks), MadeBefore(rows))
    bodies = [json.dumps({"instances": [{"park_id": park, "horizon_hours": 48}]}).encode() for park in parks]
    for body in bodies:
        await _ask(app, body)
    begun = time.process_time()
    for body in bodies * _ROUNDS:
        await _ask(app, body)
    return round((time.process_time() - begun) / len(bodies) / _ROUNDS * 1e3, 2)


def _app(fixed: _Fixed, made_before: MadeBefore) -> FastAPI:
    snapshots, specs, client = cast(Snapshots, fixed), cast(Specs, fixed), cast(PredictorClient, fixed)
    access = ParkAccess(None)
    emitter = Emitter("", Path(tempfile.mkdtemp(prefix="pvf-transformer-bench-")))
    model = Transformer(snapshots, specs, client, Clock("snapshot"), access, emitter, 48, made_before)
    repository = ModelRepository()
    repository.update(model)
    portfolios = Portfolios(model, snapshots, specs, access, cast(Any, None))
    newest = Newest(model, snapshots, specs, access)
    return build_app(DataPlane(repository), Status(fixed.ready, fixed.version), portfolios, newest)


async def _ask(app: FastAPI, body: bytes) -> None:
    path = f"/v1/models/{MODEL_NAME}:predict"
    headers = [(b"content-type", b"application/json"), (b"x-client-id", b"desk"), (b"x-request-id", b"request-1")]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent


if __name__ == "__main__":
    main()
