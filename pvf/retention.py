"""Forecasts that were logged, and the snapshots they were made from, go together when they are old."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from inference.prediction_log import store as prediction_log
from pvforecast import snapshot, wiring
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings

SHORTEST_DAYS = 90  # drift checks, coverage and accuracy look back this far


@dataclass(frozen=True)
class Pruned:
    """How much went."""

    logged: int
    snapshots: int


def prune(settings: Settings, keep_days: int, now: datetime) -> Pruned:
    """Delete what is older than `keep_days`; safe to be cut off and repeated.

    The log first: a logged forecast whose snapshot is gone could not be rebuilt. A park's newest snapshot always stays.
    """
    if keep_days < SHORTEST_DAYS:
        hint = f"at least {SHORTEST_DAYS}"
        raise InvalidInput(f"{keep_days} days: drift and accuracy look back longer", field="--keep-days", hint=hint)
    before = (now - timedelta(days=keep_days)).astimezone(UTC)
    dsn = settings.postgres_dsn.get_secret_value()
    logged = prediction_log.prune(dsn, before) if dsn else 0
    store = wiring.objects(settings)
    instant = np.datetime64(before.replace(tzinfo=None), "s")
    return Pruned(logged, sum(snapshot.prune(store, park, instant) for park in snapshot.parks(store)))
