"""Clients of the outside world, made from settings."""

from __future__ import annotations

from inference import metrics
from pvforecast.objects import ObjectStore
from pvforecast.settings import Settings

STORE_UP = metrics.gauge("pvf_object_store_up")
"""Set by whoever polls the store."""


def object_store(settings: Settings, timeout_s: float) -> ObjectStore:
    """The bucket that the settings name. `timeout_s` holds for each connection and read."""
    return ObjectStore(
        settings.s3_endpoint,
        settings.s3_bucket,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        timeout_s=timeout_s,
    )
