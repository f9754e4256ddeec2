"""What a shard's tasks make of one park: feature rows and snapshots. Needs neither XGBoost nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from pvforecast import snapshot
from pvforecast.lake import Lake, records
from pvforecast.objects import ObjectStore

if TYPE_CHECKING:
    from pvforecast.model.recipe import Recipe

HORIZON_HOURS = 48
_WRITERS = 8  # an object store answers many at once, and each write waits for it four times


def featurize(lake: Lake, park_id: str, as_of: np.datetime64, recipe: Recipe) -> int:
    """Build one park's feature rows for every issue time before `as_of` and store them; returns how many.

    The park's rows are replaced in one commit; other parks' rows are not touched.
    """
    from pvforecast import dataset  # pvlib with it, which publishing does without
    from pvforecast.lake.tables import features

    record = records.load(lake, park_id)
    spec = recipe.with_columns_of([record]).spec
    rows = dataset.of_park(record, spec, as_of, HORIZON_HOURS, as_of)
    lake.replace_park(features(spec.names), park_id, dataset.to_frame(rows), metadata={"spec": spec.hash})
    return len(rows)


def publish_snapshots(lake: Lake, store: ObjectStore, parks: Sequence[str], as_of: np.datetime64) -> dict[str, str]:
    """Store what is known of each park at `as_of` for serving; returns park id -> snapshot id.

    The lake is read once for all parks.

    Raises
    ------
    UnknownPark
        a park is not registered in the lake.
    NotReady
        lake or object store did not answer; some snapshots may be written, each of them whole.
    """
    known = records.known(lake, parks, as_of)
    with ThreadPoolExecutor(_WRITERS) as pool:
        written = pool.map(lambda park: snapshot.write(store, known[park]), parks)
        return dict(zip(parks, written, strict=True))
