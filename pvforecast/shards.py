"""The fleet in shards: what the looped pipeline tasks do. A park that fails is reported; the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pvforecast import ingestion, preparing
from pvforecast.errors import InvalidInput, NotEnoughData, NotReady, UnknownPark
from pvforecast.lake import Lake
from pvforecast.model.recipe import Recipe
from pvforecast.objects import ObjectStore
from pvforecast.parks import Park
from pvforecast.sources.catalogue import source

_log = logging.getLogger(__name__)

Shard = dict[str, Any]
Status = dict[str, str]
OK = "ok"
_PAUSES_S = (1.0, 4.0)


def plan(
    lake: Lake,
    parks: Sequence[str],
    since: str,
    as_of: str,
    source_name: str,
    source_options: dict[str, Any],
    parks_per_shard: int,
    recipe: dict[str, Any],
    publish: bool,
) -> list[Shard]:
    """Shards of at most `parks_per_shard` parks, fully resolved; see the component `plan`.

    Raises
    ------
    UnknownPark
        a named park is not registered.
    InvalidInput
        a time without offset, nothing between the two, an unknown source or setting, no park at all.
    """
    source(source_name, source_options)
    recipe_of(recipe)
    if instant(since, "since") >= instant(as_of, "as_of"):
        raise InvalidInput(f"{since!r} is not before as_of", field="since", hint=f"as_of is {as_of}")
    registered = [park.id for park in ingestion.registered(lake)]
    chosen = sorted(set(parks)) or registered
    unknown = sorted(set(chosen) - set(registered))
    if unknown:
        known = ", ".join(registered) or "none"
        raise UnknownPark(f"no park {unknown[0]!r}", field="parks", hint=f"registered: {known}")
    if not chosen:
        raise InvalidInput("no park is registered", field="parks", hint="add one: pvf park add")
    size = max(1, int(parks_per_shard))
    common = {
        "since": since,
        "as_of": as_of,
        "source": source_name,
        "source_options": source_options,
        "recipe": recipe,
        "publish": publish,
    }
    return [{"parks": chosen[i : i + size], **common} for i in range(0, len(chosen), size)]


def ingest(lake: Lake, shard: Shard, report_path: str) -> Status:
    """See the component `ingest`."""
    origin = source(shard["source"], shard["source_options"])
    since, as_of = instant(shard["since"], "since"), instant(shard["as_of"], "as_of")
    lines = ["| park | generation rows | weather rows | clock |", "|---|---|---|---|"]

    def load(park: Park) -> None:
        report = ingestion.ingest(lake, origin, park, since, as_of)
        lines.append(f"| {park.id} | {report.generation_rows} | {report.weather_rows} | {report.clock.sentence()} |")

    status = _each(lake, shard, None, load)
    _write(report_path, lines, status)
    return status


def validate(lake: Lake, shard: Shard, status: Status, report_path: str) -> Status:
    """See the component `validate`."""
    since, as_of = instant(shard["since"], "since"), instant(shard["as_of"], "as_of")
    lines = ["| park | hours stored | weather rows | set aside |", "|---|---|---|---|"]

    def check(park: Park) -> None:
        report = ingestion.validate(lake, park, since, as_of)
        lines.append(f"| {park.id} | {report.generation_hours} | {report.weather_rows} | {report.quarantined} |")

    status = _each(lake, shard, status, check)
    _write(report_path, lines, status)
    return status


def featurize(lake: Lake, shard: Shard, status: Status) -> Status:
    """See the component `featurize`."""
    recipe, as_of = recipe_of(shard["recipe"]), as_datetime64(shard["as_of"])
    return _each(lake, shard, status, lambda park: preparing.featurize(lake, park.id, as_of, recipe))


def publish_snapshots(lake: Lake, store: ObjectStore, shard: Shard, status: Status) -> Status:
    """See the component `publish_snapshots`."""
    if not shard["publish"]:
        return status
    as_of = as_datetime64(shard["as_of"])
    return _each(lake, shard, status, lambda park: preparing.publish_snapshots(lake, store, [park.id], as_of))


def tally(statuses: Sequence[Status]) -> Status:
    """The parks that were left out, with their status.

    Raises
    ------
    NotEnoughData
        no park came through.
    """
    states = {park: state for status in statuses for park, state in status.items()}
    left_out = {park: state for park, state in states.items() if state != OK}
    if len(left_out) == len(states):
        raise NotEnoughData(f"no park came through: {left_out}", field="statuses", hint="see the reports of the shards")
    return left_out


def recipe_of(changes: dict[str, Any]) -> Recipe:
    """The default recipe with some settings changed.

    Raises
    ------
    InvalidInput
        a setting that a recipe does not have, or a value that it can't have.
    """
    base = Recipe().as_dict()
    unknown = sorted(set(changes) - set(base))
    if unknown:
        raise InvalidInput(f"unknown setting {unknown[0]!r}", field="recipe", hint=f"known: {', '.join(base)}")
    missing = {0.1, 0.5, 0.9} - set(changes.get("quantiles", base["quantiles"]))
    if missing:
        raise InvalidInput(
            f"lacks {sorted(missing)}", field="recipe.quantiles", hint="the scores need 0.1, 0.5 and 0.9"
        )
    return Recipe.from_dict({**base, **{name: _typed(name, value, base[name]) for name, value in changes.items()}})


def _typed(name: str, value: Any, default: Any) -> Any:
    """A setting as the recipe has it: KFP hands ints inside a dict over as floats."""
    wanted = type(default)
    if wanted not in (int, float):
        return value
    if not isinstance(value, int | float) or wanted(value) != value:
        raise InvalidInput(f"{value!r} is no {wanted.__name__}", field=f"recipe.{name}", hint=f"default {default}")
    return wanted(value)


def instant(text: str, field: str) -> datetime:
    """An ISO instant with offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no ISO instant", field=field, hint="e.g. 2013-08-20T06:00:00+00:00") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{text!r} has no UTC offset", field=field, hint="e.g. 2013-08-20T06:00:00+00:00")
    return moment


def as_datetime64(text: str) -> np.datetime64:
    """An ISO instant with offset, as UTC `datetime64[s]`."""
    return np.datetime64(int(instant(text, "as_of").timestamp()), "s")


def _each(lake: Lake, shard: Shard, before: Status | None, work: Callable[[Park], object]) -> Status:
    """Do `work` for each park that is still well; what fails is a status, not an exception."""
    parks = {park.id: park for park in ingestion.registered(lake)}
    status = dict(before or dict.fromkeys(shard["parks"], OK))
    for park_id in [park_id for park_id, state in status.items() if state == OK]:
        try:
            _patiently(work, parks[park_id])
        except Exception as error:  # noqa: BLE001 - whatever one park's data does, the others must go on
            _log.exception("park %s failed", park_id)
            status[park_id] = f"failed: {type(error).__name__}: {error}"[:500]
    return status


def _patiently(work: Callable[[Park], object], park: Park) -> None:
    """KFP does not retry inside a loop (kubeflow/pipelines#13897), so what may pass is tried again here."""
    for pause in _PAUSES_S:
        try:
            work(park)
            return
        except NotReady as error:
            _log.warning("park %s: %s; again in %s s", park.id, error, pause)
            time.sleep(pause)
    work(park)


def _write(path: str, lines: list[str], status: Status) -> None:
    failed = [f"- {park}: {state}" for park, state in status.items() if state != OK]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join([*lines, *([""] if failed else []), *failed]) + "\n")
