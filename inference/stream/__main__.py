"""`python -m inference.stream --port P`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Any

from inference import tls, web
from inference.deployed import DeployedPointer
from inference.prediction_log.emitter import Emitter
from inference.stores import object_store
from inference.stream import options, watch
from inference.stream.app import build_app
from inference.stream.hub import Hub
from inference.stream.snapshots import AlwaysNewest
from inference.stream.watch import Watcher
from inference.transformer.access import ParkAccess
from inference.transformer.client import PredictorClient
from inference.transformer.clock import Clock
from inference.transformer.made import MadeBefore
from inference.transformer.model import CLIENT_HEADER, Transformer
from inference.transformer.snapshots import plausible
from inference.transformer.specs import Specs
from pvforecast import settings

_ACCESS_INTERVAL_S = 1.0
_PLATFORM = "_platform"  # who asks, for the prediction log


async def _serve(host: str, port: int) -> None:
    config, chosen = settings.load(), options.load()
    store = object_store(config, timeout_s=2.0)
    snapshots, specs = AlwaysNewest(store), Specs(store, DeployedPointer(store))
    access = ParkAccess(config.park_access_file)
    client = PredictorClient(config.predictor_grpc)
    namespace = os.environ.get("PVF_NAMESPACE", "local")
    emitter = Emitter(
        config.prediction_log_url, config.home / "spool" / "stream", namespace=namespace, verify=tls.trusted(config)
    )
    # the same path as an answered request: one way to make a forecast, one log
    everyone = ParkAccess(None)
    model = Transformer(
        snapshots, specs, client, Clock(config.clock), everyone, emitter, config.horizon_hours, MadeBefore(0)
    )

    async def forecast(parks: Sequence[str]) -> list[dict[str, Any]]:
        headers = {CLIENT_HEADER: _PLATFORM}
        prepared = await model.preprocess({"instances": [{"park_id": park} for park in parks]}, headers)
        answer = await model.postprocess(await model.predict(prepared, headers), headers)
        predictions: list[dict[str, Any]] = answer["predictions"]
        return predictions

    async def exists(park: str) -> bool:
        return plausible(park) and (hub.newest(park) is not None or await snapshots.newest(park) is not None)

    hub, pointer = Hub(), DeployedPointer(store)
    watcher = Watcher(
        hub,
        lambda parks: watch.read_state(store, parks),
        forecast,
        lambda: watch.bundle_of(pointer),
        chosen.poll_s,
    )
    certificate = tls.certificate(config)
    listener = web.listen(host, port)
    emitter.start()
    tasks = [asyncio.create_task(work) for work in (watcher.run(), specs.run(), _follow(access))]
    try:
        await web.serve(build_app(hub, access, exists, watcher.wake, chosen), listener, certificate)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await client.close()
        await asyncio.to_thread(emitter.close)


async def _follow(access: ParkAccess) -> None:
    while True:
        await asyncio.sleep(_ACCESS_INTERVAL_S)
        await asyncio.to_thread(access.refresh)


def main(argv: list[str] | None = None) -> int:
    args = web.arguments("python -m inference.stream", "--port").parse_args(argv)
    web.configure_logging()
    asyncio.run(_serve(args.host, args.port))
    return 0


if __name__ == "__main__":
    web.run("stream", main)
