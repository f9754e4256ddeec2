"""`pvf explain`: how much weather, sun, recent output and the rest moved a forecast. See docs/explain.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from pvforecast.errors import InvalidInput, NoChampion, UnknownPark
from pvforecast.settings import load

MAX_HOURS = 168
_SHOWN = 8


def explain(
    park: Annotated[str, typer.Argument(metavar="PARK")],
    valid_at: Annotated[str, typer.Option(help="ISO instant with offset; the hour to explain.")],
    issued_at: Annotated[
        str | None, typer.Option(help="ISO instant with offset; default: when the newest snapshot was taken.")
    ] = None,
    level: Annotated[float, typer.Option(help="Which quantile.")] = 0.5,
    png: Annotated[Path | None, typer.Option(help="Write a plot of the hour, and of its local day.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """What moved a forecast, group by group, in kW: of the model that serves now."""
    from pvforecast.shards import instant

    wanted = _utc(instant(valid_at, "--valid-at"))
    issued = _utc(instant(issued_at, "--issued-at")) if issued_at else None

    from inference.deployed import DeployedPointer
    from pvforecast import explaining, snapshot, wiring
    from pvforecast.model import bundle as bundles

    store = wiring.objects(load())
    deployment = DeployedPointer(store).check()
    if deployment is None:
        raise NoChampion("no model is deployed yet", hint="run the training pipeline: pvf pipeline run training")
    newest = snapshot.latest_entry(store, park)
    if newest is None:
        raise UnknownPark(f"no snapshot of park {park[:80]!r}", field="PARK", hint="list the parks: pvf park list")
    entry = newest if issued is None else snapshot.entry_at(store, park, issued)
    if entry is None:
        raise InvalidInput(f"no snapshot as old as {issued}Z is retained", field="--issued-at", hint="ask for a later")
    known = snapshot.read(store, park, entry["snapshot_id"])
    issued = known.as_of if issued is None else issued
    hours = _hours(issued, wanted)
    explanation = explaining.explain(
        bundles.load(store, deployment.bundle_uri), known, issued, min(hours + 24, MAX_HOURS), level
    )
    at = int(np.flatnonzero(explanation.valid_at == wanted)[0])
    told = explanation.as_dict(at) | {"model_version": deployment.model_version}
    if png is not None:
        from pvf import show_explanation

        show_explanation.plot(explanation, at, known.site.timezone, png)
    if as_json:
        print(json.dumps(told))
        return
    _show(told)
    if png is not None:
        print(f"chart: {png}")


def _hours(issued_at: np.datetime64, valid_at: np.datetime64) -> int:
    """How many hours reach from the issue time to the end of the hour that is asked for."""
    from pvforecast.features import horizon
    from pvforecast.known import HOUR

    ahead = (valid_at - horizon(issued_at, 1)[0]) / HOUR
    if ahead != int(ahead):
        raise InvalidInput(f"{valid_at}Z is no start of an hour", field="--valid-at", hint="e.g. 2013-06-09T18:00Z")
    if not 0 <= ahead < MAX_HOURS:
        raise InvalidInput(
            f"{valid_at}Z is not among the {MAX_HOURS} hours after {issued_at}Z",
            field="--valid-at",
            hint="choose an hour after the issue time, or another --issued-at",
        )
    return int(ahead) + 1


def _show(told: dict[str, object]) -> None:
    groups: dict[str, dict[str, float]] = told["groups"]  # type: ignore[assignment]
    features: list[dict[str, float | None]] = told["features"]  # type: ignore[assignment]
    title = (
        f"{told['park_id']}: {told['valid_at']}, issued {told['issued_at']}, model version {told['model_version']}, "
        f"P{100 * float(str(told['level'])):g}"
    )
    table = Table(title=title, title_justify="left", caption=f"explains {told['explains']}", caption_justify="left")
    for column, justify in (("", "left"), ("kW", "right"), ("share", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_row("base", f"{told['base_kw']:.3f}", "")
    for name, group in groups.items():
        table.add_row(name, f"{group['kw']:+.3f}", f"{group['share']:.0%}")
    table.add_row("after XGBoost", f"{told['after_kw']:+.3f}", "")
    table.add_row("forecast (possible power)", f"{told['forecast_kw']:.3f}", "")
    console = Console()
    console.print(table)
    console.print("the features that moved it most:")
    for feature in features[:_SHOWN]:
        value = "missing" if feature["value"] is None else f"{feature['value']:g}"
        console.print(f"  {feature['name']:<24} {feature['kw']:+.3f} kW   (its value: {value})", highlight=False)


def _utc(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None, microsecond=0), "s")
