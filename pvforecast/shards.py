"""The fleet in shards: what the looped pipeline tasks do. A park that fails is reported; the others go on."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from pvforecast.errors import InvalidInput, NotEnoughData, NotReady, UnknownPark

# Each task is a process of its own that does one of these steps: what the others need stays out of it. pandas, pvlib
# and pandera take seconds to import, which for a hundred parks is most of a task.
if TYPE_CHECKING:
    from pvforecast.lake import Lake
    from pvforecast.model.recipe import Recipe
    from pvforecast.objects import ObjectStore
    from pvforecast.parks import Park
    from pvforecast.refining import ValidationReport
    from pvforecast.settings import Settings

_log = logging.getLogger(__name__)

Shard = dict[str, Any]
Status = dict[str, str]
OK = "ok"
FAILED = "failed: "  # nothing more is done for the park in this run
WITHOUT_WEATHER = "weather failed: "  # it goes on with the run it has
WITHOUT_GENERATION = "no generation: "  # it goes on with what it has, which may be nothing
_PAUSES_S = (1.0, 4.0)
_LONGEST = 500  # characters of a status
_SHORTEST = 20
_ALL_STATUSES = 96_000  # bytes of the statuses of all parks together, with their ids
MOST_BYTES = 120_000  # KFP hands a task its inputs as one word of a command line, and Linux ends a word at 128 KiB
_MOST_NOTES = 50  # in a report
_FEATURIZED_AT_ONCE = 10  # parks of one commit: each rewrites files, and all their rows are held in memory
_LATE_DAYS = 7  # a park that has metered nothing healthy for so long is named
_T = TypeVar("_T")


class Weather(NamedTuple):
    """Which source of weather a shard asks, with options; both are known to be right."""

    name: str
    options: dict[str, Any]

    @classmethod
    def of(cls, name: str, options: dict[str, Any], settings: Settings) -> Weather:
        """As named, or that of the settings where no name is given.

        Raises
        ------
        InvalidInput
            no such source, or options it does not take.
        """
        from pvforecast.sources.catalogue import weather_source

        chosen = cls(name, options) if name else cls(settings.weather_source, settings.weather_options)
        weather_source(*chosen, settings)
        return chosen


def plan(
    lake: Lake,
    parks: Sequence[str],
    since: str,
    as_of: str,
    source_name: str,
    source_options: dict[str, Any],
    weather: Weather,
    parks_per_shard: int,
    recipe: dict[str, Any],
    publish: bool,
    until: str = "",
) -> list[Shard]:
    """Shards of at most `parks_per_shard` parks, fully resolved; see the component `plan`.

    A status is cut to as many characters as keep those of the whole fleet within what one task can be handed.

    Raises
    ------
    UnknownPark
        a named park is not registered.
    InvalidInput
        a time without offset, times not in their order, an unknown source or setting, no park at all, shards of less
        than one park, or so many shards or parks that KFP could not hand them on.
    """
    from pvforecast import fleet
    from pvforecast.sources.catalogue import generation_source

    generation_source(source_name, source_options)
    recipe_of(recipe)
    _in_order(since, until, as_of)
    size = int(parks_per_shard)
    if size < 1:
        raise InvalidInput(f"{parks_per_shard!r} is not at least 1", field="parks_per_shard", hint="e.g. 50")
    known = fleet.registered(lake)
    registered = [park.id for park in known]
    chosen = sorted(set(parks)) or [park.id for park in known if not park.retired]
    unknown = sorted(set(chosen) - set(registered))
    if unknown:
        names = ", ".join(registered) or "none"
        raise UnknownPark(f"no park {unknown[0]!r}", field="parks", hint=f"registered: {names}")
    if not chosen:
        raise InvalidInput("no park is registered", field="parks", hint="add one: pvf park add")
    common = {
        "since": since,
        "until": until or as_of,
        "as_of": as_of,
        "source": source_name,
        "source_options": source_options,
        "weather_source": weather.name,
        "weather_options": weather.options,
        "recipe": recipe,
        "publish": publish,
        "status_length": _status_length(chosen),
    }
    made = [{"parks": chosen[i : i + size], **common} for i in range(0, len(chosen), size)]
    length = len(json.dumps(made))
    if length > MOST_BYTES:
        raise InvalidInput(
            f"{size} makes {len(made)} shards of {length:,} bytes, more than the {MOST_BYTES:,} that KFP hands on",
            field="parks_per_shard",
            hint="raise it, or name fewer parks",
        )
    return made


def _status_length(park_ids: Sequence[str]) -> int:
    """Characters that each park's status may have, so that one task can be handed those of all parks."""
    ids = sum(len(json.dumps(park_id)) + len(': "", ') for park_id in park_ids)
    if ids + _SHORTEST * len(park_ids) > MOST_BYTES:
        raise InvalidInput(
            f"{len(park_ids):,} parks in one run are more than KFP hands on",
            field="parks",
            hint="name fewer, in several runs",
        )
    return min(_LONGEST, max(_SHORTEST, (_ALL_STATUSES - ids) // len(park_ids)))


def _in_order(since: str, until: str, as_of: str) -> None:
    now = instant(as_of, "as_of")
    begin, end = instant(since, "since"), instant(until or as_of, "until")
    if begin >= now:
        raise InvalidInput(f"{since!r} is not before as_of", field="since", hint=f"as_of is {as_of}")
    if begin >= end:
        raise InvalidInput(f"{since!r} is not before until", field="since", hint=f"until is {until}")
    if end > now:
        raise InvalidInput(f"{until!r} is after as_of", field="until", hint=f"as_of is {as_of}")


def ingest_weather(lake: Lake, settings: Settings, shard: Shard, report_path: str) -> Status:
    """See the component `ingest_weather`."""
    from pvforecast import fleet, ingestion
    from pvforecast.sources.catalogue import weather_source

    status = dict.fromkeys(shard["parks"], OK)
    origin = weather_source(shard["weather_source"], shard["weather_options"], settings)
    since, until = instant(shard["since"], "since"), instant(shard["until"], "until")
    parks = [park for park in fleet.registered(lake) if park.id in status]
    lines = [f"Source: {origin.name}. {origin.attribution}".strip(), "", "| park | new weather rows |", "|---|---|"]
    try:
        report = _patiently(lambda: ingestion.ingest_weather(lake, origin, parks, since, until), "the shard")
    except Exception as error:  # noqa: BLE001 - whatever the source does, generation must go on
        _log.exception("no weather for the shard")
        status = dict.fromkeys(status, _said(WITHOUT_WEATHER, f"{type(error).__name__}: {error}", shard))
    else:
        status |= {park_id: _said(WITHOUT_WEATHER, why, shard) for park_id, why in report.failed.items()}
        lines += [f"| {park_id} | {rows} |" for park_id, rows in report.rows.items()]
        lines += ["", *(f"- {note}" for note in report.notes[:_MOST_NOTES])] if report.notes else []
    _write(report_path, lines, status)
    return status


def ingest_generation(lake: Lake, shard: Shard, status: Status, report_path: str) -> Status:
    """See the component `ingest_generation`."""
    from pvforecast.sources.catalogue import generation_source

    origin = generation_source(shard["source"], shard["source_options"])
    since, until = instant(shard["since"], "since"), instant(shard["until"], "until")
    lines = ["| park | new generation rows |", "|---|---|"]

    def load(park: Park) -> None:
        from pvforecast import ingestion

        assert origin is not None
        report = ingestion.ingest_generation(lake, origin, park, since, until)
        lines.append(f"| {park.id} | {report.rows} |")

    status = status if origin is None else _each(lake, shard, status, load)
    _write(report_path, lines if origin else ["Nothing is pulled: the parks push it, or files bring it."], status)
    return status


def validate(
    lake: Lake,
    shard: Shard,
    status: Status,
    report_path: str,
    page_path: str = "",
    log: Callable[[str, float], None] | None = None,
    *,
    correct_clocks: bool = True,
) -> Status:
    """See the component `validate`."""
    from pvforecast import refining
    from pvforecast.validation import report as reporting

    since, until = instant(shard["since"], "since"), instant(shard["until"], "until")
    by_park: dict[str, ValidationReport] = {}

    def check(parks: Sequence[Park]) -> None:
        made = refining.validate(lake, parks, since, until, correct_clocks=correct_clocks)
        by_park.update({report.park_id: report for report in made})

    status = _together(lake, shard, status, check)
    told = [*by_park.values()], refining.seasons(lake, [*by_park], until)
    _write(report_path, reporting.markdown(*told).splitlines(), status)
    if page_path:
        Path(page_path).parent.mkdir(parents=True, exist_ok=True)
        Path(page_path).write_text(reporting.page(*told))
    if log is not None:
        for name, value in reporting.metrics(*told).items():
            log(name, value)
    return status


def featurize(lake: Lake, shard: Shard, status: Status) -> Status:
    """See the component `featurize`."""
    from pvforecast import preparing

    recipe, as_of = recipe_of(shard["recipe"]), as_datetime64(shard["as_of"])
    prepared: dict[str, preparing.Prepared] = {}

    def build(parks: Sequence[Park]) -> None:
        prepared.update(preparing.featurize(lake, [park.id for park in parks], as_of, recipe))

    status = _together(lake, shard, status, build, _FEATURIZED_AT_ONCE)
    late = {park: _lateness(made.metered_until, as_of) for park, made in prepared.items() if status[park] == OK}
    return status | {park: _said(WITHOUT_GENERATION, why, shard) for park, why in late.items() if why}


def publish_snapshots(lake: Lake, store: ObjectStore, shard: Shard, status: Status) -> Status:
    """See the component `publish_snapshots`."""
    if not shard["publish"]:
        return status
    from pvforecast import preparing

    as_of = as_datetime64(shard["as_of"])
    return _together(
        lake,
        shard,
        status,
        lambda parks: preparing.publish_snapshots(lake, store, [park.id for park in parks], as_of),
    )


def tally(statuses: Sequence[Status], quorum: float = 0.0, needs_weather: bool = True) -> Status:
    """The parks that did not come through whole, with their status: those that failed, and those without new weather.

    Parameters
    ----------
    quorum : share of the parks, 0–1, that must not have failed.
    needs_weather : whether a run in which no park got new weather is a failure.

    Raises
    ------
    NotEnoughData
        no park came through whole (a source that is down is no green run), or fewer than the quorum.
    InvalidInput
        a quorum that is no share.
    """
    if not 0 <= quorum <= 1:
        raise InvalidInput(f"{quorum!r} is no share", field="quorum", hint="0.5: at least half of the parks")
    states = {park: state for status in statuses for park, state in status.items()}
    reported = {park: state for park, state in states.items() if state != OK}
    failed = [park for park, state in reported.items() if not goes_on(state)]
    came = len(states) - (len(reported) if needs_weather else len(failed))
    if came == 0:
        raise NotEnoughData(f"no park came through: {reported}", field="statuses", hint="see the reports of the shards")
    share = 1 - len(failed) / len(states)
    if share < quorum:
        raise NotEnoughData(
            f"{len(failed)} of {len(states)} parks failed, and {quorum:.0%} must come through: {reported}",
            field="quorum", hint="mend them, or lower it: PVF_QUORUM",
        )  # fmt: skip
    return reported


def left_out(statuses: Sequence[Status]) -> Status:
    """The parks that failed, with their status; those without new weather go on.

    Raises
    ------
    NotEnoughData
        all parks failed.
    """
    states = {park: state for status in statuses for park, state in status.items()}
    failed = {park: state for park, state in states.items() if not goes_on(state)}
    if len(failed) == len(states):
        raise NotEnoughData(f"no park came through: {failed}", field="statuses", hint="see the reports of the shards")
    return failed


def without_generation(statuses: Sequence[Status]) -> Status:
    """The parks that metered nothing lately, or nothing at all, with their status."""
    states = {park: state for status in statuses for park, state in status.items()}
    return {park: state for park, state in states.items() if state.startswith(WITHOUT_GENERATION)}


def goes_on(state: str) -> bool:
    """Whether the steps that follow are done for a park with this state."""
    return not state.startswith(FAILED)


def recipe_of(changes: dict[str, Any]) -> Recipe:
    """The default recipe with some settings changed.

    Raises
    ------
    InvalidInput
        a setting that a recipe does not have, or a value that it can't have.
    """
    from pvforecast.model.recipe import Recipe

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


def _together(
    lake: Lake, shard: Shard, before: Status, work: Callable[[Sequence[Park]], object], at_once: int | None = None
) -> Status:
    """Do `work` for the parks that go on, `at_once` of them; where that fails, for each alone, to find the culprit."""
    from pvforecast import fleet

    chosen = [park for park in fleet.registered(lake) if park.id in before and goes_on(before[park.id])]
    size, status = at_once or max(len(chosen), 1), before
    for group in (chosen[begin : begin + size] for begin in range(0, len(chosen), size)):
        try:
            _patiently(partial(work, group), "the shard")
        except Exception:  # noqa: BLE001 - one park's data must not stop the others
            _log.exception("parks of the shard failed together: each alone")
            status = status | _each(lake, shard, {p.id: before[p.id] for p in group}, lambda park: work([park]))
    return status


def _each(lake: Lake, shard: Shard, before: Status | None, work: Callable[[Park], object]) -> Status:
    """Do `work` for each park that goes on; what fails is a status, not an exception."""
    from pvforecast import fleet

    parks = {park.id: park for park in fleet.registered(lake)}
    status = dict(before or dict.fromkeys(shard["parks"], OK))
    for park_id in [park_id for park_id, state in status.items() if goes_on(state)]:
        try:
            _patiently(partial(work, parks[park_id]), f"park {park_id}")
        except Exception as error:  # noqa: BLE001 - whatever one park's data does, the others must go on
            _log.exception("park %s failed", park_id)
            status[park_id] = _said(FAILED, f"{type(error).__name__}: {error}", shard)
    return status


def _patiently(work: Callable[[], _T], who: str) -> _T:
    """KFP does not retry inside a loop (kubeflow/pipelines#13897), so what may pass is tried again here."""
    for pause in _PAUSES_S:
        try:
            return work()
        except NotReady as error:
            _log.warning("%s: %s; again in %s s", who, error, pause)
            time.sleep(pause)
    return work()


def _lateness(metered_until: np.datetime64 | None, as_of: np.datetime64) -> str:
    """Why a park has too little of its own to learn from; empty where it has enough."""
    if metered_until is None:
        return "nothing healthy was ever metered under a weather run"
    if as_of - metered_until > np.timedelta64(_LATE_DAYS * 86_400, "s"):
        return f"nothing healthy was metered since {metered_until}Z"
    return ""


def _said(what: str, why: str, shard: Shard) -> str:
    return f"{what}{why}"[: int(shard.get("status_length", _LONGEST))]


def _write(path: str, lines: list[str], status: Status) -> None:
    failed = [f"- {park}: {state}" for park, state in status.items() if state != OK]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join([*lines, *([""] if failed else []), *failed]) + "\n")
