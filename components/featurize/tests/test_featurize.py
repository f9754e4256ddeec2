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


def test_each_issue_time_has_its_48_hours(workshop: Workshop, featurized: dict[str, str]) -> None:
    assert featurized == {"pvdaq-50": "ok", "serf-east": "ok"}
    rows = workshop.lake.read(TABLE, park_id="pvdaq-50").to_pandas(use_threads=False)
    assert set(rows.groupby("issued_at").size()) == {48}
    assert rows.issued_at.nunique() == 60
    assert rows.issued_at.max().isoformat() == "2013-08-09T06:00:00+00:00"  # before as_of


@pytest.mark.usefixtures("featurized")
def test_a_stored_row_is_what_serving_would_build(workshop: Workshop) -> None:
    rows = workshop.lake.read(TABLE, park_id="serf-east").to_pandas(use_threads=False)
    issued = rows.issued_at.iloc[len(rows) // 2]
    stored = rows[rows.issued_at == issued].sort_values("valid_at")
    at = np.datetime64(issued.tz_localize(None), "s")
    known = records.load(workshop.lake, "serf-east").known_at(at)
    served = fx.build_known(fx.DEFAULT_SPEC, known, at, fx.horizon(at, 48))
    np.testing.assert_array_equal(stored[list(fx.DEFAULT_SPEC.names)].to_numpy(np.float32), served)


def test_a_park_that_failed_before_keeps_its_rows(
    workshop: Workshop, shard: dict[str, Any], featurized: dict[str, str]
) -> None:
    before = workshop.lake.version(TABLE)
    status = dict.fromkeys(featurized, "failed: OSError: gone")
    assert workshop.call(featurize, shard=shard, status=status) == status
    assert workshop.lake.version(TABLE) == before
