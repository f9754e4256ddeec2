"""`python -m inference.ingest --port P`: the telemetry service; P answers /healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
import logging
import time

from inference import tls, web
from inference.ingest import options
from inference.ingest.app import build_app
from inference.ingest.service import Service
from pvforecast import settings
from pvforecast.errors import NotReady

log = logging.getLogger("inference.ingest")

_PATIENCE_S = 120.0  # for the lake, at the start


def _started() -> Service:
    known, asked = settings.load(), options.load()
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            service = Service(known, asked)
            break
        except NotReady as error:
            if time.monotonic() > end:
                raise
            log.warning("telemetry: waits for the lake: %s", str(error)[:300])
            time.sleep(2.0)
    service.start()
    return service


async def _serve(host: str, port: int) -> None:
    certificate = tls.certificate(settings.load())
    listener = web.listen(host, port)
    service = await asyncio.to_thread(_started)
    log.info("telemetry listens on %s:%d", host, port)
    try:
        await web.serve(build_app(service.metrics, service.troubles, service.dead), listener, certificate)
    finally:
        await asyncio.to_thread(service.stop)
    log.info("telemetry stopped")


def main(argv: list[str] | None = None) -> int:
    args = web.arguments("python -m inference.ingest", "--port").parse_args(argv)
    web.configure_logging()
    asyncio.run(_serve(args.host, args.port))
    return 0


if __name__ == "__main__":
    web.run("telemetry", main)
