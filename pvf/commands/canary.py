"""`pvf canary`: a share of the requests for a model that is not the champion. See docs/gateway.md."""

from __future__ import annotations

import json
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from pvforecast.errors import StackError
from pvforecast.settings import load


def canary(
    version: Annotated[int, typer.Argument(help="Of the registered model, see `pvf model list`.")],
    share: Annotated[float, typer.Option(help="Of the gateway's REST requests.", min=0.001, max=1.0)] = 0.1,
    minutes: Annotated[float, typer.Option(help="How long it has to hold out.", min=0.05)] = 10.0,
) -> None:
    """Serve a share of the requests with another version; it is taken back by itself when it fails, and at the end."""
    from pvf.stack import canary as canaries
    from pvf.stack import gateway
    from pvforecast import clients

    settings = load()
    if not (settings.home / "gateway" / "routes.json").exists() or not settings.gateway_url:
        raise StackError("no stack runs here", field="canary", hint="start it: pvf up")
    found = clients.tracking(settings).version(version)
    latest: list[canaries.Counts] = []

    def tell(ours: canaries.Counts, others: canaries.Counts) -> None:
        latest[:] = [ours, others]
        _say(f"version {version}: {ours.requests} requests, {ours.errors} errors")
        _say(f"champion: {others.requests} requests, {others.errors} errors")

    signal.signal(signal.SIGTERM, _interrupt)
    with canaries.running(settings, found.bundle_uri, str(version), _say) as parts:
        _say(f"version {version} gets {share:.1%} for {minutes:g} minutes; Ctrl-C takes it back")
        reason = canaries.share(settings.home.absolute(), parts, share, minutes * 60, tell)
    result = {"version": version, "held_out": reason is None, "reason": reason}
    if latest:
        result |= {"requests": latest[0].requests, "errors": latest[0].errors}
    print(json.dumps(result))
    if reason is not None:
        raise StackError(f"version {version} was taken back: {reason}", field=gateway.NAME, hint="pvf model show")


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
