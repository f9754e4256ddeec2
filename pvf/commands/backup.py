"""`pvf backup`: what the platform stores, elsewhere and back."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvforecast.settings import Settings, load

if TYPE_CHECKING:
    from pvf.backup.archive import Archive, Manifest

app = typer.Typer(no_args_is_help=True, help="Bucket, lake and databases, elsewhere and back.")

To = Annotated[str, typer.Option("--at", help="A folder, or s3://bucket/prefix; default PVF_BACKUP_URI.")]
Which = Annotated[str, typer.Argument(metavar="[ID]", help="Default: the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
Databases = Annotated[bool, typer.Option("--databases/--no-databases", help="No: their provider backs them up itself.")]


@app.command()
def create(at: To = "", databases: Databases = True, as_json: AsJson = False) -> None:
    """Back up everything the settings name, beside whatever runs."""
    from pvf.backup import wiring

    settings = load()
    archive = _archive(settings, at)
    manifest = archive.create(wiring.sources(settings, databases=databases), datetime.now(UTC))
    _print([manifest], as_json)


@app.command("list")
def list_backups(at: To = "", as_json: AsJson = False) -> None:
    """All that can be restored, newest first."""
    _print(list(_archive(load(), at).manifests()), as_json)


@app.command()
def verify(backup: Which = "latest", at: To = "") -> None:
    """Read a backup whole and hold it against its digests."""
    archive = _archive(load(), at)
    manifest = archive.find(backup)
    archive.verify(manifest)
    print(f"{manifest.id}: {manifest.count} files and {len(manifest.databases)} databases are as they were written")


@app.command()
def restore(
    backup: Which = "latest",
    at: To = "",
    replace: Annotated[bool, typer.Option("--replace", help="Put it in place of what is there.")] = False,
) -> None:
    """Bring a backup back into empty stores. Stop what writes first (docs/operations.md)."""
    from pvf.backup import wiring

    settings = load()
    archive = _archive(settings, at)
    manifest = archive.find(backup)
    archive.restore(manifest, wiring.sources(settings), replace=replace)
    print(f"restored {manifest.id}")


@app.command()
def prune(
    keep_days: Annotated[int, typer.Option(min=1, help="Backups older than this go; the newest stays.")] = 90,
    at: To = "",
) -> None:
    """Delete old backups, and what only they needed."""
    gone = _archive(load(), at).prune(datetime.now(UTC), timedelta(days=keep_days))
    print("\n".join(f"removed {name}" for name in gone) or "nothing is older")


def _archive(settings: Settings, at: str) -> Archive:
    from pvf.backup import wiring
    from pvf.backup.archive import Archive

    return Archive(wiring.target(settings, at or settings.backup_uri), lambda line: print(line, file=sys.stderr))


def _print(manifests: list[Manifest], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"id": m.id, "files": m.count, "databases": sorted(m.databases), "bytes": m.size, "seconds": m.seconds}
        for m in manifests
    ]
    if as_json:
        print(json.dumps({"backups": rows}))
        return
    for row in rows:
        databases = ", ".join(row["databases"]) or "no databases"
        print(f"{row['id']}  {row['files']} files, {databases}, {row['bytes'] / 1e6:.1f} MB, {row['seconds']} s")
