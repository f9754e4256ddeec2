"""A park loses a tenth of its output for good: what a refresh eight weeks later makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast import dataset, fleet, ingestion, refining
from pvforecast.evaluation.backtest import predict
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train
from pvforecast.shards import instant
from pvforecast.sources.pvdaq_samples import PARKS, PlantedLoss, PvdaqSamples

DAY = np.timedelta64(86400, "s")
LOST_AT = np.datetime64("2012-07-01T06:00:00", "s")
REFRESHED_AT, UNTIL = LOST_AT + 56 * DAY, LOST_AT + 112 * DAY


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> ParkRecord:
    """System 50 with the loss, as the lake has it."""
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    park = next(park for park in PARKS if park.id == "pvdaq-50")
    begin, end = instant("2011-01-01T00:00:00+00:00", "begin"), instant("2012-11-01T06:00:00+00:00", "end")
    loss = PlantedLoss(park_id=park.id, start=instant(f"{LOST_AT}+00:00", "start"), fraction=0.10)
    fleet.register(lake, park)
    ingestion.ingest(lake, PvdaqSamples(loss=loss), park, begin, end)
    refining.validate(lake, [park], begin, end)
    return records.load(lake, park.id)


def fitted(record: ParkRecord, as_of: np.datetime64) -> Bundle:
    recipe = Recipe()
    return train(dataset.training_rows([record], recipe.spec, as_of), recipe, as_of)


def bias(bundle: Bundle, record: ParkRecord) -> float:
    """Forecast energy over metered energy - 1, day-ahead, in the eight weeks after the refresh."""
    rows = dataset.build(record, bundle.spec, dataset.daily_issues(record, REFRESHED_AT, UNTIL), 24)
    rows = rows.where(rows.daylight & ~np.isnan(rows.target))
    median = predict(bundle, rows)[:, bundle.quantiles.index(0.5)]
    return float(median.sum() / rows.target.sum() - 1.0)


@pytest.mark.slow
def test_a_refresh_removes_the_bias_of_a_lasting_loss(record: ParkRecord) -> None:
    stale, refreshed = (bias(fitted(record, as_of), record) for as_of in (LOST_AT, REFRESHED_AT))
    print(f"bias of the champion {stale:+.1%}, of its refresh {refreshed:+.1%}")
    assert stale > 0.07
    assert abs(refreshed) < 0.04
