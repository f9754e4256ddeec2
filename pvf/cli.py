"""The command line. Each command is a few lines: read settings, call the library, show."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pvf.commands import (
    backtest,
    backup,
    canary,
    data,
    drift,
    explain,
    imports,
    key,
    migrate,
    model,
    park,
    pipeline,
    portfolio,
    quarantine,
    status,
    tune,
)
from pvforecast.errors import InvalidInput, PvForecastError
from pvforecast.settings import load

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split("\n")[0]
)
for name, group in (("pipeline", pipeline.app), ("model", model.app), ("drift", drift.app)):
    app.add_typer(group, name=name)
app.add_typer(backup.app, name="backup")
app.add_typer(data.app, name="data")
app.command()(backtest.backtest)
app.command()(canary.canary)
app.command()(explain.explain)
app.command()(migrate.migrate)
app.command()(portfolio.portfolio)
app.command()(tune.tune)
app.add_typer(imports.app, name="import")
app.add_typer(key.app, name="key")
app.add_typer(park.app, name="park")
app.add_typer(quarantine.app, name="quarantine")
app.command()(status.status)
app.command()(status.metrics)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]


def main() -> None:
    """Run the program; an error made on purpose becomes one line and exit code 1."""
    try:
        app()
    except PvForecastError as error:
        print(f"pvf: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("pvf: stopped", file=sys.stderr)
        sys.exit(130)


@app.command()
def run(
    once: Annotated[bool, typer.Option("--once", help="Stop everything at the end; the last line is JSON.")] = False,
    weather: Annotated[
        str, typer.Option(help="observed: what the sky did. Or stub: invented forecasts by a stand-in for Open-Meteo.")
    ] = "observed",
) -> None:
    """Real data to a served forecast, once around the loop; then stay up."""
    from pvf.demo.run import demo

    demo(load().home, once=once, weather=weather)


@app.command()
def up(
    clock: Annotated[
        str, typer.Option(help="snapshot: a replay; now is when the snapshots were taken. Or system.")
    ] = "snapshot",
    telemetry: Annotated[
        bool, typer.Option("--telemetry", help="With an MQTT broker and the service that stores what it brings.")
    ] = False,
) -> None:
    """Start the local stack with the model it served last, and stay up until Ctrl-C."""
    from pvf.stack import catalogue
    from pvf.stack.gateway_config import PAGE
    from pvf.stack.local import Stack
    from pvforecast import clients
    from pvforecast.registry import reconcile

    if clock not in ("snapshot", "system"):
        raise InvalidInput(f"{clock!r} is no clock", field="--clock", hint="snapshot or system")
    console = Console(stderr=True, highlight=False)
    parts = (*catalogue.DEFAULT, *(catalogue.TELEMETRY if telemetry else ()))
    with Stack(load().home, parts, clock=clock, on_event=console.print) as stack:  # type: ignore[arg-type]
        every = clients.everything(stack.settings)
        for repaired in reconcile(every.promotions, every.tracking, every.store):
            console.print(f"  repaired: {repaired}")
        for part, url in stack.urls.items():
            console.print(f"  {part:<15} {url}")
        console.print(f"page for people: {stack.settings.gateway_url}{PAGE}, log in with an API key")
        console.print("up; Ctrl-C stops everything")
        stack.wait()


@app.command()
def forecast(
    parks: Annotated[list[str], typer.Argument(metavar="PARK...")],
    hours: Annotated[int, typer.Option(help="How far ahead.")] = 48,
    issued_at: Annotated[str | None, typer.Option(help="ISO instant with offset; default now.")] = None,
    png: Annotated[Path | None, typer.Option(help="Write a fan chart of the first park.")] = None,
    as_json: AsJson = False,
) -> None:
    """Ask the gateway for forecasts."""
    from pvf import client, show
    from pvforecast import fleet, wiring

    settings = load()
    instances = [{"park_id": park, "horizon_hours": hours, "issued_at": issued_at} for park in parks]
    predictions = client.forecast(settings, instances).predictions
    if as_json:
        print(json.dumps({"predictions": predictions}))
        return
    zones = {park.id: park.timezone for park in fleet.registered(wiring.lake(settings))}
    for prediction in predictions:
        Console().print(show.table(prediction, zones[prediction["park_id"]]))
    if png is not None:
        show.fan_chart(predictions[0], zones[predictions[0]["park_id"]], png)
        print(f"chart: {png}")


def _instant(text: str, field: str) -> datetime:
    from pvforecast.shards import instant

    return instant(text, field)
