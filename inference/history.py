"""Which bundle served when: `models/history.json`, a projection of the promotions table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from inference.deployed import Deployment, Followed
from pvforecast.errors import DataError, InvalidInput
from pvforecast.objects import ObjectStore

KEY = "models/history.json"
BACKTEST = "forecasts of the past from the record: pvf backtest"


@dataclass(frozen=True)
class Promoted:
    """From when on a bundle served: by the database's clock, and for the run that promoted it, where that is known."""

    deployment: Deployment
    promoted_at: np.datetime64
    as_of: np.datetime64 | None


def follow(store: ObjectStore) -> Followed[tuple[Promoted, ...]]:
    """The promotions, newest first; None where no history was written."""
    return Followed(store, KEY, _parse)


def serving_at(history: Sequence[Promoted], issued_at: np.datetime64, *, replay: bool, field: str) -> Deployment:
    """What served at `issued_at`: of the promotions up to then the last.

    Parameters
    ----------
    history : newest first. That is their order, not their times: a replay may be started again.
    replay : time is that of the runs, not that of the machine.
    field : where the request names `issued_at`.

    Raises
    ------
    InvalidInput
        nothing served yet, or it is not known what did.
    """
    for promoted in history:
        since = promoted.as_of if replay else promoted.promoted_at
        if since is None:
            raise InvalidInput(
                f"which model served at {issued_at}Z is not known: a promotion has no time of this replay",
                field=field,
                hint=BACKTEST,
            )
        if since <= issued_at:
            return promoted.deployment
    raise InvalidInput(f"no model served yet at {issued_at}Z", field=field, hint=BACKTEST)


def of_bundle(history: Sequence[Promoted], bundle_id: str) -> Deployment | None:
    """The deployment that a caller names; None for what was never promoted."""
    return next((one.deployment for one in history if one.deployment.bundle_id == bundle_id), None)


def _parse(data: bytes) -> tuple[Promoted, ...]:
    try:
        return tuple(
            Promoted(
                Deployment(str(row["bundle_uri"]), str(row["bundle_id"]), str(row["model_version"])),
                _instant(row["promoted_at"]),
                _instant(row["as_of"]) if row["as_of"] is not None else None,
            )
            for row in json.loads(data)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"it is not a list of promotions: {error!r}", field=KEY, hint="write it anew: pvf model reconcile"
        ) from error


def _instant(text: str) -> np.datetime64:
    return np.datetime64(datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None), "s")
