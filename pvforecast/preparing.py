"""What a shard's tasks make of its parks: feature rows and snapshots. Needs neither XGBoost nor MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pvforecast import directory, fleet, snapshot
from pvforecast.errors import DataError
from pvforecast.known import HOUR
from pvforecast.lake import Lake, records, tables
from pvforecast.objects import ObjectStore

if TYPE_CHECKING:
    from pvforecast import dataset
    from pvforecast.features.spec import FeatureSpec
    from pvforecast.model.recipe import Recipe

HORIZON_HOURS = 48
_WRITERS = 8  # an object store answers many at once, and each write waits for it four times


@dataclass(frozen=True)
class Prepared:
    """What one park brings to a training.

    Attributes
    ----------
    rows : feature rows.
    metered_until : end of its last healthy metered interval; None without any.
    """

    rows: int
    metered_until: np.datetime64 | None


def featurize(lake: Lake, parks: Sequence[str], as_of: np.datetime64, recipe: Recipe) -> dict[str, Prepared]:
    """Build the feature rows of some parks for every issue time before `as_of` and store them.

    Their rows are replaced in one commit for each set of columns; other parks' rows are not touched. Parks whose stored
    rows are the same bits are not written: a training that is done again finds the version that the first one named.
    """
    from pvforecast import dataset  # pvlib with it, which publishing does without

    made: dict[FeatureSpec, dict[str, dataset.Rows]] = {}
    for park_id in parks:
        record = records.load(lake, park_id)
        spec = recipe.with_columns_of([record]).spec
        made.setdefault(spec, {})[park_id] = dataset.of_park(record, spec, as_of, HORIZON_HOURS, as_of)
    for spec, of_park in made.items():
        _store(lake, spec, {park_id: dataset.to_frame(rows) for park_id, rows in of_park.items()})
    return {park_id: _prepared(rows) for of_park in made.values() for park_id, rows in of_park.items()}


def _store(lake: Lake, spec: FeatureSpec, frames: dict[str, pd.DataFrame]) -> None:
    """Replace what differs from what is stored."""
    table = tables.features(spec.names)
    changed = [park_id for park_id, frame in frames.items() if not _is_stored(lake, table, park_id, frame)]
    if changed:
        rows = pd.concat([frames[park_id] for park_id in changed], ignore_index=True)
        lake.replace_parks(table, changed, rows, metadata={"spec": spec.hash})


def _is_stored(lake: Lake, table: tables.Table, park_id: str, frame: pd.DataFrame) -> bool:
    try:
        stored = lake.read(table, park_id=park_id).to_pandas(use_threads=False)
    except DataError:  # it was written before there were such columns
        return False
    if len(stored) != len(frame):
        return False
    built = frame.sort_values(["issued_at", "valid_at"])
    return all(_same(_plain(stored[name]), _plain(built[name])) for name in stored)


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Bit by bit for numbers, so that NaN is NaN, and 0 is not -0."""
    if one.dtype.kind == "f" and one.dtype == other.dtype:
        return one.tobytes() == other.tobytes()
    return bool((one == other).all())


def _plain(column: pd.Series) -> npt.NDArray[Any]:
    plain: npt.NDArray[Any] = (
        column.dt.tz_localize(None) if isinstance(column.dtype, pd.DatetimeTZDtype) else column
    ).to_numpy()
    return plain


def _prepared(rows: dataset.Rows) -> Prepared:
    metered = rows.valid_at[~np.isnan(rows.target)]
    return Prepared(len(rows), metered.max() + HOUR if len(metered) else None)


def publish_snapshots(lake: Lake, store: ObjectStore, parks: Sequence[str], as_of: np.datetime64) -> dict[str, str]:
    """Store what is known of each park at `as_of` for serving, and who is in the fleet; returns park id -> snapshot id.

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
        written = dict(zip(parks, pool.map(lambda park: snapshot.write(store, known[park]), parks), strict=True))
    directory.publish(store, fleet.active(lake))
    return written
