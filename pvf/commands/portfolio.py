"""`pvf portfolio`: the forecast of several parks together. See docs/portfolio.md."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pvforecast.settings import load

SHOWN = ("0.1", "0.5", "0.9")


def portfolio(
    parks: Annotated[list[str] | None, typer.Argument(metavar="[PARK]...", help="Default: all in service.")] = None,
    group: Annotated[str | None, typer.Option(help="Parks of this group instead.")] = None,
    hours: Annotated[int, typer.Option(help="How far ahead.")] = 48,
    issued_at: Annotated[str | None, typer.Option(help="ISO instant with offset; default now.")] = None,
    n: Annotated[int | None, typer.Option("--scenarios", help="How many are drawn.", min=100, max=20_000)] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal answers.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Power and energy of several parks together, with bands that know how their errors go together."""
    from pvf import client

    asked = {"parks": parks or None, "group": group, "horizon_hours": hours, "issued_at": issued_at}
    drawn = {"scenarios": n, "seed": seed, "each": False}
    told = client.portfolio(load(), asked | drawn)["portfolio"]
    if not told["dependence_fitted"]:
        print("the model carries no dependence between parks: the general one is used", file=sys.stderr)
    if as_json:
        print(json.dumps(told))
        return
    levels = [level for level in SHOWN if level in told["power_kw"]] or list(told["power_kw"])
    title = f"{len(told['parks'])} parks, issued {', '.join(told['issued_at'])}"
    table = Table(title=title, title_justify="left")
    table.add_column("hour, UTC")
    for level in levels:
        table.add_column(f"P{100 * float(level):g} kW", justify="right")
    for at, hour in enumerate(told["valid_at"]):
        cells = [told["power_kw"][level][at] for level in levels]
        if max(cells) > 0:
            table.add_row(hour[:16].replace("T", " "), *(f"{cell:.1f}" for cell in cells))
    table.add_row("energy, kWh", *(f"{told['energy_kwh'][level]:.1f}" for level in levels))
    out = Console()
    out.print(table)
    for park, why in told["left_out"].items():
        out.print(f"without {park}: {why}", style="yellow")
