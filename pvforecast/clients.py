"""Settings to every client that a training run talks to."""

from __future__ import annotations

from dataclasses import dataclass

from pvforecast.lake import Lake
from pvforecast.objects import ObjectStore
from pvforecast.registry import Promotions
from pvforecast.settings import Settings
from pvforecast.tracking import Tracking
from pvforecast.wiring import lake, needed, objects


@dataclass(frozen=True)
class Clients:
    """All that a training run talks to."""

    lake: Lake
    store: ObjectStore
    tracking: Tracking
    promotions: Promotions


def promotions(settings: Settings) -> Promotions:
    """The promotions table."""
    return Promotions(needed(settings.postgres_dsn.get_secret_value(), "PVF_POSTGRES_DSN"))


def tracking(settings: Settings) -> Tracking:
    """MLflow."""
    return Tracking(needed(settings.mlflow_uri, "PVF_MLFLOW_URI"))


def everything(settings: Settings) -> Clients:
    """All clients at once."""
    return Clients(lake(settings), objects(settings), tracking(settings), promotions(settings))
