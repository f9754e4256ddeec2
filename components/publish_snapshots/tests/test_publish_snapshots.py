"""Snapshots in a real object store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.publish_snapshots.component import publish_snapshots
from pvforecast import snapshot, wiring
from pvforecast.lake import records
from tests.component_fixtures import Workshop

pytestmark = pytest.mark.stack


def test_nothing_is_published_for_a_backfill_or_for_a_failed_park(
    connected: Workshop, shard: dict[str, Any], validated: dict[str, str]
) -> None:
    store = wiring.objects(connected.settings)
    assert connected.call(publish_snapshots, shard={**shard, "publish": False}, status=validated) == validated
    failed = dict.fromkeys(validated, "failed: OSError: gone")
    assert connected.call(publish_snapshots, shard=shard, status=failed) == failed
    assert list(store.keys("snapshots/")) == []


def test_a_snapshot_holds_what_was_known(connected: Workshop, shard: dict[str, Any], validated: dict[str, str]) -> None:
    earlier = {**shard, "as_of": "2013-08-09T06:00:00+00:00"}
    assert connected.call(publish_snapshots, shard=earlier, status=validated) == validated
    store = wiring.objects(connected.settings)
    assert snapshot.parks(store) == ["pvdaq-50", "serf-east"]
    entry = snapshot.latest_entry(store, "pvdaq-50")
    assert entry is not None
    assert entry["as_of"] == "2013-08-09T06:00:00"
    known = snapshot.read(store, "pvdaq-50", entry["snapshot_id"])
    as_of = np.datetime64("2013-08-09T06:00:00", "s")
    assert snapshot.encode(known) == snapshot.encode(records.load(connected.lake, "pvdaq-50").known_at(as_of))
    # The last quarter of 04:00 is labelled 05:45, because the logger follows daylight-saving time, and comes at 06:05.
    assert known.history.valid_at[-1] == np.datetime64("2013-08-09T03:00:00")
    assert known.weather is not None
    assert known.weather.run_at == np.datetime64("2013-08-09T06:00:00")
