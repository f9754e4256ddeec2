"""One training run, step by step: challenger, evaluation, comparison, refit.

Each function is the whole work of one pipeline task. Time comes in as `as_of`; nothing here reads a clock. What follows
a won comparison is `pvforecast.promoting`.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pvforecast import dataset, level_changes, model_card, provenance
from pvforecast.errors import BundleError, InvalidInput, NotEnoughData
from pvforecast.evaluation import compare as comparing
from pvforecast.evaluation import holdout, pages, pictures, report
from pvforecast.evaluation.backtest import Scores, metered_daylight, score
from pvforecast.evaluation.compare import Comparison
from pvforecast.evaluation.rolling import ParkForecasts
from pvforecast.evaluation.table import of_forecasts
from pvforecast.features.spec import extra_of
from pvforecast.known import HOUR, ParkRecord
from pvforecast.lake import Lake, records, versions
from pvforecast.lake.store import of_parks
from pvforecast.lake.tables import DRIFT_SCORES, GENERATION, WEATHER, features
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.model.levels import Change
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import drawn, train
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotion, Promotions
from pvforecast.tracking import Tracking, to_json

HOLDOUT_DAYS = 120
"""Against another recipe: in so many days a recipe better by 3 % is promoted in more than 80 % of trials
(`make bench NAME=champion`)."""
FIRST_DAYS = REFRESH_DAYS = 28
_DAY = 24 * HOUR


@dataclass(frozen=True)
class Window:
    """What a challenger is judged on: trained on what was known at `holdout_from`, scored on days up to `as_of`."""

    holdout_from: np.datetime64
    as_of: np.datetime64


def window(as_of: np.datetime64, champion: Bundle | None, recipe: Recipe, since: np.datetime64) -> Window:
    """The hold-out of this run.

    Without a champion the last `FIRST_DAYS`, against another recipe the last `HOLDOUT_DAYS`, but not more than half, or
    a third, of the history, which begins at `since`. A refresh is judged on the later half of the days that the
    champion has not seen, at most `REFRESH_DAYS`, so that the challenger has learned from the earlier half; on as many
    as the verdict needs where half of them are fewer. Drift that is found within days is no reason to keep; what is
    judged then is hardly more than that the recipe still works.

    Raises
    ------
    InvalidInput
        `as_of` lies before what the champion was trained on: it would be judged on its own training data.
    """
    history = int((as_of - since) / _DAY)
    if champion is None:
        return Window(as_of - max(1, min(FIRST_DAYS, history // 2)) * _DAY, as_of)
    seen_until = np.datetime64(champion.info["trained_until"], "s")
    if as_of < seen_until:
        raise InvalidInput(
            f"{as_of} lies before {seen_until}, up to which the champion has learned",
            field="as_of",
            hint="train as of a later time, or roll back first: pvf model rollback",
        )
    if champion.info["recipe_hash"] == recipe.hash:
        unseen = int((as_of - seen_until) / _DAY)
        needed = comparing.MIN_REFRESH_DAYS + 1  # the last is not metered yet
        days = min(REFRESH_DAYS, unseen, max(unseen // 2, needed))
    else:
        days = min(HOLDOUT_DAYS, history // 3)
    return Window(as_of - max(1, days) * _DAY, as_of)


def stored_rows(
    lake: Lake, recipe: Recipe, parks: Sequence[str], until: np.datetime64, version: int | None = None
) -> dataset.Rows:
    """Stored feature rows of `parks` to learn from at `until`; of large fleets no more of a park than its share.

    A training draws `booster_rows`. Of parks that together have more, only so many are kept that twice as many would
    still be there: memory does not grow with the fleet.
    """
    table = features(recipe.spec.names)
    most = -(-2 * recipe.booster_rows // max(len(parks), 1))
    parts = []
    for park in sorted(parks):
        frame = lake.read(table, park_id=park, version=version).to_pandas(use_threads=False)
        rows = dataset.known_by(dataset.from_frame(frame, recipe.spec), until) if len(frame) else None
        if rows:
            parts.append(drawn(rows, most, recipe.seed + zlib.crc32(park.encode())))
    if not parts:
        raise NotEnoughData(
            f"no metered feature rows before {until}", field="parks", hint="did ingestion and featurize succeed?"
        )
    return dataset.concat(parts)


def history_begins(lake: Lake, parks: Sequence[str], version: int) -> np.datetime64:
    """The first issue time of the stored feature rows of `parks`.

    Raises
    ------
    NotEnoughData
        there are none.
    """
    found = lake.query(features(()), f"SELECT min(issued_at) AS first FROM t WHERE {of_parks(parks)}", version=version)
    first = found["first"][0].as_py() if found is not None else None
    if first is None:
        raise NotEnoughData("no feature rows stored", field="parks", hint="did ingestion and featurize succeed?")
    return np.datetime64(int(first.timestamp()), "s")


def _with_stored_columns(lake: Lake, recipe: Recipe) -> Recipe:
    """The recipe with the free weather columns that some park's stored rows have."""
    delta = lake.delta(features(()))
    stored = [extra_of(field.name) for field in delta.schema().fields] if delta else []
    return recipe.with_columns({column for column, _ in filter(None, stored)})


def data_versions(lake: Lake, recipe: Recipe) -> dict[str, int]:
    """Versions of the tables a training run stands on."""
    tables = (GENERATION, WEATHER, features(recipe.spec.names), DRIFT_SCORES)
    return {table.name: lake.version(table) for table in tables}


def train_challenger(
    lake: Lake,
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    *,
    recipe: Recipe,
    parks: Sequence[str],
    as_of: np.datetime64,
    reason: str,
    event_id: str,
    actor: str = "",
    pipeline_run: str = "",
) -> dict[str, Any]:
    """Fit the challenger on what was known before the hold-out; returns the references that later steps need.

    The champion is read once, here: hold-out, comparison and promotion are all about the same one. A training that was
    killed and is started again goes on in its own MLflow run, with the table versions and the champion it began with.

    Parameters
    ----------
    actor : who started it by hand.
    pipeline_run : id of the pipeline's run.
    """
    recipe = _with_stored_columns(lake, recipe)
    key = _key(as_of, recipe, parks, data_versions(lake, recipe), event_id)
    begun = _begun(tracking, promotions, key)
    if begun is None:
        current = promotions.current()
        table_versions = data_versions(lake, recipe)
        run_id = tracking.start_run(
            f"training {as_of}",
            {
                "as_of": as_of,
                "parks": to_json(sorted(parks)),
                "recipe_hash": recipe.hash,
                **{k: v for k, v in recipe.as_dict().items() if k != "spec"},
                "spec": recipe.spec.hash,
                "predecessor_id": current.id if current else 0,
            },
            {
                **_origin(reason, event_id, actor, pipeline_run),
                "data_versions": to_json(table_versions),
                "training_key": key,
            },
        )
    else:
        run_id, current, table_versions = begun
    champion, unreadable = _loaded(store, current)
    with tracking.ending(run_id):
        judged_on = window(as_of, champion, recipe, history_begins(lake, parks, table_versions["features"]))
        rows = stored_rows(lake, recipe, parks, judged_on.holdout_from, table_versions["features"])
        info = _info(table_versions, "challenger, before the hold-out")
        told = _told(lake, parks, judged_on.holdout_from, table_versions)
        challenger = train(rows, recipe, judged_on.holdout_from, info, told=told)
        uri = bundles.save(store, challenger)
        environment = provenance.environment()
        tracking.log(
            run_id,
            params={"holdout_from": judged_on.holdout_from},
            tags={
                "challenger_uri": uri,
                "environment_hash": provenance.environment_hash(environment),
                "champion_unreadable": unreadable,
            },
            text={
                "environment.txt": environment,
                "spec.json": to_json(recipe.as_dict()["spec"] | {"hash": recipe.spec.hash}),
                "data.json": to_json([reference.as_dict() for reference in versions.of_bundle(challenger.info)]),
            },
        )
    return {
        "run_id": run_id,
        "as_of": str(as_of),
        "holdout_from": str(judged_on.holdout_from),
        "challenger_uri": uri,
        "champion_uri": current.bundle_uri if current and champion else "",
        "champion_unreadable": unreadable,
        "predecessor_id": current.id if current else 0,
        "data_versions": table_versions,
    }


@dataclass(frozen=True)
class Evaluated:
    """The challenger on the hold-out.

    Attributes
    ----------
    results : scores of each park that was metered.
    nmae : daylight nMAE over all parks, of the model and of smart persistence.
    page : the report as HTML, with plots.
    """

    results: list[Scores]
    nmae: dict[str, float]
    page: str


def evaluate(
    lake: Lake, store: ObjectStore, tracking: Tracking, job: dict[str, Any], parks: Sequence[str]
) -> Evaluated:
    """Score the challenger on the hold-out, beside the baselines; logged to the run: overall, by park and by lead."""
    challenger = bundles.load(store, job["challenger_uri"])
    begin, end = _holdout(job)
    results, parts, tables = [], [], []
    shown: dict[str, ParkForecasts] = {}
    zones = {}
    for record in _metered(lake, parks, begin, end):
        results.append(score(challenger, record, holdout.issues(record, begin, end)))
        forecast = pictures.forecasts(challenger, record, begin, end)
        parts.append(pictures.as_scored(forecast, end))
        tables.append(of_forecasts(forecast))
        if len(shown) < pictures.FANS:
            shown[forecast.park_id], zones[forecast.park_id] = forecast, record.site.timezone
    logged = {f"holdout.{s.park_id}.{name}": value for s in results for name, value in s.model.items()}
    logged |= {f"holdout.{s.park_id}.skill": s.skill for s in results}
    leads = holdout.by_lead(parts, challenger.quantiles)
    logged |= {f"{part}/{name}": value for part, scores in leads.items() for name, value in scores.items()}
    logged["overall/skill"] = _skill(results)
    page = pages.holdout(results, leads, pictures.of_holdout(challenger, tables, shown, zones))
    text = {"report/holdout.md": report.scores(results), "report/holdout.html": page}
    tracking.log(job["run_id"], metrics=logged, text=text)
    return Evaluated(results, _overall(results), page)


def _metered(lake: Lake, parks: Sequence[str], begin: np.datetime64, end: np.datetime64) -> Iterator[ParkRecord]:
    """Records of the parks with something to score; raises NotEnoughData when there are none."""
    found = False
    for park_id in sorted(parks):
        record = records.load(lake, park_id)
        if metered_daylight(record, holdout.issues(record, begin, end)):
            found = True
            yield record
    if not found:
        raise NotEnoughData("nothing was metered in the hold-out", field="as_of", hint="is generation arriving?")


def _overall(results: Sequence[Scores]) -> dict[str, float]:
    return {"model": _mean_nmae(results), "smart_persistence": _mean_nmae(results, "smart_persistence")}


def compare(
    lake: Lake,
    store: ObjectStore,
    tracking: Tracking,
    job: dict[str, Any],
    parks: Sequence[str],
) -> Comparison:
    """The verdict; logged to the run.

    Costs, where the champion has another recipe: fitting that once more; and its features, if its spec differs.
    """
    challenger = bundles.load(store, job["challenger_uri"])
    recipe = Recipe.from_dict(challenger.info["recipe"])
    if not job["champion_uri"]:
        nmae = job.get("nmae")  # of `evaluate`, where the pipeline has it
        if nmae is None:
            begin, end = _holdout(job)
            nmae = _overall(
                [score(challenger, r, holdout.issues(r, begin, end)) for r in _metered(lake, parks, begin, end)]
            )
        lost = job.get("champion_unreadable", "")
        why = f"the champion cannot be scored ({lost})" if lost else "first model"
        outcome = comparing.first(nmae["model"], nmae["smart_persistence"], why)
    else:
        champion = bundles.load(store, job["champion_uri"])
        same = champion.info["recipe_hash"] == recipe.hash
        begin, end = _holdout(job)
        rival = champion if same else _retrained(lake, champion, recipe, parks, job)
        parts = [holdout.losses(records.load(lake, park), [challenger, rival], begin, end) for park in sorted(parks)]
        outcome = judge(parts, same_recipe=same)
    tracking.log(
        job["run_id"],
        tags={"verdict": outcome.verdict, "verdict_reason": outcome.reason},
        metrics={"compare.difference": outcome.difference, "compare.days": outcome.days},
        text={
            "report/verdict.md": report.comparison(outcome),
            "report/verdict.html": pages.verdict(outcome),
            "report/verdict.json": to_json(outcome.as_dict()),
        },
    )
    return outcome


def judge(parts: Sequence[holdout.Losses], *, same_recipe: bool) -> Comparison:
    """The verdict on the losses of two models, challenger first, in each park."""
    ours, theirs = (np.concatenate([part.models[model] for part in parts]) for model in (0, 1))
    park = np.concatenate([np.full(len(part.day), part.park_id, object) for part in parts])
    return comparing.compare(ours, theirs, np.concatenate([part.day for part in parts]), park, same_recipe=same_recipe)


def keep_challenger(
    store: ObjectStore, tracking: Tracking, promotions: Promotions, job: dict[str, Any], outcome: Comparison
) -> int:
    """Register a challenger that does not serve, under the alias `challenger`: it can be looked at and compared.

    Repeated for the same bundle it is the same version.
    """
    challenger = bundles.load(store, job["challenger_uri"])
    with promotions.exclusive():
        version = tracking.register(
            job["run_id"],
            job["challenger_uri"],
            {
                "bundle_id": challenger.bundle_id,
                "trained_until": challenger.info["trained_until"],
                "recipe_hash": challenger.info["recipe_hash"],
                "verdict": outcome.verdict,
                "verdict_reason": outcome.reason,
            },
        )
        current = promotions.current()
        if current is None or current.model_version != version:
            tracking.set_challenger(version)
    tracking.log(
        job["run_id"],
        tags={"bundle_uri": job["challenger_uri"], "model_version": str(version)},
        text=model_card.files(challenger, job["challenger_uri"], job["run_id"]),
    )
    return version


def refit(lake: Lake, store: ObjectStore, tracking: Tracking, job: dict[str, Any], parks: Sequence[str]) -> str:
    """Fit the winning recipe on everything known at `as_of`; returns the URI of the bundle that will serve.

    Reads the versions that were judged, whatever was written since: equal versions give an equal bundle.
    """
    table_versions = {name: int(version) for name, version in job["data_versions"].items()}
    recipe = Recipe.from_dict(bundles.load(store, job["challenger_uri"]).info["recipe"])
    as_of = np.datetime64(job["as_of"], "s")
    rows = stored_rows(lake, recipe, parks, as_of, table_versions["features"])
    places = {park: (site.latitude, site.longitude) for park in parks for _, site in records.sites(lake, park)}
    told = _told(lake, parks, as_of, table_versions)
    bundle = train(rows, recipe, as_of, _info(table_versions, "serving"), places, told)
    uri = bundles.save(store, bundle)
    tracking.log(job["run_id"], tags={"bundle_uri": uri}, text=model_card.files(bundle, uri, job["run_id"]))
    return uri


def _loaded(store: ObjectStore, current: Promotion | None) -> tuple[Bundle | None, str]:
    """The champion's bundle; or why it can't be had, e.g. a format of another release: that must not end training."""
    if current is None:
        return None, ""
    try:
        return bundles.load(store, current.bundle_uri), ""
    except BundleError as error:
        return None, str(error)


def _key(
    as_of: np.datetime64, recipe: Recipe, parks: Sequence[str], table_versions: dict[str, int], event_id: str
) -> str:
    """One key for one piece of work. The feature table is left out: it is written anew, with the same rows."""
    sources = {name: version for name, version in table_versions.items() if name != "features"}
    work = to_json([str(as_of), recipe.hash, sorted(parks), sources, event_id, provenance.git_commit()])
    return hashlib.sha256(work.encode()).hexdigest()[:16]


def _begun(tracking: Tracking, promotions: Promotions, key: str) -> tuple[str, Promotion | None, dict[str, int]] | None:
    """Run, champion and table versions of the same training, if it was begun and has not ended without a promotion."""
    last = promotions.current()
    for run_id, status in tracking.runs_tagged("training_key", key):
        promoted = promotions.of_run(run_id)
        if promoted is None and status != "RUNNING":
            continue
        run = tracking.run(run_id)
        predecessor = promoted.predecessor if promoted else int(run["params"].get("predecessor_id", "-1"))
        if promoted is None and predecessor != (last.id if last else 0):
            continue  # another champion by now: that is another comparison
        named = {name: int(version) for name, version in json.loads(run["tags"]["data_versions"]).items()}
        return run_id, promotions.get(predecessor) if predecessor else None, named
    return None


def _origin(reason: str, event_id: str, actor: str, pipeline_run: str) -> dict[str, str]:
    tags = {"reason": reason, "event_id": event_id, "trigger": provenance.trigger(reason, event_id)}
    return tags | {"actor": actor, "pipeline_run": pipeline_run}


def _told(
    lake: Lake, parks: Sequence[str], as_of: np.datetime64, table_versions: Mapping[str, Any]
) -> dict[str, Change]:
    """Of a run that began before the scores were among its tables: nothing."""
    return level_changes.told(lake, parks, as_of, int(table_versions.get(DRIFT_SCORES.name, -1)))


def _info(table_versions: dict[str, int], purpose: str) -> dict[str, Any]:
    return {"data_versions": table_versions, "git_commit": provenance.git_commit(), "purpose": purpose}


def _retrained(lake: Lake, champion: Bundle, ours: Recipe, parks: Sequence[str], job: dict[str, Any]) -> Bundle:
    """The champion's recipe on the data that the challenger had."""
    recipe, until = Recipe.from_dict(champion.info["recipe"]), np.datetime64(job["holdout_from"], "s")
    if recipe.spec.hash == ours.spec.hash:
        rows = stored_rows(lake, recipe, parks, until, int(job["data_versions"]["features"]))
    else:
        rows = dataset.training_rows([records.load(lake, park) for park in parks], recipe.spec, until)
    return train(rows, recipe, until, told=_told(lake, parks, until, job["data_versions"]))


def _holdout(job: dict[str, Any]) -> tuple[np.datetime64, np.datetime64]:
    return np.datetime64(job["holdout_from"], "s"), np.datetime64(job["as_of"], "s")


def _mean_nmae(results: Sequence[Scores], baseline: str = "") -> float:
    """Daylight nMAE of the model, or of a baseline, over the daylight hours of all parks."""
    values = [s.baselines[baseline] if baseline else s.model["daylight_nmae"] for s in results]
    return float(np.average(values, weights=[s.model["daylight_hours"] for s in results]))


def _skill(results: Sequence[Scores]) -> float:
    reference = _mean_nmae(results, "smart_persistence")
    return 1.0 - _mean_nmae(results) / reference if reference > 0 else float("nan")
