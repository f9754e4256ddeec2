"""`pvf park`: the registry of parks, with its history. See docs/parks.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pvf.commands.imports import import_parks
from pvforecast.errors import InvalidInput
from pvforecast.settings import load

if TYPE_CHECKING:
    from pvforecast.lake import Lake
    from pvforecast.parks import Park

app = typer.Typer(no_args_is_help=True, help="The registry of parks.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
ParkId = Annotated[str, typer.Argument(metavar="PARK")]
ValidFrom = Annotated[str | None, typer.Option(help="ISO instant with offset: since when the facts hold.")]
_MAX_BYTES = 4 << 20
_LISTED = ("id", "name", "latitude", "longitude", "ac_capacity_kw", "timezone", "groups", "note")

app.command("import")(import_parks)


@app.command("list")
def list_parks(
    group: Annotated[list[str] | None, typer.Option(help="Only parks of this group. Repeat.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Retired parks too.")] = False,
    as_json: AsJson = False,
) -> None:
    """The parks of the lake."""
    from pvforecast import fleet

    parks = fleet.registered(_lake()) if every else fleet.active(_lake())
    wanted = [park for park in parks if not group or set(group) & set(park.groups)]
    rows = [park.model_dump(mode="json") for park in wanted]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*_LISTED)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in _LISTED))
    Console().print(table)


@app.command("show")
def show_park(park_id: ParkId, as_json: AsJson = False) -> None:
    """One park: the facts that hold, and all that were ever recorded."""
    from pvforecast import fleet

    entries = fleet.history(_lake(), park_id)
    rows = [{"recorded_at": e.recorded_at.isoformat(), **e.park.model_dump(mode="json")} for e in entries]
    if as_json:
        print(json.dumps({**entries[-1].park.model_dump(mode="json"), "history": rows}))
        return
    table = Table("fact", "value", title=park_id, title_justify="left")
    for name, value in entries[-1].park.model_dump(mode="json").items():
        table.add_row(name, _cell(value))
    Console().print(table)
    past = Table("holds from", "recorded", "changed", title="history", title_justify="left")
    before: dict[str, Any] = {}
    for row in rows:
        changed = {k: v for k, v in row.items() if k not in ("recorded_at", "valid_from") and before.get(k) != v}
        said = ", ".join(f"{k}={_cell(v)}" for k, v in changed.items()) if before else "first facts"
        past.add_row(row["valid_from"], row["recorded_at"][:19], said)
        before = row
    Console().print(past)


@app.command("add")
def add_park(file: Annotated[Path, typer.Argument(help="JSON file with the park's facts; see docs/parks.md.")]) -> None:
    """Register a park."""
    from pvforecast import fleet
    from pvforecast.parks import doubts, parse

    values = _json(file)
    park = parse(values, str(file))
    new = fleet.register(_lake(), park)
    print(f"registered {park.id}" if new else f"{park.id} is registered with these facts already")
    for doubt in doubts(park):
        print(f"  note: {doubt}")


@app.command("update")
def update_park(
    park_id: ParkId,
    facts: Annotated[
        list[str], typer.Option("--set", help="FIELD=VALUE; JSON for arrays and availability; empty: the default.")
    ],
    valid_from: ValidFrom = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="The old facts were wrong from their start: replace them.")
    ] = False,
) -> None:
    """Change facts from a moment on (--valid-from), or correct what was wrong all along (--correct)."""
    _change(park_id, _facts(facts), valid_from, correct)
    print(f"updated {park_id}")


@app.command("retire")
def retire_park(
    park_id: ParkId,
    valid_from: Annotated[str, typer.Option(help="ISO instant with offset: out of service since.")],
) -> None:
    """Take a park out of service; its data and history stay."""
    _change(park_id, {"retired": True}, valid_from, False)
    print(f"retired {park_id}")


@app.command("erase")
def erase_park(
    park_id: ParkId,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only what it means is said.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete everything stored about a park, for good (docs/governance.md): not to be undone."""
    from pvf import erasing

    if not yes:
        raise InvalidInput(
            f"rows, snapshots and logged forecasts of {park_id} would be deleted for good, and no earlier version of"
            " the lake could be read any more",
            field="--yes",
            hint="`pvf park retire` takes it out of service and keeps everything",
        )
    erased = erasing.erase(load(), park_id)
    if as_json:
        print(json.dumps(erased.as_dict()))
    elif not erased.anything:
        print(f"nothing is stored about {park_id}")
    else:
        rows = ", ".join(f"{number} of {table}" for table, number in erased.rows.items() if number) or "none"
        print(
            f"erased {park_id}: rows: {rows}; {erased.snapshots} objects of snapshots; {erased.logged} logged messages;"
        )
        print(f"messages; {erased.events} drift events. Earlier versions of the lake are gone. Backups still hold it.")


def _change(park_id: str, facts: dict[str, Any], valid_from: str | None, correct: bool) -> Park:
    from pvforecast import fleet
    from pvforecast.parks import parse
    from pvforecast.shards import instant

    if not valid_from and not correct:
        raise InvalidInput(
            "is not stated", field="--valid-from", hint="since when do the facts hold? Or --correct the old ones"
        )
    lake = _lake()
    entries = fleet.history(lake, park_id)
    begin = instant(valid_from, "--valid-from") if valid_from else entries[-1].park.valid_from
    held = [entry for entry in entries if entry.park.valid_from <= begin]
    if not held:
        raise InvalidInput(
            f"lies before the first facts of {park_id}",
            field="--valid-from",
            hint=entries[0].park.valid_from.isoformat(),
        )
    base = held[-1].park
    if correct and base.valid_from != begin:
        raise InvalidInput(
            f"no facts of {park_id} begin at {begin.isoformat()}",
            field="--valid-from",
            hint=", ".join(sorted({e.park.valid_from.isoformat() for e in entries})),
        )
    values = {**base.model_dump(mode="json"), "valid_from": begin.isoformat(), **facts}
    values = {name: value for name, value in values.items() if value is not None}
    park = parse(values)
    fleet.register(lake, park, correct=correct)
    return park


def _facts(texts: list[str]) -> dict[str, Any]:
    from pvforecast.parks import Park

    facts: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in Park.model_fields or name in ("id", "valid_from"):
            known = ", ".join(field for field in Park.model_fields if field not in ("id", "valid_from"))
            raise InvalidInput(f"{text[:60]!r} is not FIELD=VALUE", field="--set", hint=f"fields: {known}")
        facts[name] = _value(value) if name in ("arrays", "availability", "groups") else (value or None)
        if name == "arrays" and "dc_capacity_kw" not in facts:
            facts |= {"dc_capacity_kw": None, "surface_tilt": None, "surface_azimuth": None}
    return facts


def _value(text: str) -> Any:
    try:
        return json.loads(text) if text else []
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{text[:60]!r} is no JSON: {error}", field="--set", hint='e.g. groups=["north"]') from error


def _json(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InvalidInput("is larger than 4 MiB", field=str(file), hint="a park is a few lines of JSON")
        values = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise InvalidInput(str(error), field="FILE") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"is no JSON in UTF-8: {error}", field=str(file), hint="see docs/parks.md") from error
    if not isinstance(values, dict):
        raise InvalidInput("is no JSON object", field=str(file), hint="see docs/parks.md")
    return values


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    return "" if value is None else str(value)


def _lake() -> Lake:
    from pvforecast import wiring

    return wiring.lake(load())
