"""`pvf model`: which version serves, and why."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pvforecast.settings import load

if TYPE_CHECKING:
    from pvforecast.clients import Clients
    from pvforecast.registry import Promotion
    from pvforecast.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Which model serves, and why.")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the promotions table.")]
Actor = Annotated[str, typer.Option(help="Who; kept in the promotions table. Default: the user's name.")]
VersionNumber = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="see: pvf model list")]
_SHOWN = ("overall/daylight_nmae", "overall/skill", "overall/daylight_picp80", "overall/r2", "overall/daylight_crps")


@app.command("list")
def list_models(
    limit: Annotated[int, typer.Option(min=1, help="How many versions, newest first.")] = 20, as_json: AsJson = False
) -> None:
    """Every registered version, newest first, and what it is: champion, challenger, archived."""
    from pvforecast import clients
    from pvforecast.tracking import REMOVED

    tracking = clients.tracking(load())
    rows = []
    for version in tracking.versions()[:limit]:
        metrics = tracking.run(version.run_id)["metrics"] if version.run_id else {}
        words = [*version.aliases, *(["archived"] if version.tags.get("archived") else [])]
        words += ["bundle removed"] if REMOVED in version.tags else []
        rows.append(
            {
                "version": version.version,
                "is": ", ".join(words),
                "verdict": version.tags.get("verdict", ""),
                "bundle_id": version.bundle_id,
                "trained_until": version.tags.get("trained_until", ""),
                "hold-out nMAE": _percent(metrics.get("overall/daylight_nmae")),
                "registered": datetime.fromtimestamp(version.created_at / 1000, UTC).isoformat(timespec="seconds"),
            }
        )
    _table(rows, as_json)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="How many promotions, newest first.")] = 100, as_json: AsJson = False
) -> None:
    """Every promotion, newest first: who, when, why, from which version to which. The first is the champion."""
    from pvforecast import clients

    promotions = clients.promotions(load()).history(limit=limit + 1)
    version_of = {promotion.id: promotion.model_version for promotion in promotions}
    rows = [
        {
            "id": promotion.id,
            "from": version_of.get(promotion.predecessor, ""),
            "to": promotion.model_version,
            "verdict": promotion.verdict,
            "by": promotion.actor,
            "why": promotion.reason,
            "event": promotion.event_id,
            "at": promotion.promoted_at.isoformat(timespec="seconds"),
            "as of": promotion.as_of.isoformat(timespec="seconds") if promotion.as_of else "",
        }
        for promotion in promotions[:limit]
    ]
    _table(rows, as_json)


@app.command()
def show(number: VersionNumber, as_json: AsJson = False) -> None:
    """One version in full: what it learned from, how it scored, when it served and why."""
    every = _clients()
    version = every.tracking.version(number)
    run = every.tracking.run(version.run_id) if version.run_id else {"params": {}, "metrics": {}, "tags": {}}
    served = [p.as_dict() for p in every.promotions.history(limit=10_000) if p.model_version == number]
    if as_json:
        print(json.dumps({**version.as_dict(), "run": run, "promotions": served}))
        return
    lines = {"version": number, "is": ", ".join(version.aliases) or "-", "bundle": version.bundle_uri}
    lines |= {name: version.tags[name] for name in sorted(version.tags)}
    tags = ("trigger", "reason", "actor", "event_id", "pipeline_run", "pvforecast.git_commit", "environment_hash")
    lines |= {f"run {name}": run["tags"][name] for name in (*tags, "data_versions") if run["tags"].get(name)}
    lines |= {f"run {name}": value for name, value in sorted(run["params"].items())}
    lines |= {name: f"{run['metrics'][name]:.4f}" for name in _SHOWN if name in run["metrics"]}
    lines |= {f"promotion {p['id']}": f"{p['promoted_at']} by {p['actor']}: {p['reason']}" for p in served}
    for name, value in lines.items():
        print(f"{name:<28} {value}")


@app.command()
def card(
    number: VersionNumber,
    data: Annotated[bool, typer.Option("--data", help="The data sheet instead: what it learned from.")] = False,
) -> None:
    """A version's model card, as Markdown: what for, how good, how it came to serve, where not to trust it."""
    from pvforecast import model_sheets
    from pvforecast.model import bundle as bundles

    every = _clients()
    version = every.tracking.version(number)
    bundle = bundles.load(every.store, version.bundle_uri)
    if data:
        print(model_sheets.data_sheet(bundle), end="")
        return
    run = every.tracking.run(version.run_id) if version.run_id else None
    served = [p.as_dict() for p in every.promotions.history(limit=10_000) if p.model_version == number]
    print(model_sheets.card(bundle, run, served, f"version {number}"), end="")


@app.command()
def compare(
    first: Annotated[int, typer.Argument(metavar="VERSION", min=1)],
    second: Annotated[int, typer.Argument(metavar="VERSION", min=1)],
    since: Annotated[str, typer.Option(help="ISO instant with offset. Default: from where neither has learned.")] = "",
    until: Annotated[str, typer.Option(help="ISO instant with offset. Default: the last metered hour.")] = "",
    as_json: AsJson = False,
) -> None:
    """Two versions on the same days, side by side, and whether they differ significantly."""
    from pvforecast import side_by_side
    from pvforecast.shards import as_datetime64, instant

    bounds = [
        as_datetime64(instant(text, field).isoformat()) if text else None
        for text, field in ((since, "--since"), (until, "--until"))
    ]
    both = side_by_side.compare(_clients(), first, second, *bounds)
    if as_json:
        print(json.dumps(both.as_dict()))
        return
    a, b = both.a, both.b
    rows: list[dict[str, Any]] = [{"": "bundle", str(a.version): a.bundle_id, str(b.version): b.bundle_id}]
    for name in ("trained_until", "recipe_hash", "verdict"):
        rows.append({"": name, str(a.version): a.tags.get(name, ""), str(b.version): b.tags.get(name, "")})
    for name in _SHOWN:
        values = [_percent(own.get(name)) for own in both.own]
        rows.append({"": f"own hold-out: {name}", str(a.version): values[0], str(b.version): values[1]})
    losses = [_percent(value) for value in (both.outcome.champion, both.outcome.challenger)]
    rows.append({"": "pinball loss, same days", str(a.version): losses[0], str(b.version): losses[1]})
    _table(rows, as_json=False)
    low, high = both.outcome.interval
    print(f"{both.says} (95 % interval {low:+.3%} to {high:+.3%} of capacity, {both.outcome.days} days)")
    print(f"compared from {both.since} to {both.until}, leads 1-24 h, daylight")
    if both.outcome.harmed:
        print(f"significantly worse with {b.version}: {', '.join(both.outcome.harmed)}")
    for number in both.learned:
        print(f"! version {number} has learned from some of these days: its loss is too good")


@app.command()
def promote(number: VersionNumber, reason: Reason, actor: Actor = "") -> None:
    """Make a version the champion, by hand; it serves within seconds."""
    from components.deploy import shipping
    from pvforecast import promoting

    settings, every = load(), _clients()
    facts: dict[str, Any] = {"actor": _who(actor), "reason": reason, "as_of": _time_of_replay(settings, every)}
    made = shipping.ship(settings, every, lambda: promoting.promote_version(*_places(every), number, **facts))
    _told(made, "serves")


@app.command()
def rollback(reason: Reason, actor: Actor = "") -> None:
    """Serve the model that served before the current one; each further call goes one model further back."""
    from components.deploy import shipping
    from pvforecast import promoting

    settings, every = load(), _clients()
    facts: dict[str, Any] = {"actor": _who(actor), "reason": reason, "as_of": _time_of_replay(settings, every)}
    made = shipping.ship(settings, every, lambda: promoting.rollback(*_places(every), **facts), takes_back=False)
    _told(made, "serves again")


@app.command()
def reconcile() -> None:
    """Make MLflow's alias, the deployed pointer and the cluster's servers agree with the promotions table."""
    from components.deploy import shipping
    from pvforecast import registry

    every = _clients()
    repaired = registry.reconcile(every.promotions, every.tracking, every.store) + shipping.repair(load(), every)
    print("\n".join(repaired) or "nothing to repair")


@app.command()
def gc(
    remove: Annotated[bool, typer.Option("--delete", help="Delete them. Without it nothing is touched.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bundles that no promotion and no alias names, older than PVF_PIN_DAYS: which would go, what stays and why."""
    from pvforecast import pruning

    settings, every = load(), _clients()
    fates = pruning.prune(*_places(every), datetime.now(UTC), settings.pin_days, dry_run=not remove)
    word = "deleted" if remove else "would be deleted"
    rows = [{**fate.as_dict(), "what": "kept" if fate.kept else word} for fate in fates]
    if as_json:
        print(json.dumps({"dry_run": not remove, "bundles": rows}))
        return
    _table([{name: row[name] for name in ("bundle_id", "written_at", "what", "why")} for row in rows], as_json=False)
    gone = sum(not fate.kept for fate in fates)
    print(
        f"{gone} {word}, {len(fates) - gone} kept"
        + ("; to delete: pvf model gc --delete" if gone and not remove else "")
    )


def _clients() -> Clients:
    from pvforecast import clients

    return clients.everything(load())


def _places(every: Clients) -> tuple[Any, Any, Any]:
    return every.store, every.tracking, every.promotions


def _who(actor: str) -> str:
    return actor or getpass.getuser()


def _time_of_replay(settings: Settings, every: Clients) -> datetime | None:
    """Where no run says what time it is; None by the machine's clock, which the promotion notes anyway."""
    from pvforecast import snapshot

    return snapshot.newest_time(every.store) if settings.clock == "snapshot" else None


def _told(promotion: Promotion, what: str) -> None:
    print(f"version {promotion.model_version} ({promotion.bundle_id}) {what}")


def _percent(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.2%}"


def _table(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows))
        return
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    if not rows:
        print("nothing yet")
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console = Console(highlight=False)
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    Console(width=max(console.width, needed), highlight=False).print(table)
