"""`pvf tune`: looks for a better recipe on training data alone, off the weekly path. See docs/tuning.md."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.settings import Settings, load

if TYPE_CHECKING:
    from pvforecast.known import ParkRecord

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def tune(
    parks: Annotated[
        list[str] | None, typer.Argument(metavar="[PARK]...", help="Default: pvdaq-50; with --lake all in service.")
    ] = None,
    until: Annotated[
        str, typer.Option(help="ISO instant with offset; nothing later is looked at. What you judge on lies after it.")
    ] = "2013-01-01T07:00:00+00:00",
    trials: Annotated[int, typer.Option(help="In all, those of earlier calls included.", min=1, max=10_000)] = 30,
    folds: Annotated[int, typer.Option(help="Time-ordered folds.", min=2, max=24)] = 4,
    study: Annotated[str, typer.Option(help="Its name; the same name goes on where it was left.")] = "recipe",
    base: Annotated[Path | None, typer.Option(help="The recipe to improve; default the built-in one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the recipe that was found to this JSON file.")] = None,
    lake: Annotated[bool, typer.Option("--lake", help="Use what the lake holds, not the shipped samples.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for machines.")] = False,
) -> None:
    """Search the recipe's settings by time-ordered folds; interrupt it and call it again to go on."""
    from pvforecast.shards import instant

    end = instant(until, "--until")
    if not _NAME.fullmatch(study):
        raise InvalidInput(f"{study[:60]!r} is no name", field="--study", hint="letters, digits, - _ and .")
    if out is not None and not out.absolute().parent.is_dir():
        raise InvalidInput(f"no folder {out.parent}", field="--out", hint="make it first")

    from pvforecast import dataset, tuning
    from pvforecast.model.recipe import Recipe

    settings = load()
    recipe = tuning.read(base) if base else Recipe()
    moment = np.datetime64(end.astimezone(UTC).replace(tzinfo=None), "s")
    _say("reading records and building feature rows")
    loaded = _on_lake(settings, parks or []) if lake else _samples(parks or ["pvdaq-50"], end)
    rows = dataset.known_by(dataset.training_rows(loaded.values(), recipe.spec, moment), moment)
    if len(rows) == 0:
        raise NotEnoughData(f"nothing was metered before {until}", field="--until", hint="choose a later time")
    _say(f"{len(rows):,} rows of {len(loaded)} parks; study {study!r} in {settings.home / 'tuning'}")
    tracking = None
    if settings.mlflow_uri:
        from pvforecast import clients

        tracking = clients.tracking(settings)
    found = tuning.tune(
        rows,
        recipe,
        study=study,
        folder=settings.home / "tuning",
        trials=trials,
        folds=folds,
        tracking=tracking,
        say=_say,
    )
    told = found.as_dict(datetime.now(UTC).date())
    if out is not None:
        tuning.write(found, out, datetime.now(UTC).date())
        _say(f"recipe: {out}")
    if as_json:
        print(json.dumps(told))
        return
    print(f"loss {found.loss:.6f}, the recipe at hand {found.base_loss:.6f}: {found.gain:+.2%} better")
    print(f"{found.trials} trials, {found.pruned} of them pruned")
    mine, theirs = found.recipe.as_dict(), recipe.as_dict()
    changed = [name for name in mine if mine[name] != theirs[name]]
    print("\n".join(f"  {name}: {theirs[name]} -> {mine[name]}" for name in changed) or "the recipe at hand stands")


def _on_lake(settings: Settings, parks: list[str]) -> dict[str, ParkRecord]:
    from pvforecast import fleet, wiring
    from pvforecast.lake import records

    source = wiring.lake(settings)
    return {park: records.load(source, park) for park in parks or [park.id for park in fleet.active(source)]}


def _samples(parks: list[str], until: datetime) -> dict[str, ParkRecord]:
    from pvf.backtest import sample_records
    from pvforecast.sources.pvdaq_samples import PARKS

    known = [park.id for park in PARKS]
    strange = [park for park in parks if park not in known]
    if strange:
        raise InvalidInput(
            f"{strange[0][:60]!r} is none of the shipped samples", field="PARK", hint=f"{', '.join(known)}, or --lake"
        )
    return sample_records(parks, until)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
