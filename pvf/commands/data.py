"""`pvf data`: what the lake's tables hold and held, and their maintenance."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pvforecast.errors import InvalidInput
from pvforecast.settings import load

app = typer.Typer(no_args_is_help=True, help="Tables of the lake: their versions, rows and maintenance.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
Park = Annotated[list[str] | None, typer.Option(help="Park id; may be given more than once.")]
Since = Annotated[str | None, typer.Option(help="ISO instant with offset: rows from here on.")]
Until = Annotated[str | None, typer.Option(help="ISO instant with offset: rows before.")]
By = Annotated[str, typer.Option("--by", help="The time column of --since and --until; default the table's own.")]


@app.command()
def log(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="e.g. processed/weather")],
    limit: Annotated[int, typer.Option(min=1, help="How many versions, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The versions of a table: when, by which operation, and how many rows."""
    from pvforecast import wiring
    from pvforecast.lake import versions

    name, version = versions.parse(table)
    if version is not None:
        raise InvalidInput("the log is about all versions", field="TABLE", hint=f"pvf data log {name}")
    rows = versions.log(wiring.lake(load()), name, limit)
    _print(rows, ("version", "at", "operation", "rows_added", "files_added", "files_removed"), as_json)


@app.command()
def show(
    table: Annotated[str, typer.Argument(metavar="TABLE[@VERSION]", help="e.g. processed/weather@12")],
    park: Park = None,
    since: Since = None,
    until: Until = None,
    by: By = "",
    limit: Annotated[int, typer.Option(min=1, help="How many rows to print.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Rows of a table, as they are or as they were in a version; and their number."""
    from rich.console import Console

    from pvforecast import wiring
    from pvforecast.lake import versions

    lake = wiring.lake(load())
    name, version = versions.parse(table)
    reference = versions.reference(lake, name, version, **_filters(park, since, until, by))
    rows = versions.read(lake, reference)
    shown = [_plain(row) for row in rows.slice(0, limit).to_pylist()]
    if as_json:
        print(json.dumps({"reference": reference.as_dict(), "rows": len(rows), "shown": shown}))
        return
    _print(shown, tuple(rows.column_names), as_json=False)
    where = f"{name}@{reference.version}" if reference.version >= 0 else f"{name}, which does not exist yet"
    Console(highlight=False).print(f"{len(rows)} rows of {where}; {len(shown)} shown")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="TABLE@VERSION")],
    new: Annotated[str, typer.Argument(metavar="TABLE[@VERSION]", help="Default: the current version.")] = "",
    park: Park = None,
    since: Since = None,
    until: Until = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """How many rows came, went and changed between two versions, by key, with examples."""
    from pvforecast import wiring
    from pvforecast.lake import versions

    lake = wiring.lake(load())
    filters = _filters(park, since, until, by)
    (name, before), (other, after) = versions.parse(old), versions.parse(new or old.partition("@")[0])
    if before is None:
        raise InvalidInput("names no version", field="OLD", hint=f"e.g. {name}@12; see pvf data log {name}")
    result = versions.diff(
        lake, versions.reference(lake, name, before, **filters), versions.reference(lake, other, after, **filters)
    )
    result["examples"] = {what: [_plain(row) for row in rows] for what, rows in result["examples"].items()}
    if as_json:
        print(json.dumps(result))
        return
    print(f"{name}@{result['from']} -> @{result['to']}")
    for what in ("added", "removed", "changed"):
        print(f"{what:<8} {result[what]}")
        for row in result["examples"].get(what, []):
            print(f"           {json.dumps(row)}")
    for what in ("columns_added", "columns_removed"):
        print(f"{what}: {', '.join(result[what])}" if result[what] else "", end="\n" if result[what] else "")


@app.command()
def prune(as_json: AsJson = False) -> None:
    """Delete snapshots older than any logged forecast (PVF_PREDICTION_LOG_DAYS)."""
    from pvf import retention

    gone = retention.prune(load(), datetime.now(UTC))
    print(json.dumps({"removed": gone}) if as_json else f"removed {gone} objects of snapshots")


@app.command()
def maintain(
    no_models: Annotated[
        bool, typer.Option("--no-models", help="No model was ever trained on this lake: keep no version for one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Merge small files, and delete what no kept version needs; safe at any time."""
    from pvforecast import maintaining

    done = maintaining.run(load(), datetime.now(UTC), no_models=no_models)
    columns = ("table", "files_before", "files_after", "bytes", "rows_expired", "files_deleted", "log_files_deleted",
               "seconds")  # fmt: skip
    _print([_plain(row) for row in done], columns, as_json)
    for note in [] if as_json else sorted({row["note"] for row in done if row["note"]}):
        print(f"! {note}: {', '.join(row['table'] for row in done if row['note'] == note)}")
    if any(row["note"].startswith("failed") for row in done):
        raise typer.Exit(1)


def _filters(park: list[str] | None, since: str | None, until: str | None, by: str) -> dict[str, Any]:
    from pvforecast.shards import instant

    return {
        "parks": tuple(park or ()),
        "since": instant(since, "--since") if since else None,
        "until": instant(until, "--until") if until else None,
        "column": by,
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: instants as text, NaN as null."""
    return {name: _value(value) for name, value in row.items()}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    return dict(value) if isinstance(value, list) else value  # a map comes as pairs


def _print(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    """A table as wide as it needs; columns without any value are left out."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    if as_json:
        print(json.dumps(rows))
        return
    filled = [column for column in columns if not rows or any(row.get(column) not in (None, "") for row in rows)]
    table = Table(*filled)
    for row in rows:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in filled))
    console = Console(highlight=False)
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, needed), highlight=False).print(table)
