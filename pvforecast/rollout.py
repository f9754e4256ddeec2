"""Brings a champion into service where servers must be told, and takes it back by itself when it does not come up.

    preflight                    servers can be told, and will not go down meanwhile; nothing is written before
    promote                      a row of `promotions`: `pvforecast.promoting`
    tell, wait                   servers are told the bundle; new ones come up before old ones go
    verify                       forecasts through the gateway are those of the bundle, made again here
      when one of these fails    a rollback row, the servers are told the model before, and an error says why

At home nobody is told: predictors follow `models/deployed.json`. Ended by force at any point and repeated, it goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from pvforecast import promoting
from pvforecast.errors import NoChampion, NotReady, PvForecastError
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotion, Promotions
from pvforecast.tracking import Tracking

ACTOR = "pvf-deploy"

_log = logging.getLogger(__name__)


class Serving(Protocol):
    """Servers that are told what to serve."""

    def preflight(self) -> None:
        """Raises what would keep `tell` from working, or servers from staying up."""
        ...

    def tell(self, bundle_uri: str, model_version: int) -> bool:
        """Name the bundle to serve; returns whether it is another than before. The same again changes nothing."""
        ...

    def wait(self, bundle_uri: str) -> None:
        """Until every server serves it, and none another.

        Raises
        ------
        NotReady
            that did not come about in time, or cannot any more.
        """
        ...


def ship(
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    serving: Serving,
    promote: Callable[[], Promotion],
    verify: Callable[[Promotion], None],
    *,
    takes_back: bool = True,
) -> Promotion:
    """Promote, and bring the new champion into service.

    Parameters
    ----------
    promote : makes a champion, or finds that it was made before.
    verify : asks the servers; raises where an answer is not that of the champion.
    takes_back : serve the model before when this one does not come into service; else only raise.

    Raises
    ------
    NotReady
        the model did not come into service; the model before serves.
    PromotionConflict, BundleError, ...
        of `promote`; nothing was told to the servers.
    """
    serving.preflight()
    promotion = promote()
    champion = promotions.champion()
    if champion.id != promotion.id:
        if champion.verdict == "rollback" and champion.predecessor == promotion.id:
            raise NotReady(
                f"version {promotion.model_version} was rolled back: {champion.reason}", hint="see pvf model history"
            )
        return promotion  # another champion came later, and whoever made it told the servers
    try:
        bring(serving, promotion)
        verify(promotion)
    except PvForecastError as error:
        if not takes_back:
            raise
        _take_back(store, tracking, promotions, serving, promotion, error)
    return promotion


def bring(serving: Serving, promotion: Promotion) -> bool:
    """Tell the servers and wait for them; returns whether they were told another before."""
    changed = serving.tell(promotion.bundle_uri, promotion.model_version)
    serving.wait(promotion.bundle_uri)
    return changed


def _take_back(
    store: ObjectStore,
    tracking: Tracking,
    promotions: Promotions,
    serving: Serving,
    failed: Promotion,
    error: PvForecastError,
) -> None:
    """Always raises."""
    said = f"version {failed.model_version} did not come into service: {error}"
    _log.error("%s; rolling back", said)
    try:
        before = promoting.rollback(store, tracking, promotions, actor=ACTOR, reason=said, as_of=failed.as_of)
    except NoChampion:
        raise NotReady(said, hint="it is the first: there is none to go back to") from error
    bring(serving, before)
    raise NotReady(f"{said}; version {before.model_version} serves again", hint="see pvf model history") from error
