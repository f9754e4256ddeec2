"""`python -m inference.prediction_log --port P`."""

from __future__ import annotations

import asyncio
import logging

from inference import tls, web
from inference.prediction_log import retention
from inference.prediction_log.sink import build_app
from inference.prediction_log.writer import Writer
from pvforecast import settings
from pvforecast.errors import InvalidInput

log = logging.getLogger("inference.prediction_log")


async def _serve(host: str, port: int) -> None:
    config = settings.load()
    dsn, days = config.postgres_dsn.get_secret_value(), config.prediction_log_days
    if not dsn:
        raise InvalidInput("it is not set", field="PVF_POSTGRES_DSN", hint="e.g. postgresql://pvf@127.0.0.1:5432/pvf")
    certificate = tls.certificate(config)
    listener = web.listen(host, port)
    log.info("prediction log listens on %s:%d", host, port)
    writer = Writer(dsn, days)
    tasks = [asyncio.create_task(work) for work in (writer.run(), retention.keep(dsn, days))]
    try:
        await web.serve(build_app(writer), listener, certificate)
    finally:
        for task in tasks:
            task.cancel()
        await writer.close()
    log.info("prediction log stopped")


def main(argv: list[str] | None = None) -> int:
    args = web.arguments("python -m inference.prediction_log", "--port").parse_args(argv)
    web.configure_logging()
    asyncio.run(_serve(args.host, args.port))
    return 0


if __name__ == "__main__":
    web.run("prediction log", main)
