"""`pvf status` and `pvf metrics`: how old what is known of each park is, for people and for Prometheus."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from pvforecast.settings import load

if TYPE_CHECKING:
    from pvf.overview import Overview


def status(
    as_of: Annotated[str, typer.Option(help="ISO instant with offset; default now.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 when a limit is broken.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Ages of weather and generation by park, snapshots, champion, quarantine and maintenance."""
    from pvf import overview
    from pvforecast.shards import instant

    state = overview.take(load(), instant(as_of, "--as-of") if as_of else None)
    if as_json:
        print(json.dumps(state.as_dict()))
    else:
        _show(state)
    if check and state.broken():
        raise typer.Exit(1)


def metrics(
    port: Annotated[int, typer.Option(help="Where Prometheus scrapes; 0 takes a free one.")] = 9108,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the ages as Prometheus metrics, until Ctrl-C."""
    from pvf import exporter

    settings = load()
    server = exporter.serve(settings, host, port)
    print(f"{'https' if settings.tls_folder else 'http'}://{host}:{server.server_port}/metrics", flush=True)
    try:
        while True:
            time.sleep(3600)
    finally:
        server.shutdown()


def _show(state: Overview) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console = Console(width=max(console.width, 120), highlight=False)
    table = Table("park", "weather run", "weather age, min", "generation until", "generation age, min",
                  "snapshot age, min", "late", title=f"as of {state.now.isoformat(timespec='minutes')}",
                  title_justify="left")  # fmt: skip
    for park in state.parks:
        cells = (
            park.weather_run_at and f"{park.weather_run_at:%Y-%m-%d %H:%M}",
            park.weather_age_minutes,
            park.generation_until and f"{park.generation_until:%Y-%m-%d %H:%M}",
            park.generation_age_minutes,
            state.snapshots.get(park.park_id),
            ", ".join(park.stale),
        )
        table.add_row(park.park_id, *("-" if cell is None else str(cell) for cell in cells))
    console.print(table)
    champion = state.champion
    console.print(
        f"champion: {champion}" if isinstance(champion, str)
        else f"champion: version {champion['model_version']} ({champion['bundle_id']}), "
        f"{champion['verdict']} at {champion['promoted_at']}"
    )  # fmt: skip
    console.print(f"quarantine: {', '.join(f'{n} of {t}' for t, n in state.quarantined.items()) or 'empty'}")
    console.print(f"files: {', '.join(f'{n} in {t}' for t, n in state.files.items())}")
    console.print(f"last maintenance: {state.maintained_at.isoformat() if state.maintained_at else 'never'}")
    for line in (*state.broken(), *(note for note in state.maintenance_notes if not note.startswith("failed"))):
        console.print(f"! {line}")
