"""`python -m inference.transformer --http-port P [--grpc-port G]`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from inference import server, tls, web
from inference.deployed import DeployedPointer, Deployment
from inference.prediction_log.emitter import Emitter
from inference.stores import object_store
from inference.transformer import rpc
from inference.transformer.access import ParkAccess
from inference.transformer.app import build_app
from inference.transformer.client import PredictorClient
from inference.transformer.clock import Clock
from inference.transformer.earlier import Earlier
from inference.transformer.made import MadeBefore
from inference.transformer.model import Transformer
from inference.transformer.newest import Newest
from inference.transformer.portfolio import Portfolios
from inference.transformer.snapshots import Snapshots
from inference.transformer.specs import Specs
from inference.transformer.v2 import Status
from pvforecast import settings

ACCESS_INTERVAL_S = 1.0


async def _serve(host: str, http_port: int, grpc_port: int | None) -> None:
    config = settings.load()
    store = object_store(config, timeout_s=2.0)
    uri = os.environ.get("PVF_BUNDLE_URI")
    pinned = Deployment.pinned(uri, os.environ.get("PVF_MODEL_VERSION")) if uri else None
    earlier = Earlier(store, replay=config.clock == "snapshot")
    snapshots, specs = Snapshots(store), Specs(store, DeployedPointer(store, pinned), earlier)
    access = ParkAccess(config.park_access_file)
    client = PredictorClient(config.predictor_grpc)
    emitter = Emitter(
        config.prediction_log_url,
        config.home / "spool" / "prediction-log",
        namespace=os.environ.get("PVF_NAMESPACE", "local"),
        verify=tls.trusted(config),
    )
    model = Transformer(
        snapshots,
        specs,
        client,
        Clock(config.clock),
        access,
        emitter,
        config.horizon_hours,
        MadeBefore(config.forecast_cache_rows),
    )

    @contextlib.asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        emitter.start()
        tasks = [asyncio.create_task(work) for work in (snapshots.run(), specs.run(), _follow(access))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await client.close()
            await asyncio.to_thread(emitter.close)

    portfolios = Portfolios(model, snapshots, specs, access, store)
    newest = Newest(model, snapshots, specs, access)
    status = Status(client.ready, specs.version)
    certificate = tls.certificate(config)
    listen = (
        server.Rpc(host, grpc_port, rpc.servicer(status), rpc.Edge(), rpc.MAX_MESSAGE_BYTES, certificate)
        if grpc_port
        else None
    )
    await server.serve(
        "transformer",
        model,
        lambda plane: build_app(plane, status, portfolios, newest),
        lifespan,
        host=host,
        http_port=http_port,
        rpc=listen,
        certificate=certificate,
    )


async def _follow(access: ParkAccess) -> None:
    while True:
        await asyncio.sleep(ACCESS_INTERVAL_S)
        await asyncio.to_thread(access.refresh)


def main(argv: list[str] | None = None) -> int:
    parser = web.arguments("python -m inference.transformer", "--http-port")
    parser.add_argument("--grpc-port", type=int, help="also answer Open Inference v2 over gRPC on this port")
    args = parser.parse_args(argv)
    web.configure_logging()
    server.run(_serve(args.host, args.http_port, args.grpc_port))
    return 0


if __name__ == "__main__":
    web.run("transformer", main)
