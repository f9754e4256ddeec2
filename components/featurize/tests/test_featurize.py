"""Feature rows as they were known at each issue time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.featurize.component import featurize
from pvforecast import features as fx
from pvforecast.lake import records
from pvforecast.lake.tables import features
from tests.component_fixtures import Workshop

TABLE = features(fx.DEFAULT_SPEC.names)


def test_each_midnight_has_its_24_or_48_hours_and_an_hour_within_each_day_its_12(
    workshop: Workshop, featurized: dict[str, str]
) -> None:
    assert featurized == {"pvdaq-50": "ok", "serf-east": "ok"}
    rows = workshop.lake.read(TABLE, park_id="pvdaq-50").to_pandas(use_threads=False)
    hours = rows.groupby("issued_at").size()
    midnight = hours.index.hour == 6  # in Golden, in summer
    assert sorted(hours[midnight]) == [24] * 40 + [48] * 20
    assert set(hours[~midnight]) == {12}
    assert (midnight.sum(), (~midnight).sum()) == (60, 60)
    assert hours.index[midnight].max().isoformat() == "2013-08-09T06:00:00+00:00"  # before as_of


@pytest.mark.usefixtures("featurized")
def test_a_stored_row_is_what_serving_would_build(workshop: Workshop) -> None:
    rows = workshop.lake.read(TABLE, park_id="serf-east").to_pandas(use_threads=False)
    issued = rows.issued_at.iloc[len(rows) // 2]
    stored = rows[rows.issued_at == issued].sort_values("valid_at")
    at = np.datetime64(issued.tz_localize(None), "s")
    known = records.load(workshop.lake, "serf-east").known_at(at)
    served = fx.build_known(fx.DEFAULT_SPEC, known, at, fx.horizon(at, len(stored)))
    np.testing.assert_array_equal(stored[list(fx.DEFAULT_SPEC.names)].to_numpy(np.float32), served)


def test_a_park_that_failed_before_keeps_its_rows(
    workshop: Workshop, shard: dict[str, Any], featurized: dict[str, str]
) -> None:
    before = workshop.lake.version(TABLE)
    status = dict.fromkeys(featurized, "failed: OSError: gone")
    assert workshop.call(featurize, shard=shard, status=status) == status
    assert workshop.lake.version(TABLE) == before
