"""`pvf drift`: checks, thresholds, reports, and what people decide. The job runs in its own environment."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from pvf.commands import trace
from pvforecast.settings import load

app = typer.Typer(no_args_is_help=True, help="Watch parks for drift.")
app.command()(trace.trace)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
AsOf = Annotated[str | None, typer.Option(help="ISO instant with offset; default now.")]
Event = Annotated[str, typer.Argument(metavar="EVENT", help="Id of the drift event that found the fault.")]
Send = Annotated[bool, typer.Option("--send/--dry-run", help="Post events to the retrain trigger.")]
OfPark = Annotated[str | None, typer.Option("--park", help="Of an event of many parks: only this one's hours.")]
Out = Annotated[Path | None, typer.Option(help="Where the page goes; default drift-PARK.html.")]


@app.command()
def check(
    as_of: AsOf = None,
    until: Annotated[
        str | None, typer.Option(help="Replay the daily checks up to here; ends at the first event.")
    ] = None,
    park: Annotated[str | None, typer.Option(help="One park; default all.")] = None,
    send: Send = True,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the parks.")] = 2,
) -> None:
    """Check parks for drift; one JSON line a check."""
    words = [*_which(park), *_given("--as-of", as_of), *_given("--until", until), "--jobs", str(jobs), *_sink(send)]
    for line in _job("check", *words):
        print(json.dumps(line))


@app.command()
def calibrate(
    until: Annotated[str | None, typer.Option(help="Use what was known by then; default now.")] = None,
    park: Annotated[str | None, typer.Option(help="One park; default all.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also where a park has a reference already.")] = False,
    warnings_a_year: Annotated[float | None, typer.Option(help="False ones wanted of each park; default 0.55.")] = None,
    fleet_pages_a_year: Annotated[float | None, typer.Option(help="Of all parks together; default 2.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the parks.")] = 2,
) -> None:
    """Freeze what healthy looks like, and find the thresholds that keep the rate budget; one JSON line a park."""
    words = [*_which(park), "--until", until or _now(), "--jobs", str(jobs), *(["--replace"] if replace else [])]
    for option, rate in (("--warnings-a-year", warnings_a_year), ("--fleet-pages-a-year", fleet_pages_a_year)):
        words += _given(option, None if rate is None else str(rate))
    for line in _job("reference", *words):
        print(json.dumps(line))


@app.command()
def report(park: str, as_of: AsOf = None, out: Out = None, as_json: AsJson = False) -> None:
    """One page on a park: statistics, sums, thresholds, alarms and their causes."""
    _page(park, out, as_json, *_given("--as-of", as_of))


@app.command()
def simulate(
    park: str,
    fault: Annotated[str, typer.Option(help="loss, soiling, unit, outage, frozen, clock, clipping or provider.")],
    at: Annotated[str, typer.Option(help="ISO instant with offset at which it begins.")],
    size: Annotated[float | None, typer.Option(help="E.g. the share lost; default: a usual one.")] = None,
    as_of: AsOf = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Plant a fault into a park's replay and show what would have happened when. Nothing is stored or sent."""
    words = ["--fault", fault, "--at", at, *_given("--size", None if size is None else str(size))]
    _page(park, out, as_json, *words, *_given("--as-of", as_of))


@app.command()
def accept(
    park: str,
    change_at: Annotated[str, typer.Option(help="First day of the change, e.g. 2024-05-01.")],
    as_of: AsOf = None,
    send: Send = True,
) -> None:
    """Make a lasting change the new normal: reference and sums begin anew on its first day."""
    for line in _job("accept", "--park", park, "--change-at", change_at, *_given("--as-of", as_of), *_sink(send)):
        print(json.dumps(line))


@app.command()
def confirm(event: Event, park: OfPark = None) -> None:
    """The hours held by this event are faulty: they stay out of training."""
    _settle(event, "confirmed", park)


@app.command()
def release(event: Event, park: OfPark = None) -> None:
    """The hours held by this event are sound: training uses them again."""
    _settle(event, "released", park)


@app.command("holds")
def list_holds(park: Annotated[str | None, typer.Option(help="Of this park.")] = None, as_json: AsJson = False) -> None:
    """Hours that are kept from training, and by which event."""
    from rich.console import Console
    from rich.table import Table

    from pvforecast import holds, wiring

    found = holds.read(wiring.lake(load()), None if park is None else [park])
    if as_json:
        print(json.dumps([{name: _text(value) for name, value in vars(hold).items()} for hold in found]))
        return
    table = Table("event", "park", "cause", "state", "from", "until")
    for hold in found:
        table.add_row(
            hold.event_id, hold.park_id, hold.cause, hold.state, _text(hold.begin), _text(hold.end) or "still"
        )
    Console().print(table)


def _page(park: str, out: Path | None, as_json: bool, *words: str) -> None:
    from pvf import drift_page

    (series,) = _job("series", "--park", park, *words)
    path = out or Path(f"drift-{park}.html")
    path.write_text(drift_page.page(series), encoding="utf-8")
    alarms = series["alarms"]
    if as_json:
        print(json.dumps({"park_id": park, "page": str(path), "days": len(series["days"]), "alarms": alarms}))
        return
    for alarm in alarms:
        names = ", ".join(alarm["detectors"])
        print(f"{alarm['day']}  {alarm['level']:<4}  {alarm['cause']} -> {alarm['advice']}  ({names})")
    print(f"{len(alarms)} alarms in {len(series['days'])} days; page: {path}")


def _job(command: str, *words: str) -> list[dict[str, Any]]:
    from pvf import children

    return list(children.drift(load(), command, *words))


def _settle(event: str, state: str, park: str | None) -> None:
    from pvforecast import holds, wiring

    for hold in holds.settle(wiring.lake(load()), event, state, datetime.now(UTC), park):
        print(f"{hold.park_id}: hours from {_text(hold.begin)} on are {state}")


def _sink(send: bool) -> list[str]:
    """An empty sink is said out loud: the job's own default is K_SINK."""
    from pvforecast import wiring

    return ["--sink", wiring.needed(load().trigger_url, "PVF_TRIGGER_URL")] if send else ["--sink", "", "--dry-run"]


def _which(park: str | None) -> list[str]:
    return ["--park", park] if park else ["--all"]


def _given(name: str, value: str | None) -> list[str]:
    return [name, value] if value is not None else []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _text(value: object) -> str:
    return "" if value is None else str(value)
