"""`python -m inference.predictor --http-port P --grpc-port G`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v2_endpoints import V2Endpoints

from inference import server, tls, web
from inference.deployed import DeployedPointer, Deployment
from inference.predictor.earlier import Earlier
from inference.predictor.model import Predictor
from inference.predictor.reload import Reloader
from inference.stores import object_store
from pvforecast import settings


def build_app(data_plane: DataPlane) -> FastAPI:
    """KServe's health and metadata routes and its metrics. Inference is gRPC only."""
    app = FastAPI(title="pv-forecast predictor", openapi_url=None)
    v2 = V2Endpoints(data_plane)
    app.add_api_route("/", data_plane.live)
    app.add_api_route("/metrics", metrics_handler)
    app.add_api_route("/v2", v2.metadata)
    app.add_api_route("/v2/health/live", v2.live)
    app.add_api_route("/v2/health/ready", v2.ready)
    app.add_api_route("/v2/models/{model_name}", v2.model_metadata)
    app.add_api_route("/v2/models/{model_name}/ready", v2.model_ready)
    server.add_kserve_error_handlers(app)
    return app


async def _serve(host: str, http_port: int, grpc_host: str, grpc_port: int) -> None:
    config = settings.load()
    store = object_store(config, timeout_s=5.0)
    uri = os.environ.get("PVF_BUNDLE_URI")
    pinned = Deployment.pinned(uri, os.environ.get("PVF_MODEL_VERSION")) if uri else None
    reloader = Reloader(store, DeployedPointer(store, pinned))

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        task = asyncio.create_task(reloader.run())
        try:
            yield
        finally:
            task.cancel()

    model = Predictor(lambda: reloader.current, Earlier(store))
    rpc = server.Rpc(grpc_host, grpc_port, InferenceServicer, server.StatusInterceptor())
    await server.serve(
        "predictor",
        model,
        build_app,
        lifespan,
        host=host,
        http_port=http_port,
        rpc=rpc,
        certificate=tls.certificate(config),
    )


def main(argv: list[str] | None = None) -> int:
    parser = web.arguments("python -m inference.predictor", "--http-port")
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--grpc-host", help="of gRPC, where not --host: 127.0.0.1 is for the same pod only")
    args = parser.parse_args(argv)
    web.configure_logging()
    server.run(_serve(args.host, args.http_port, args.grpc_host or args.host, args.grpc_port))
    return 0


if __name__ == "__main__":
    web.run("predictor", main)
