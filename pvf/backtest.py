"""`pvf backtest`: train on the past, score the future. The demo's skill comes from here too."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from pvforecast import ingestion
from pvforecast.evaluation.backtest import Scores, backtest
from pvforecast.known import ParkRecord
from pvforecast.lake import Lake, records
from pvforecast.model.recipe import Recipe
from pvforecast.sources.pvdaq_samples import PARKS, PvdaqSamples

TRAIN_UNTIL = datetime(2013, 1, 1, 7, tzinfo=UTC)  # local midnight in Golden: system 50 is tested on 2013
TEST_UNTIL = datetime(2014, 1, 1, 7, tzinfo=UTC)
_BEGIN = datetime(2011, 1, 1, tzinfo=UTC)


def on_samples(
    parks: Sequence[str] = ("pvdaq-50",), train_until: datetime = TRAIN_UNTIL, test_until: datetime = TEST_UNTIL
) -> dict[str, Scores]:
    """Backtest the default recipe on the shipped measurements in full, in a lake of its own.

    The running platform lives at a moment of the replay and must not know what comes after; a test over a whole year
    needs the whole year. So the samples are loaded anew, through the same ingestion and validation.
    """
    with tempfile.TemporaryDirectory(prefix="pvf-backtest-") as folder:
        lake = Lake(folder)
        for park in PARKS:
            if park.id in parks:
                ingestion.register(lake, park)
                ingestion.ingest(lake, PvdaqSamples(), park, _BEGIN, test_until)
                ingestion.validate(lake, park, _BEGIN, test_until)
        return _run({park: records.load(lake, park) for park in parks}, train_until, test_until)


def on_lake(lake: Lake, parks: Sequence[str], train_until: datetime, test_until: datetime) -> dict[str, Scores]:
    """Backtest the default recipe on what the lake holds."""
    return _run({park: records.load(lake, park) for park in parks}, train_until, test_until)


def _run(park_records: dict[str, ParkRecord], train_until: datetime, test_until: datetime) -> dict[str, Scores]:
    begin, end = (np.datetime64(int(moment.timestamp()), "s") for moment in (train_until, test_until))
    return backtest(park_records, Recipe(), begin, end)[1]
