"""What is known of many parks from one read is, bit for bit, what each park's whole record says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvforecast import fleet, snapshot
from pvforecast.errors import UnknownPark
from pvforecast.known import WEATHER_VARIABLES
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import GENERATION, WEATHER
from pvforecast.sources.pvdaq_samples import PARKS

NOW = datetime(2013, 8, 10, 6, tzinfo=UTC)
FLEET = [PARKS[0].model_copy(update={"id": f"park-{i}"}) for i in range(7)]
QUIET, STALE, TIED = FLEET[4].id, FLEET[5].id, FLEET[6].id


def runs_of(park: str, rng: np.random.Generator) -> list[pd.DataFrame]:
    """Many runs by two sources, some of them late, some with free columns, some for quarter hours."""
    if park == QUIET:
        return []
    begin = NOW - timedelta(days=30 if park == STALE else 5)
    frames = []
    for i in range(12):
        run_at = begin + timedelta(hours=6 * int(rng.integers(0, 22)))
        source = str(rng.choice(["a", "b"]))
        late = timedelta(hours=int(rng.integers(1, 9)))
        step = 900 if i % 5 == 4 else 3600
        valid_at = pd.date_range(run_at, periods=int(rng.integers(3, 60)), freq=f"{step}s")
        rows = pd.DataFrame({name: rng.normal(100, 10, len(valid_at)) for name in WEATHER_VARIABLES})
        extra = [[(f"x_{i % 3}", float(value))] if i % 2 and value > 95 else None for value in rows.ghi]
        rows = rows.assign(valid_at=valid_at, extra=extra, period_s=np.int32(step), source=source, park_id=park)
        frames.append(rows.assign(run_at=pd.Timestamp(run_at), available_at=pd.Timestamp(run_at + late)))
    if park == TIED:
        newest = pd.Timestamp(NOW - timedelta(hours=1))
        frames += [frame.assign(source=name, run_at=newest, available_at=newest, period_s=np.int32(3600),
                                valid_at=pd.date_range(newest, periods=len(frame), freq="h"))
                   for name, frame in (("b", frames[0]), ("a", frames[1]))]  # fmt: skip
    return frames


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(str(tmp_path_factory.mktemp("lake")))
    rng = np.random.default_rng(5)
    for park in FLEET:
        fleet.register(made, park)
        hours = pd.date_range(NOW - timedelta(days=25), NOW + timedelta(days=1), freq="h")
        rows = pd.DataFrame({"valid_at": hours, "power_kw": rng.uniform(0, 3, len(hours))})
        rows = rows.assign(park_id=park.id, period_s=np.int32(3600), completeness=1.0, flags="")
        rows["available_at"] = rows.valid_at + pd.Timedelta(minutes=65)
        fixed = rows.sample(40, random_state=3)
        fixed = fixed.assign(power_kw=1.23, available_at=fixed.available_at + pd.Timedelta(hours=30))
        out = rows.sample(20, random_state=4)
        out = out.assign(flags="outage", available_at=out.available_at + pd.Timedelta(hours=31))
        made.append_new(GENERATION, pd.concat([rows, fixed, out], ignore_index=True))
        frames = runs_of(park.id, rng)
        if frames:
            made.append_new(WEATHER, pd.concat(frames, ignore_index=True))
    changed = FLEET[1].model_copy(update={"ac_capacity_kw": 9.0, "valid_from": NOW - timedelta(days=2)})
    fleet.register(made, changed)
    return made


@pytest.mark.parametrize("hours", [-24 * 20, -24 * 3, -7, 0, 5, 40, 24 * 60])
def test_one_read_for_all_gives_the_bits_of_a_read_for_each(lake: Lake, hours: int) -> None:
    as_of = np.datetime64(int((NOW + timedelta(hours=hours)).timestamp()), "s")
    together = records.known(lake, [park.id for park in FLEET], as_of)
    assert list(together) == [park.id for park in FLEET]
    with_weather = 0
    for park in FLEET:
        alone = records.load(lake, park.id).known_at(as_of)
        assert snapshot.encode(together[park.id]) == snapshot.encode(alone)
        with_weather += alone.weather is not None
    assert with_weather >= (1 if hours > -24 * 5 else 0)


def test_a_run_carries_the_free_columns_it_has(lake: Lake) -> None:
    runs = records.load(lake, FLEET[0].id).runs
    named = [{name for name in run.variables if name.startswith("x_")} for run in runs]
    assert {len(names) for names in named} == {0, 1}


def test_a_park_that_nobody_registered_is_named(lake: Lake) -> None:
    with pytest.raises(UnknownPark, match="no park 'atlantis'"):
        records.known(lake, [FLEET[0].id, "atlantis"], np.datetime64("2013-08-10T06:00:00", "s"))


def test_of_a_lake_without_rows_nothing_is_known(tmp_path: Path) -> None:
    empty = Lake(str(tmp_path))
    fleet.register(empty, FLEET[0])
    [known] = records.known(empty, [FLEET[0].id], np.datetime64("2013-08-10T06:00:00", "s")).values()
    assert known.weather is None
    assert len(known.history.valid_at) == 0
