"""One training run, step by step: features into the lake, challenger, evaluation, comparison, refit, promotion.

Each function is the whole work of one pipeline task. Time comes in as `as_of`; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pvforecast import dataset
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.evaluation import compare as comparing
from pvforecast.evaluation import metrics, report
from pvforecast.evaluation.backtest import (
    DAY_AHEAD_HOURS,
    Scores,
    metered_daylight,
    predict,
    score,
)
from pvforecast.evaluation.compare import Comparison
from pvforecast.known import HOUR, ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import GENERATION, WEATHER, features
from pvforecast.model import bundle as bundles
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotion, Promotions, reconcile
from pvforecast.tracking import Tracking, git_commit, to_json

HOLDOUT_DAYS = 28
_DAY = 24 * HOUR


@dataclass(frozen=True)
class Window:
    """What a challenger is judged on: trained on what was known at `holdout_from`, scored on days up to `as_of`."""

    holdout_from: np.datetime64
    as_of: np.datetime64


def window(as_of: np.datetime64, champion: Bundle | None, recipe: Recipe) -> Window:
    """The hold-out of this run.

    Without a champion, or against another recipe: the last `HOLDOUT_DAYS`. A refresh is judged on the later half of
    the days that the champion has not seen, so that the challenger has learned from the earlier half.

    Raises
    ------
    InvalidInput
        `as_of` lies before what the champion was trained on: it would be judged on its own training data.
    """
    if champion is not None and as_of < np.datetime64(champion.info["trained_until"], "s"):
        raise InvalidInput(
            f"{as_of} lies before {champion.info['trained_until']}, up to which the champion has learned",
            field="as_of",
            hint="train as of a later time, or roll back first: pvf model rollback",
        )
    days = HOLDOUT_DAYS
    if champion is not None and champion.info["recipe_hash"] == recipe.hash:
        unseen = int((as_of - np.datetime64(champion.info["trained_until"], "s")) / _DAY)
        days = min(HOLDOUT_DAYS, max(1, unseen // 2))
    return Window(as_of - days * _DAY, as_of)


def stored_rows(lake: Lake, recipe: Recipe, parks: Sequence[str], version: int | None = None) -> dataset.Rows:
    """Stored feature rows of `parks`."""
    table = features(recipe.spec.names)
    frames = [lake.read(table, park_id=park, version=version).to_pandas(use_threads=False) for park in sorted(parks)]
    parts = [dataset.from_frame(frame, recipe.spec) for frame in frames if len(frame)]
    if not parts:
        raise NotEnoughData("no feature rows stored", field="parks", hint="did ingestion and featurize succeed?")
    return dataset.concat(parts)


def data_versions(lake: Lake, recipe: Recipe) -> dict[str, int]:
    """Versions of the tables a training run stands on."""
    return {table.name: lake.version(table) for table in (GENERATION, WEATHER, features(recipe.spec.names))}


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
) -> dict[str, Any]:
    """Fit the challenger on what was known before the hold-out; returns the references that later steps need.

    The champion is read once, here: hold-out, comparison and promotion are all about the same one.
    """
    current = promotions.current()
    champion = bundles.load(store, current.bundle_uri) if current else None
    judged_on = window(as_of, champion, recipe)
    versions = data_versions(lake, recipe)
    run_id = tracking.start_run(
        f"training {as_of}",
        {
            "as_of": as_of,
            "holdout_from": judged_on.holdout_from,
            "parks": to_json(sorted(parks)),
            "recipe_hash": recipe.hash,
            **{k: v for k, v in recipe.as_dict().items() if k != "spec"},
            "spec": recipe.spec.hash,
        },
        {"reason": reason, "event_id": event_id, "data_versions": to_json(versions)},
    )
    with tracking.ending(run_id):
        rows = stored_rows(lake, recipe, parks, versions["features"])
        challenger = train(rows, recipe, judged_on.holdout_from, _info(versions, "challenger, before the hold-out"))
        uri = bundles.save(store, challenger)
        tracking.log(run_id, tags={"challenger_uri": uri})
    return {
        "run_id": run_id,
        "as_of": str(as_of),
        "holdout_from": str(judged_on.holdout_from),
        "challenger_uri": uri,
        "champion_uri": current.bundle_uri if current else "",
        "predecessor_id": current.id if current else 0,
        "data_versions": versions,
    }


def evaluate(
    lake: Lake, store: ObjectStore, tracking: Tracking, job: dict[str, Any], parks: Sequence[str]
) -> list[Scores]:
    """Score the challenger on the hold-out, beside the baselines; logged to the run."""
    challenger = bundles.load(store, job["challenger_uri"])
    results = []
    for park_id in sorted(parks):
        record = records.load(lake, park_id)
        issues = _holdout_issues(record, job)
        if metered_daylight(record, issues):
            results.append(score(challenger, record, issues))
    if not results:
        raise NotEnoughData("nothing was metered in the hold-out", field="as_of", hint="is generation arriving?")
    logged = {f"holdout.{s.park_id}.{name}": value for s in results for name, value in s.model.items()}
    logged |= {f"holdout.{s.park_id}.skill": s.skill for s in results}
    tracking.log(job["run_id"], metrics=logged, text={"report/holdout.md": report.scores(results)})
    return results


def compare(
    lake: Lake,
    store: ObjectStore,
    tracking: Tracking,
    job: dict[str, Any],
    recipe: Recipe,
    parks: Sequence[str],
) -> Comparison:
    """The verdict; logged to the run."""
    challenger = bundles.load(store, job["challenger_uri"])
    if not job["champion_uri"]:
        results = evaluate(lake, store, tracking, job, parks)
        hours = np.array([s.model["daylight_hours"] for s in results])
        ours = np.array([s.model["daylight_nmae"] for s in results])
        theirs = np.array([s.baselines["smart_persistence"] for s in results])
        outcome = comparing.first(float(np.average(ours, weights=hours)), float(np.average(theirs, weights=hours)))
    else:
        champion = bundles.load(store, job["champion_uri"])
        same = champion.info["recipe_hash"] == recipe.hash
        rival = champion if same else _retrained(lake, champion, parks, np.datetime64(job["holdout_from"], "s"))
        parts = [_losses(records.load(lake, park), challenger, rival, job) for park in sorted(parks)]
        ours, theirs, day, park = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        outcome = comparing.compare(ours, theirs, day, park, same_recipe=same)
    tracking.log(
        job["run_id"],
        tags={"verdict": outcome.verdict, "verdict_reason": outcome.reason},
        metrics={"compare.difference": outcome.difference, "compare.days": outcome.days},
        text={"report/verdict.md": report.comparison(outcome)},
    )
    return outcome


def refit(
    lake: Lake, store: ObjectStore, tracking: Tracking, job: dict[str, Any], recipe: Recipe, parks: Sequence[str]
) -> str:
    """Fit the winning recipe on everything known at `as_of`; returns the URI of the bundle that will serve.

    Reads the versions that were judged, whatever was written since: equal versions give an equal bundle.
    """
    versions = {name: int(version) for name, version in job["data_versions"].items()}
    rows = stored_rows(lake, recipe, parks, versions["features"])
    uri = bundles.save(store, train(rows, recipe, np.datetime64(job["as_of"], "s"), _info(versions, "serving")))
    tracking.log(job["run_id"], tags={"bundle_uri": uri})
    return uri


def promote(
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    job: dict[str, Any],
    *,
    bundle_uri: str,
    verdict: str,
    reason: str,
    actor: str,
    event_id: str,
) -> Promotion:
    """Register the bundle and make it champion, if the champion is still the one that was compared with.

    Safe to repeat: a run that promoted and then died before serving was told only tells it.

    Raises
    ------
    PromotionConflict
        another run promoted since.
    """
    current = promotions.current()
    if current is not None and current.mlflow_run_id == job["run_id"]:
        reconcile(promotions, tracking, store)
        return current
    bundle = bundles.load(store, bundle_uri)
    version = tracking.register(
        job["run_id"],
        bundle_uri,
        {"bundle_id": bundle.bundle_id, "trained_until": bundle.info["trained_until"], "verdict": verdict},
    )
    promotion = promotions.promote(
        int(job["predecessor_id"]),
        model_version=version,
        bundle_uri=bundle_uri,
        bundle_id=bundle.bundle_id,
        verdict=verdict,
        reason=reason,
        actor=actor,
        mlflow_run_id=job["run_id"],
        event_id=event_id,
    )
    reconcile(promotions, tracking, store)
    return promotion


def _info(versions: dict[str, int], purpose: str) -> dict[str, Any]:
    return {"data_versions": versions, "git_commit": git_commit(), "purpose": purpose}


def _retrained(lake: Lake, champion: Bundle, parks: Sequence[str], as_of: np.datetime64) -> Bundle:
    """The champion's recipe on the data that the challenger had."""
    recipe = Recipe.from_dict(champion.info["recipe"])
    rows = dataset.training_rows([records.load(lake, park) for park in parks], recipe.spec, as_of)
    return train(rows, recipe, as_of)


def _losses(record: ParkRecord, challenger: Bundle, champion: Bundle, job: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Pinball loss of both on the same metered daylight hours and levels, with issue time and park of each row."""
    issues = _holdout_issues(record, job)
    levels = tuple(level for level in challenger.quantiles if level in champion.quantiles)
    columns = []
    for model in (challenger, champion):
        rows = dataset.build(record, model.spec, issues, DAY_AHEAD_HOURS)
        rows = rows.where(rows.daylight & ~np.isnan(rows.target))
        common = predict(model, rows)[:, [model.quantiles.index(level) for level in levels]]
        columns.append(metrics.pinball(rows.target, common, levels))
    return columns[0], columns[1], rows.issued_at, rows.park_id


def _holdout_issues(record: ParkRecord, job: dict[str, Any]) -> list[np.datetime64]:
    """Issue times whose 24 hours lie before `as_of`."""
    begin, end = np.datetime64(job["holdout_from"], "s"), np.datetime64(job["as_of"], "s")
    return [issue for issue in dataset.daily_issues(record, begin, end) if issue + _DAY <= end]
