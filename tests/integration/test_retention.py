"""Old snapshots go when no logged forecast can name them, and nothing goes that something newer leads to."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pvf import retention
from pvforecast import snapshot
from pvforecast.errors import InvalidInput
from pvforecast.settings import Settings
from tests.bundles import NOW, record, site
from tests.stack_fixtures import object_store

pytestmark = pytest.mark.stack

DAY = np.timedelta64(24, "h")


def test_of_a_park_old_snapshots_go_and_the_newest_stays(infra: Settings) -> None:
    store, park = object_store(infra), f"sim-{uuid.uuid4().hex[:6]}"
    history = record(site(park))
    ids = [snapshot.write(store, history.known_at(NOW - days * DAY)) for days in (3, 2, 1)]
    assert snapshot.prune(store, park, NOW - DAY) == 4  # two entries, two objects
    assert snapshot.prune(store, park, NOW + 100 * DAY) == 0
    assert [key.rsplit("/", 1)[-1] for key in store.keys(f"snapshots/objects/{park}/")] == [f"{ids[2]}.arrow"]
    newest = snapshot.latest_entry(store, park)
    assert newest is not None
    assert snapshot.read(store, park, newest["snapshot_id"]).as_of == NOW - DAY


def test_an_object_that_a_newer_entry_leads_to_stays(infra: Settings) -> None:
    store, park = object_store(infra), f"sim-{uuid.uuid4().hex[:6]}"
    snapshot_id = snapshot.write(store, record(site(park)).known_at(NOW))
    entry = store.get_json(f"snapshots/latest/{park}.json")
    store.put_json(f"snapshots/index/{park}/2000-01-01T00:00:00.json", entry)
    assert snapshot.prune(store, park, NOW) == 1
    assert snapshot.read(store, park, snapshot_id)


def test_snapshots_outlive_the_log(infra: Settings) -> None:
    store, park = object_store(infra), f"sim-{uuid.uuid4().hex[:6]}"
    for days in (2, 1):
        snapshot.write(store, record(site(park)).known_at(NOW - days * DAY))
    settings = infra.model_copy(update={"prediction_log_days": 400})
    taken = (NOW - 2 * DAY).astype(datetime).replace(tzinfo=UTC)
    retention.prune(settings, taken + timedelta(days=431))
    assert len(list(store.keys(f"snapshots/objects/{park}/"))) == 2
    retention.prune(settings, taken + timedelta(days=431, hours=1))
    assert len(list(store.keys(f"snapshots/objects/{park}/"))) == 1


def test_a_log_that_is_kept_for_good_keeps_its_snapshots(infra: Settings) -> None:
    with pytest.raises(InvalidInput, match="PVF_PREDICTION_LOG_DAYS"):
        retention.prune(infra.model_copy(update={"prediction_log_days": 0}), datetime(2024, 6, 1, tzinfo=UTC))
