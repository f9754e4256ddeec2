"""`pvf quarantine`: what was set aside, why, and what becomes of it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pvforecast.errors import InvalidInput
from pvforecast.settings import load

app = typer.Typer(no_args_is_help=True, help="Rows and payloads that were set aside.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
Park = Annotated[str | None, typer.Option(help="Of this park.")]
TableName = Annotated[str | None, typer.Option("--table", help="That would have gone to this table.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Default: all that are held.")]


@app.command("list")
def list_held(
    park: Park = None,
    table: TableName = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to print, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """What is held, newest first, and how much for which reason."""
    rows = list(reversed(_held(park, table)))
    if as_json:
        print(json.dumps({"held": len(rows), "reasons": _reasons(rows), "rows": [_plain(r) for r in rows[:limit]]}))
        return
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    shown = Table(Column("id", no_wrap=True, min_width=16), "at", "table", "park", "reason")  # an id is typed again
    for row in rows[:limit]:
        shown.add_row(row["id"], f"{row['at']:%Y-%m-%d %H:%M}", row["table"], row["park_id"], row["reason"])
    console.print(shown)
    console.print(f"{len(rows)} held: " + (", ".join(f"{n} {why}" for why, n in _reasons(rows).items()) or "nothing"))


@app.command()
def show(row_id: Annotated[str, typer.Argument(metavar="ID")], as_json: AsJson = False) -> None:
    """One entry in full, with what was delivered."""
    row = _plain(_named([row_id])[0])
    print(json.dumps(row) if as_json else "\n".join(f"{name:<8} {value}" for name, value in row.items()))


@app.command()
def replay(ids: Ids = None, park: Park = None, table: TableName = None, as_json: AsJson = False) -> None:
    """Hold rows against today's contracts and park facts again; what passes goes on and is marked."""
    from pvforecast import replaying, wiring

    settings, chosen = load(), _chosen(ids, park, table)
    outcome = replaying.replay(wiring.lake(settings), chosen, datetime.now(UTC), correct_clocks=settings.correct_clocks)
    _told({name: len(found) for name, found in outcome.items()}, outcome, as_json)


@app.command()
def dismiss(
    ids: Ids = None,
    park: Park = None,
    table: TableName = None,
    everything: Annotated[bool, typer.Option("--all", help="All that --park and --table name, without ids.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say of rows that nothing more is to be done; their entries stay in the table."""
    from pvforecast import quarantine, wiring

    if not ids and not everything:
        raise InvalidInput("no id is given", field="ID", hint="name some, or say --all")
    rows = _chosen(ids, park, table)
    quarantine.settle(wiring.lake(load()), rows, quarantine.DISMISSED, datetime.now(UTC))
    _told({"dismissed": len(rows)}, {"dismissed": [row["id"] for row in rows]}, as_json)


def _held(park: str | None, table: str | None) -> list[dict[str, Any]]:
    from pvforecast import quarantine, wiring

    return quarantine.held(wiring.lake(load()), park_id=park, table=table)


def _chosen(ids: list[str] | None, park: str | None, table: str | None) -> list[dict[str, Any]]:
    return _named(ids) if ids else _held(park, table)


def _named(ids: list[str]) -> list[dict[str, Any]]:
    by_id = {row["id"]: row for row in _held(None, None)}
    unknown = [row_id for row_id in ids if row_id not in by_id]
    if unknown:
        raise InvalidInput(f"nothing is held under {unknown[0]!r}", field="ID", hint="see: pvf quarantine list")
    return [by_id[row_id] for row_id in ids]


def _reasons(rows: list[dict[str, Any]]) -> dict[str, int]:
    from pvforecast.validation.levels import name_of

    return dict(Counter(name_of(row["reason"]) for row in rows).most_common())


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


def _told(counts: dict[str, int], outcome: dict[str, list[str]], as_json: bool) -> None:
    print(json.dumps(outcome) if as_json else ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items()))
