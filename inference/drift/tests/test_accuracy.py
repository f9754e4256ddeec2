"""How good served forecasts were: by day, beside smart persistence; and when a model has grown stale."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from inference.drift import accuracy, history, job, store
from inference.drift.accuracy import Score
from inference.drift.days import starts
from inference.drift.reference import Reference
from inference.drift.served import Forecast, Log, Promise
from inference.drift.tests.lakes import fill
from inference.drift.tests.parks import SITE, tampered
from pvforecast.known import HOUR, ParkRecord
from pvforecast.lake import Lake
from pvforecast.lake.tables import DRIFT_SCORES

PROMISE = Promise(0.03, 0.8, 0.7, "2022-05-01", "2022-05-28")
DAY = np.datetime64("2022-06-10")
FROM, TO = np.datetime64("2022-06-10T12:00:00"), np.datetime64("2022-07-20T12:00:00")
GROWS, MENDED = np.datetime64("2022-06-20"), np.datetime64("2022-07-04")


def _forecast(record: ParkRecord, day: np.datetime64, error: float, version: str = "1") -> Forecast:
    """What was metered, too high by a share; a band of a tenth around it; 48 hours as they are served."""
    begin = starts(SITE, np.array([day]))[0]
    hours = begin + np.arange(48) * HOUR
    power = np.nan_to_num(record.truth(hours)) * (1.0 + error)
    return Forecast(version, begin, hours, {0.1: power * 0.9, 0.5: power, 0.9: power * 1.1})


def _late(record: ParkRecord) -> np.datetime64:
    late: np.datetime64 = record.valid_at[-1] + 10 * HOUR
    return late


def test_a_day_has_error_coverage_and_skill(record: ParkRecord) -> None:
    good = accuracy.score(record, DAY, _forecast(record, DAY, 0.05), _late(record))
    bad = accuracy.score(record, DAY, _forecast(record, DAY, 0.30), _late(record))
    assert good is not None
    assert bad is not None
    assert bad.nmae == pytest.approx(6 * good.nmae)
    assert good.bias == pytest.approx(good.nmae)
    assert (good.coverage, bad.coverage) == (1.0, 0.0)
    assert good.skill == pytest.approx(1.0 - good.nmae / good.persistence)
    assert 12 <= good.hours <= 16


def test_quarters_of_an_hour_count_by_their_mean(record: ParkRecord) -> None:
    whole = _forecast(record, DAY, 0.1)
    quarters = whole.valid_at.repeat(4) + np.tile(np.arange(4), len(whole.valid_at)) * np.timedelta64(900, "s")
    tilted = np.tile([0.8, 0.9, 1.1, 1.2], len(whole.valid_at))
    fine = replace(whole, valid_at=quarters, power_kw={k: p.repeat(4) * tilted for k, p in whole.power_kw.items()})
    one, other = (accuracy.score(record, DAY, forecast, _late(record)) for forecast in (whole, fine))
    assert one is not None
    assert other is not None
    assert other.nmae == pytest.approx(one.nmae)


def test_what_is_not_metered_yet_is_not_scored(record: ParkRecord) -> None:
    begin = starts(SITE, np.array([DAY]))[0]
    assert accuracy.score(record, DAY, _forecast(record, DAY, 0.1), begin + 8 * HOUR) is None


def _days(errors: list[float], version: str = "1", promise: Promise | None = PROMISE) -> list[Score]:
    first = np.datetime64("2022-06-01")
    return [
        Score("p", str(first + number), version, 12, error, 0.1, 0.0, 0.8, True, promise)
        for number, error in enumerate(errors)
    ]


def test_a_model_is_stale_when_its_error_has_grown_beyond_chance() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.005, 20)
    as_promised, grown = (_days([float(error) for error in level + noise]) for level in (0.032, 0.05))
    assert accuracy.stale(as_promised) is not None
    assert not accuracy.stale(as_promised)
    assert accuracy.stale(grown)


def test_one_bad_day_makes_no_model_stale() -> None:
    assert not accuracy.stale(_days([0.03] * 19 + [0.5]))


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(_days([0.09] * 9), id="too few days"),
        pytest.param(_days([0.09] * 20, promise=None), id="no hold-out known"),
        pytest.param([*_days([0.09] * 20), *_days([0.09] * 25, version="2")[20:]], id="a new model"),
        pytest.param([], id="nothing"),
    ],
)
def test_what_cannot_be_told_is_not(scores: list[Score]) -> None:
    assert accuracy.stale(scores) is None


@dataclass(frozen=True)
class Logged(Log):
    """A log whose forecasts go wrong from `GROWS` on, until another model is served from `MENDED` on."""

    record: ParkRecord | None = None

    def ahead_of(self, _park_id: str, begin: np.datetime64) -> Forecast | None:
        assert self.record is not None
        day = (begin + 12 * HOUR).astype("datetime64[D]")
        sign = 1.0 if day.astype(int) % 2 else -1.0  # no bias: only the model's error grows
        error = 0.30 if GROWS <= day < MENDED else 0.02
        return _forecast(self.record, day, sign * error, "2" if day >= MENDED else "1")

    def promise(self, _park_id: str, _model_version: str) -> Promise | None:
        return replace(PROMISE, skill=0.9)


def test_a_stale_model_is_one_event_that_asks_for_training_and_is_cleared_by_a_better_one(
    tmp_path: Path, record: ParkRecord, reference: Reference
) -> None:
    lake = Lake(str(tmp_path))
    fill(lake, record)
    store.save(lake, reference, datetime(2022, 6, 1, 12, tzinfo=UTC))
    lines = [*job.run(lake, [SITE.park_id], FROM, TO, keep_going=True, served=Logged("", record=record))]
    found = [line.event for line in lines if line.event]
    (event,) = found
    assert (event["data"]["cause"]["likely"], event["data"]["advice"]) == ("model_stale", "retrain")
    assert event["data"]["cause"]["evidence"]["model_version"] == "1"
    assert "2022-06-20" < event["data"]["day"] < str(MENDED)
    (cleared,) = [event for line in lines for event in line.also]
    assert cleared["data"]["opened_by"] == event["id"]
    assert cleared["data"]["day"] > str(MENDED)
    rows = [row for row in lake.read(DRIFT_SCORES).to_pylist() if row["kind"] == history.ACCURACY]
    assert [row["day"] for row in rows if row["alarm"]] == [event["data"]["day"]]
    skills = {row["day"]: row for row in rows if row["name"] == "skill"}
    assert len(skills) == len(lines)
    assert skills[event["data"]["day"]]["limit"] == 0.9
    assert json.dumps([line.as_dict() for line in lines])


def test_while_the_park_has_drifted_its_error_is_not_the_model_s(
    tmp_path: Path, record: ParkRecord, reference: Reference
) -> None:
    lake = Lake(str(tmp_path))
    lost = tampered(record, "2022-06-12", lambda power: power * 0.6)
    fill(lake, lost)
    store.save(lake, reference, datetime(2022, 6, 1, 12, tzinfo=UTC))
    lines = [*job.run(lake, [SITE.park_id], FROM, TO, keep_going=True, served=Logged("", record=record))]
    causes = {line.event["data"]["cause"]["likely"] for line in lines if line.event}
    assert causes
    assert "model_stale" not in causes
