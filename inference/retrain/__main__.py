"""`python -m inference.retrain --port P`."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta

from inference import tls, web
from inference.retrain import command
from inference.retrain.announcer import Announcer
from inference.retrain.app import build_app
from inference.retrain.parks import KnownParks
from inference.retrain.policy import Policy
from inference.retrain.service import Trigger
from inference.retrain.store import Store
from pvforecast import settings, wiring
from pvforecast.announcing import Outbox
from pvforecast.errors import InvalidInput
from pvforecast.lake.tables import PARKS

log = logging.getLogger("inference.retrain")


async def _serve(host: str, port: int, policy: Policy) -> None:
    known = settings.load()
    dsn = known.postgres_dsn.get_secret_value()
    if not dsn:
        raise InvalidInput("it is not set", field="PVF_POSTGRES_DSN", hint="e.g. postgresql://pvf@127.0.0.1:5432/pvf")
    words = command.from_environment(os.environ)
    token = os.environ.get("PVF_TRIGGER_TOKEN", "")
    certificate = tls.certificate(known)
    listener = web.listen(host, port)
    store = Store(dsn)
    trigger = Trigger(store, words, known.home.resolve() / "log" / "retrain", policy, _parks(known))
    sink = os.environ.get("K_SINK", "")
    announcer = Announcer(Outbox(dsn), sink) if sink else None
    try:
        store.open()
        trigger.start()
        if announcer is not None:
            announcer.start()
        log.info("retrain trigger listens on %s:%d, training command: %s", host, port, " ".join(words))
        log.info("%s", policy)
        if not token:
            log.warning("PVF_TRIGGER_TOKEN is not set: whoever reaches this port may send events")
        log.info("events of promotions go to %s", sink or "nobody: K_SINK is not set, and they wait")
        await web.serve(build_app(trigger, token), listener, certificate)
    finally:
        if announcer is not None:
            await asyncio.to_thread(announcer.stop)
        await asyncio.to_thread(trigger.stop)
        store.close()
    log.info("retrain trigger stopped")


def _parks(known: settings.Settings) -> KnownParks | None:
    """Of the lake; without one every name is taken."""
    if known.lake_uri.startswith("s3://") and not known.s3_endpoint:
        log.warning("PVF_S3_ENDPOINT is not set: events of any park are taken")
        return None
    lake = wiring.lake(known)
    return KnownParks(lambda: set(lake.read(PARKS, columns=["park_id"])["park_id"].to_pylist()))


def main(argv: list[str] | None = None) -> int:
    parser = web.arguments("python -m inference.retrain", "--port")
    for option, default, unit, text in (
        ("--cool-down-hours", 24.0, "H", "events this close to a run, by their own time, are part of it"),
        ("--coalesce-seconds", 5.0, "S", "how long the first event waits for others"),
        ("--runs-a-week", 3, "N", "what comes beyond goes to people"),
        ("--attempts", 3, "N", "failed runs an event goes through before it goes to people"),
        ("--retry-minutes", 10.0, "M", "from a failed run to the next attempt; doubled each time"),
        ("--memory-days", 42.0, "D", "how long an event after a run says that the run did not help"),
    ):
        parser.add_argument(option, type=type(default), default=default, metavar=unit, help=f"{text} (%(default)s)")
    args = parser.parse_args(argv)
    web.configure_logging()
    policy = Policy(
        cool_down=timedelta(hours=args.cool_down_hours),
        coalesce=timedelta(seconds=args.coalesce_seconds),
        runs_a_week=args.runs_a_week,
        attempts=args.attempts,
        retry_after=timedelta(minutes=args.retry_minutes),
        memory=timedelta(days=args.memory_days),
    )
    asyncio.run(_serve(args.host, args.port, policy))
    return 0


if __name__ == "__main__":
    web.run("retrain trigger", main)
