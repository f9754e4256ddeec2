"""`pvf portfolio`: the forecast of several parks together, from the served ones. See docs/portfolio.md."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from pvforecast.errors import InvalidInput, UnknownPark
from pvforecast.settings import load

if TYPE_CHECKING:
    from pvforecast.objects import ObjectStore
    from pvforecast.portfolio import Dependence

SHOWN = (0.1, 0.5, 0.9)
_AT_ONCE = 100  # parks in one request


def portfolio(
    parks: Annotated[list[str] | None, typer.Argument(metavar="[PARK]...", help="Default: all in service.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Parks of this group. Repeat.")] = None,
    hours: Annotated[int, typer.Option(help="How far ahead.")] = 48,
    issued_at: Annotated[str | None, typer.Option(help="ISO instant with offset; default now.")] = None,
    n: Annotated[int, typer.Option("--scenarios", help="How many are drawn.", min=100, max=20_000)] = 1_000,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal answers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Power and energy of several parks together, with bands that know how their errors go together."""
    from pvf import client
    from pvforecast import fleet, wiring
    from pvforecast.portfolio.served import total

    settings = load()
    everyone = {park.id: park for park in fleet.active(wiring.lake(settings), group or ())}
    chosen = list(dict.fromkeys(parks or everyone))
    strange = [park for park in chosen if park not in everyone]
    if strange or not chosen:
        raise UnknownPark(
            f"no park {strange[0][:80]!r} in service" if strange else "no park in service", field="PARK",
            hint="list them, with their groups: pvf park list",
        )  # fmt: skip
    predictions = [
        prediction
        for begin in range(0, len(chosen), _AT_ONCE)
        for prediction in client.forecast(
            settings,
            [
                {"park_id": park, "horizon_hours": hours, "issued_at": issued_at}
                for park in chosen[begin : begin + _AT_ONCE]
            ],
        ).predictions
    ]
    bundles = sorted({prediction["bundle_id"] for prediction in predictions})
    dependence, fitted = _of_bundle(wiring.objects(settings), bundles[-1])
    if not fitted:
        print(f"bundle {bundles[-1]} carries no dependence: the general one is used", file=sys.stderr)
    found = total(predictions, {park: everyone[park].site() for park in chosen}, dependence, (), n, seed)
    issued = sorted({prediction["issued_at"] for prediction in predictions})
    told = {
        "parks": chosen,
        "issued_at": issued,
        "bundle_id": bundles,
        "dependence_fitted": fitted,
        "scenarios": n,
        "seed": seed,
        "valid_at": [f"{hour}Z" for hour in found.valid_at],
        "power_kw": {str(level): found.power_kw[:, at].round(4).tolist() for at, level in enumerate(found.levels)},
        "energy_kwh": {str(level): round(float(found.energy_kwh[at]), 4) for at, level in enumerate(found.levels)},
    }
    if as_json:
        print(json.dumps(told))
        return
    shown = [level for level in SHOWN if level in found.levels] or list(found.levels)
    table = Table(title=f"{len(chosen)} parks, issued {', '.join(issued)}", title_justify="left")
    table.add_column("hour, UTC")
    for level in shown:
        table.add_column(f"P{100 * level:g} kW", justify="right")
    for at, hour in enumerate(found.valid_at):
        cells = [found.power_kw[at, found.levels.index(level)] for level in shown]
        if max(cells) > 0:
            table.add_row(str(hour)[:16].replace("T", " "), *(f"{cell:.1f}" for cell in cells))
    table.add_row("energy, kWh", *(f"{found.energy_kwh[found.levels.index(level)]:.1f}" for level in shown))
    Console().print(table)


def _of_bundle(store: ObjectStore, bundle_id: str) -> tuple[Dependence, bool]:
    """The dependence that was fitted with the model, or the general one where the bundle has none."""
    from pvforecast.portfolio.dependence import FILE_NAME, Dependence

    if not bundle_id.isalnum():
        raise InvalidInput(f"{bundle_id[:60]!r} is no bundle id", field="bundle_id", hint="is the gateway ours?")
    try:
        data = store.get(f"models/bundles/{bundle_id}/{FILE_NAME}")
    except KeyError:
        data = b""  # of a bundle from before there was one
    return (Dependence.from_bytes(data), True) if data else (Dependence.prior(), False)
