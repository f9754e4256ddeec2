"""`python -m inference.page --port P`."""

from __future__ import annotations

import asyncio
import logging

import httpx

from inference import tls, web
from inference.page.app import Page, build_app
from inference.page.facts import Facts
from inference.page.fleet import Fleet
from inference.page.numbers import Numbers
from inference.stores import object_store
from inference.transformer.access import ParkAccess
from pvforecast import fleet, settings, wiring
from pvforecast.errors import InvalidInput

log = logging.getLogger("inference.page")

_ACCESS_INTERVAL_S = 1.0


async def _serve(host: str, port: int) -> None:
    config = settings.load()
    if not config.transformer_url:
        raise InvalidInput("it is not set", field="PVF_TRANSFORMER_URL", hint="e.g. http://127.0.0.1:8080")
    access = ParkAccess(config.park_access_file)
    certificate, verify = tls.certificate(config), tls.trusted(config)
    listener = web.listen(host, port)
    follow = asyncio.create_task(_follow(access))
    url = config.transformer_url.split(",")[0].strip()
    try:
        async with (
            httpx.AsyncClient(base_url=url, timeout=15.0, trust_env=False, verify=verify) as transformer,
            httpx.AsyncClient(
                base_url=config.prometheus_url, timeout=5.0, trust_env=False, verify=verify
            ) as prometheus,
        ):
            page = Page(
                Fleet(lambda: fleet.registered(wiring.lake(config))),
                Facts(config.postgres_dsn.get_secret_value()),
                access,
                object_store(config, timeout_s=2.0),
                transformer,
                Numbers(prometheus if config.prometheus_url else None),
            )
            log.info("page listens on %s:%d", host, port)
            await web.serve(build_app(page), listener, certificate)
    finally:
        follow.cancel()
    log.info("page stopped")


async def _follow(access: ParkAccess) -> None:
    while True:
        await asyncio.sleep(_ACCESS_INTERVAL_S)
        await asyncio.to_thread(access.refresh)


def main(argv: list[str] | None = None) -> int:
    args = web.arguments("python -m inference.page", "--port").parse_args(argv)
    web.configure_logging()
    asyncio.run(_serve(args.host, args.port))
    return 0


if __name__ == "__main__":
    web.run("page", main)
