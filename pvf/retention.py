"""Snapshots live as long as the logged forecasts made from them (`PVF_PREDICTION_LOG_DAYS`), and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from pvforecast import snapshot, wiring
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings

_LONGEST_MONTH_DAYS = 31  # the log drops whole months, when their last day is old enough


def prune(settings: Settings, now: datetime) -> int:
    """Delete snapshots that no logged forecast can name any more; returns how many objects went.

    A park's newest snapshot always stays. Safe to be cut off and repeated.
    """
    if settings.prediction_log_days == 0:
        hint = "e.g. 400"
        raise InvalidInput(
            "logged forecasts are kept for good, so are snapshots", field="PVF_PREDICTION_LOG_DAYS", hint=hint
        )
    before = now - timedelta(days=settings.prediction_log_days + _LONGEST_MONTH_DAYS)
    store, instant = wiring.objects(settings), np.datetime64(before.astimezone(UTC).replace(tzinfo=None), "s")
    return sum(snapshot.prune(store, park, instant) for park in snapshot.parks(store))
