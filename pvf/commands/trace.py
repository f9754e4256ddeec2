"""`pvf drift trace`: from an event to what it led to."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pvforecast.settings import load


def trace(
    event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="of a drift event")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Event, training run, verdict, MLflow run, promotion, clearance: all ids in one table."""
    from rich.console import Console
    from rich.table import Table

    from pvf import tracing

    steps = tracing.trace(load(), event_id)
    if as_json:
        print(json.dumps({"event_id": event_id, "steps": [step.as_dict() for step in steps]}))
        return
    table = Table("step", "id", "at", "says")
    for step in steps:
        table.add_row(step.name, step.id or "-", f"{step.at:%Y-%m-%d %H:%M}" if step.at else "-", step.says)
    console = Console(highlight=False)
    Console(width=max(console.width, 140), highlight=False).print(table)
