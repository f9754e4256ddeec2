"""`pvf key`: the API keys of the gateway's clients. See docs/gateway.md."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pvf.stack import api_keys, gateway
from pvf.stack.api_keys import Key
from pvforecast.settings import load

app = typer.Typer(no_args_is_help=True, help="API keys of the gateway's clients.")

_OLD_HOLD_HOURS = 24.0

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
Client = Annotated[str, typer.Argument(help="Whose key; a client is made by its first.")]


@app.command()
def add(
    client: Client,
    park: Annotated[list[str] | None, typer.Option(help="Only this park. Repeat.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Only parks of this group. Repeat.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once."""
    made = api_keys.add(_file(), client, parks=park or (), groups=group or ())
    _show_new(client, made, [], as_json)


@app.command()
def rotate(
    client: Client,
    key: Annotated[str | None, typer.Option(help="Id of the key to replace; default all of the client.")] = None,
    overlap_hours: Annotated[
        float, typer.Option(help="How long the old keys still hold.", min=0, max=24 * 366)
    ] = _OLD_HOLD_HOURS,
    as_json: AsJson = False,
) -> None:
    """Make a key and let the old ones end by themselves. Nobody is cut off who changes over in time."""
    made, old = api_keys.rotate(_file(), client, timedelta(hours=overlap_hours), key_id=key)
    _show_new(client, made, old, as_json)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """Clients and their keys, by id: never the keys."""
    now = datetime.now(UTC)
    keys = api_keys.load(_file())
    rows = [_row(client, key, now) for client, of_client in keys.items() for key in of_client]
    if as_json:
        print(json.dumps({"keys": rows}))
        return
    table = Table("client", "id", "made (UTC)", "ends (UTC)", "sees", "holds")
    for row in rows:
        sees = ", ".join([*row["parks"], *(f"group {group}" for group in row["groups"])]) or "all parks"
        times = [row[name][:16].replace("T", " ") if row[name] else "" for name in ("made_at", "ends_at")]
        table.add_row(row["client"], row["id"], *times, sees, "yes" if row["holds"] else "no")
    Console().print(table)


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, see `pvf key list`.")],
) -> None:
    """Take a key away, at once."""
    client = api_keys.revoke(_file(), key)
    print(f"revoked a key of {client}; a running gateway refuses it within two seconds")


def _file() -> Path:
    return gateway.keys_file(load().home)


def _show_new(client: str, made: Key, old: list[Key], as_json: bool) -> None:
    now = datetime.now(UTC)
    if as_json:
        row = {"key": made.key, **_row(client, made, now)}
        print(json.dumps(row | {"replaces": [_row(client, key, now) for key in old]}))
        return
    print(made.key)
    said = [f"key {made.id} of {client}: shown this once. A running gateway takes it within two seconds"]
    said += [f"key {key.id} holds until {key.ends_at:%Y-%m-%d %H:%M} UTC" for key in old]
    print("\n".join(said), file=sys.stderr)


def _row(client: str, key: Key, now: datetime) -> dict[str, Any]:
    return {
        "client": client,
        "id": key.id,
        "made_at": key.made_at.isoformat() if key.made_at else None,
        "ends_at": key.ends_at.isoformat() if key.ends_at else None,
        "parks": list(key.parks),
        "groups": list(key.groups),
        "holds": key.holds(now),
    }
