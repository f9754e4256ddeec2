"""`python -m inference.retrain --port P`."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta

from inference import web
from inference.retrain import command
from inference.retrain.app import build_app
from inference.retrain.service import Trigger
from inference.retrain.store import Store
from pvforecast import settings
from pvforecast.errors import InvalidInput

log = logging.getLogger("inference.retrain")


async def _serve(host: str, port: int, cool_down: timedelta) -> None:
    known = settings.load()
    dsn = known.postgres_dsn.get_secret_value()
    if not dsn:
        raise InvalidInput("it is not set", field="PVF_POSTGRES_DSN", hint="e.g. postgresql://pvf@127.0.0.1:5432/pvf")
    words = command.from_environment(os.environ)
    listener = web.listen(host, port)
    store = Store(dsn)
    trigger = Trigger(store, words, known.home.resolve() / "log" / "retrain", cool_down)
    try:
        store.open()
        trigger.start()
        log.info("retrain trigger listens on http://%s:%d, training command: %s", host, port, " ".join(words))
        await web.serve(build_app(trigger), listener)
    finally:
        await asyncio.to_thread(trigger.stop)
        store.close()
    log.info("retrain trigger stopped")


def main(argv: list[str] | None = None) -> int:
    parser = web.arguments("python -m inference.retrain", "--port")
    parser.add_argument(
        "--cool-down-hours", type=float, default=24.0, metavar="H",
        help="events within H hours of the last run, by their own time, are part of it (default 24)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    web.configure_logging()
    asyncio.run(_serve(args.host, args.port, timedelta(hours=args.cool_down_hours)))
    return 0


if __name__ == "__main__":
    web.run("retrain trigger", main)
