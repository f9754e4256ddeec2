"""The bundle that will serve."""

from __future__ import annotations

from typing import Any

import pytest

from pvforecast import clients, wiring
from pvforecast.model import bundle as bundles
from tests.component_fixtures import Workshop

pytestmark = pytest.mark.stack


def test_the_winner_learns_from_the_hold_out_too(connected: Workshop, compared: Any, refitted: str) -> None:
    store = wiring.objects(connected.settings)
    serving, challenger = (bundles.load(store, uri) for uri in (refitted, compared.job["challenger_uri"]))
    assert serving.info["trained_until"] == compared.job["as_of"]
    assert serving.info["trained_rows"] > challenger.info["trained_rows"]
    assert serving.info["recipe_hash"] == challenger.info["recipe_hash"]
    assert serving.info["data_versions"] == compared.job["data_versions"]
    assert clients.tracking(connected.settings).run(compared.job["run_id"])["tags"]["bundle_uri"] == refitted
