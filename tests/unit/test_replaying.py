"""What was set aside comes back when the park's facts are mended, once, and its entry stays."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pvf.cli import app
from pvforecast import fleet, quarantine, refining, replaying
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import QUARANTINE, RAW_GENERATION
from pvforecast.parks import Park
from pvforecast.quarantine import Rejected
from pvforecast.sources.pvdaq_samples import PARKS

PARK = PARKS[0].model_copy(update={"latitude": 75.0, "longitude": 0.0})  # where the sun does not set in June
BEGIN, END = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 6, 1, 6, tzinfo=UTC)
NOW = datetime(2013, 6, 2, tzinfo=UTC)


def rows(power_kw: float) -> pd.DataFrame:
    at = pd.date_range(BEGIN, END, freq="15min", inclusive="left")
    delivered = pd.DataFrame({"measured_at": at, "received_at": at + pd.Timedelta(minutes=20)})
    return delivered.assign(
        park_id=PARK.id, inverter_id="1", period_s=np.int32(900), power_kw=power_kw, label="", source="scada"
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """With 24 rows that the park's facts, wrong by half, call impossible."""
    lake = Lake(str(tmp_path / "lake"))
    fleet.register(lake, PARK)
    lake.append_new(RAW_GENERATION, rows(5.0))
    refining.validate(lake, [PARK], BEGIN, END)
    return lake


def larger(lake: Lake) -> Park:
    park = PARK.model_copy(update={"ac_capacity_kw": 6.0, "valid_from": datetime(2001, 1, 1, tzinfo=UTC)})
    fleet.register(lake, park)
    return park


def test_rows_that_pass_now_go_on_and_are_marked(lake: Lake) -> None:
    held = quarantine.held(lake)
    assert len(held) == 24
    assert replaying.replay(lake, held, NOW) == {
        "replayed": [],
        "still_held": [row["id"] for row in held],
        "unreadable": [],
    }
    larger(lake)
    outcome = replaying.replay(lake, held, NOW)
    assert set(outcome["replayed"]) == {row["id"] for row in held}
    assert list(records.load(lake, PARK.id).power_kw) == [5.0] * 6
    assert quarantine.held(lake) == []
    assert len(lake.read(QUARANTINE)) == 48
    assert len(lake.read(RAW_GENERATION)) == 24


def test_a_row_that_never_reached_raw_is_added_to_it(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    fleet.register(lake, PARK)
    lines = rows(1.0).to_json(orient="records", lines=True, date_format="iso").splitlines()
    away = [
        Rejected(RAW_GENERATION.name, PARK.id, "scada", f"file.csv row {n}", "park unknown", line)
        for n, line in enumerate(lines)
    ]
    away += [Rejected(RAW_GENERATION.name, PARK.id, "mqtt", "topic", "no JSON", "power: a lot"),
             Rejected(RAW_GENERATION.name, "stranger", "mqtt", "topic", "unknown", lines[0])]  # fmt: skip
    quarantine.hold(lake, away, END)
    outcome = replaying.replay(lake, quarantine.held(lake), NOW)
    assert (len(outcome["replayed"]), len(outcome["unreadable"])) == (24, 2)
    assert list(records.load(lake, PARK.id).power_kw) == [1.0] * 6
    assert {row["payload"] for row in quarantine.held(lake)} == {"power: a lot", lines[0]}


def test_the_program_lists_shows_replays_and_dismisses(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PVF_LAKE_URI", lake.uri)

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, ["quarantine", *words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    listed = json.loads(said("list", "--json"))
    assert (listed["held"], listed["reasons"]) == (24, {"above_capacity": 24})
    first, second = (row["id"] for row in listed["rows"][:2])
    assert first in said("list")  # whole also on a narrow screen: it is typed again
    assert json.loads(json.loads(said("show", first, "--json"))["payload"])["power_kw"] == 5.0
    assert "1 dismissed" in said("dismiss", first)
    larger(lake)
    assert json.loads(said("replay", second, "--json"))["replayed"] == [second]
    assert "22 replayed" in said("replay", "--park", PARK.id)
    assert "0 held: nothing" in said("list")
