"""From a promotion to served forecasts, wherever this runs: for the pipeline, `pvf model promote` and `rollback`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pvforecast import rollout, serving_check
from pvforecast.clients import Clients
from pvforecast.registry import Promotion
from pvforecast.settings import Settings
from pvforecast.wiring import needed


def ship(
    settings: Settings, clients: Clients, promote: Callable[[], Promotion], *, takes_back: bool = True
) -> Promotion:
    """Promote; on a cluster (PVF_INFERENCE_SERVICE) also bring it into service, or take it back.

    Parameters
    ----------
    takes_back : when it does not come into service, serve the model before; else only say so.

    Raises
    ------
    InvalidInput
        the cluster could not be told; nothing was promoted.
    NotReady
        it did not come into service.
    """
    if not settings.inference_service:
        return promote()
    from components.deploy.cluster import InferenceService  # a second to import, and not needed at home

    serving = InferenceService(settings.inference_service, settings.rollout_timeout_s)
    gateway = needed(settings.gateway_url, "PVF_GATEWAY_URL")
    verify = partial(_verify, clients, gateway, settings.api_key.get_secret_value())
    return rollout.ship(
        clients.store, clients.tracking, clients.promotions, serving, promote, verify, takes_back=takes_back
    )


def repair(settings: Settings, clients: Clients) -> list[str]:
    """Tell the cluster the champion, if it was told another; returns what was done."""
    champion = clients.promotions.current()
    if not settings.inference_service or champion is None:
        return []
    from components.deploy.cluster import InferenceService

    serving = InferenceService(settings.inference_service, settings.rollout_timeout_s)
    changed = rollout.bring(serving, champion)
    return [f"{settings.inference_service} -> {champion.bundle_id}"] if changed else []


def _verify(clients: Clients, gateway: str, api_key: str, promotion: Promotion) -> None:
    serving_check.verify(clients.store, gateway, api_key, promotion.bundle_uri)
