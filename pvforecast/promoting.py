"""The one way to another champion: a training that won, a promotion by hand, a rollback.

    one at a time: Promotions.exclusive
        bundle loads, answers its golden rows    refused before anything is written; `pruning` deletes none meanwhile
        the predecessor is still the champion    PromotionConflict before a version is registered
        the version in MLflow                    the same bundle is the same version, however often this is repeated
        the row in `promotions`                  from here on it is the champion
    alias and deployed pointer                   follow; `reconcile` repairs what a crash left behind

Ended by force at any point and repeated, the same call gives the same row and the same version.
"""

from __future__ import annotations

from datetime import datetime

from pvforecast.errors import InvalidInput
from pvforecast.model import bundle as bundles
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotion, Promotions, reconcile
from pvforecast.tracking import Tracking


def deploy(
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    *,
    predecessor: int,
    bundle_uri: str,
    run_id: str,
    verdict: str,
    reason: str,
    actor: str,
    event_id: str = "",
    as_of: datetime | None = None,
) -> Promotion:
    """Make the bundle of a training run the champion, if the champion is still promotion `predecessor`.

    A run that promoted and then died before serving was told only tells it, whoever was promoted since.

    Raises
    ------
    PromotionConflict
        another promotion came in between; nothing was registered.
    BundleError
        the bundle is missing, damaged or answers differently here.
    """
    with promotions.exclusive():
        bundle = bundles.load(store, bundle_uri)
        promotion = promotions.of_run(run_id, bundle_uri)
        if promotion is None:
            promotions.expect(predecessor)
            described = {"bundle_id": bundle.bundle_id, "trained_until": bundle.info["trained_until"]}
            recipe = str(bundle.info.get("recipe_hash", ""))
            version = tracking.register(
                run_id, bundle_uri, {**described, "recipe_hash": recipe, "verdict": verdict, "verdict_reason": reason}
            )
            promotion = promotions.promote(
                predecessor,
                model_version=version,
                bundle_uri=bundle_uri,
                bundle_id=bundle.bundle_id,
                verdict=verdict,
                reason=reason,
                actor=actor,
                mlflow_run_id=run_id,
                event_id=event_id,
                as_of=as_of,
            )
    reconcile(promotions, tracking, store)
    return promotion


def promote_version(
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    number: int,
    *,
    actor: str,
    reason: str,
    as_of: datetime | None = None,
) -> Promotion:
    """Make a registered version the champion, by hand: one that was kept out, or that served before.

    Raises
    ------
    InvalidInput
        there is no such version, or it serves already.
    PromotionConflict
        another promotion came in between.
    """
    current = promotions.current()
    version = tracking.version(number)
    if current is not None and current.model_version == number:
        raise InvalidInput(f"version {number} is the champion already", field="VERSION", hint="see: pvf model list")
    with promotions.exclusive():
        bundle = bundles.load(store, version.bundle_uri)
        promotion = promotions.promote(
            current.id if current else 0,
            model_version=number,
            bundle_uri=version.bundle_uri,
            bundle_id=bundle.bundle_id,
            verdict="promote",
            reason=reason,
            actor=actor,
            mlflow_run_id=version.run_id,
            as_of=as_of,
        )
    reconcile(promotions, tracking, store)
    return promotion


def rollback(
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    *,
    actor: str,
    reason: str,
    as_of: datetime | None = None,
) -> Promotion:
    """Make the model the champion that served before the current one; see `Promotions.rollback`.

    Raises
    ------
    NoChampion
        there is nothing to roll back to.
    PromotionConflict
        another promotion came in between: it is not the one that was meant.
    BundleError
        the model before cannot be served any more.
    """
    current, before = promotions.before()
    with promotions.exclusive():
        bundles.load(store, before.bundle_uri)
        promotions.expect(current.id)
        promotion = promotions.rollback(actor=actor, reason=reason, as_of=as_of)
    reconcile(promotions, tracking, store)
    return promotion
