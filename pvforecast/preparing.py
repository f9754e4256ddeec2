"""What a shard's tasks make of one park: feature rows and snapshots. Needs neither XGBoost nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pvforecast import dataset, snapshot
from pvforecast.dataset import EVER
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import features
from pvforecast.model.recipe import Recipe
from pvforecast.objects import ObjectStore

HORIZON_HOURS = 48


def featurize(lake: Lake, park_id: str, as_of: np.datetime64, recipe: Recipe) -> int:
    """Build one park's feature rows for every issue time before `as_of` and store them; returns how many.

    The park's rows are replaced in one commit; other parks' rows are not touched.
    """
    record = records.load(lake, park_id)
    rows = dataset.build(record, recipe.spec, dataset.daily_issues(record, EVER, as_of), HORIZON_HOURS, as_of)
    lake.replace_park(features(recipe.spec.names), park_id, dataset.to_frame(rows), metadata={"spec": recipe.spec.hash})
    return len(rows)


def publish_snapshots(lake: Lake, store: ObjectStore, parks: Sequence[str], as_of: np.datetime64) -> dict[str, str]:
    """Store what is known of each park at `as_of` for serving; returns park id -> snapshot id."""
    return {park: snapshot.write(store, records.load(lake, park).known_at(as_of)) for park in parks}
