"""A fault in the data: found, told, kept from training, and never answered with a training run.

A real park on S3 and Postgres; the drift job, the trigger and `pvf drift trace` as processes, days replayed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pvforecast import fleet, holds, ingestion, refining, wiring
from pvforecast.known import HOUR
from pvforecast.lake import Lake, records
from pvforecast.settings import Settings, to_env
from pvforecast.shards import as_datetime64
from pvforecast.sources.pvdaq_samples import PARKS, PlantedLoss, PvdaqSamples
from tests.retrain_trigger import Trigger, schema
from tests.stack_fixtures import own_bucket

ROOT = Path(__file__).resolve().parents[2]
BEGIN, REFERENCE = datetime(2013, 6, 20, tzinfo=UTC), datetime(2013, 8, 10, 6, tzinfo=UTC)
OUT = PlantedLoss("serf-east", datetime(2013, 9, 9, 7, tzinfo=UTC), 1.0)
BACK = OUT.start + timedelta(days=3)
END = BACK + timedelta(days=14)
PARK = next(park for park in PARKS if park.id == OUT.park_id)
pytestmark = [pytest.mark.stack, pytest.mark.slow]


@dataclass(frozen=True)
class Place:
    """A park whose meter said nothing for three days, and the trigger."""

    settings: Settings
    lake: Lake
    trigger: Trigger

    def pvf(self, *words: str) -> list[dict[str, Any]]:
        """The JSON lines that a command of the program prints."""
        done = subprocess.run(
            [sys.executable, "-m", "pvf", "drift", *words], cwd=ROOT, env={**os.environ, **to_env(self.settings)},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def check(self, first: datetime, last: datetime) -> list[dict[str, Any]]:
        """All daily checks; a command ends with the first event."""
        words = ("check", "--park", PARK.id, "--until", last.isoformat())
        lines = self.pvf(*words, "--as-of", first.isoformat())
        while lines[-1]["event"]:
            at = datetime.fromisoformat(lines[-1]["checked_at"]) + timedelta(hours=1)
            more = self.pvf(*words, "--as-of", at.isoformat())
            if not more:
                break
            lines += more
        return lines

    def trace(self, event_id: str) -> dict[str, dict[str, Any]]:
        (told,) = self.pvf("trace", event_id, "--json")
        return {step["step"]: step for step in told["steps"]}


@pytest.fixture(scope="module")
def place(infra: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("outage")
    with schema(infra) as dsn, Trigger(dsn, folder) as trigger:
        given = {"postgres_dsn": dsn, "trigger_url": trigger.url, "mlflow_uri": "", "home": folder}
        settings = Settings.model_validate({**own_bucket(infra, "outage").model_dump(), **given})
        lake = wiring.lake(settings)
        fleet.register(lake, PARK)
        for source, begin, end in (
            (PvdaqSamples(), BEGIN, OUT.start), (PvdaqSamples(loss=OUT), OUT.start, BACK), (PvdaqSamples(), BACK, END),
        ):  # fmt: skip
            ingestion.ingest(lake, source, PARK, begin, end)
            refining.validate(lake, [PARK], begin, end)
        made = Place(settings, lake, trigger)
        (reference,) = made.pvf("calibrate", "--until", REFERENCE.isoformat())
        assert reference["status"] == "made"
        yield made


def test_an_outage_is_held_from_training_traced_and_cleared_without_a_run(place: Place) -> None:
    lines = place.check(OUT.start, BACK)
    told = [line for line in lines if line["event"]]
    event = told[0]["event"]
    assert (event["data"]["cause"]["likely"], event["data"]["advice"]) == ("outage", "fix_data")
    assert event["data"]["day"] == f"{OUT.start:%Y-%m-%d}"
    (hold,) = holds.read(place.lake, [PARK.id])
    assert (hold.event_id, hold.state, hold.begin) == (event["id"], holds.HELD, as_datetime64(OUT.start.isoformat()))
    record = records.load(place.lake, PARK.id)
    hours = np.arange(hold.begin, as_datetime64(END.isoformat()), HOUR)
    assert np.isfinite(record.truth(hours)).sum() > 0.9 * len(hours)
    assert np.isnan(record.truth(hours, healthy=True)).all()

    steps = place.trace(event["id"])
    assert [*steps] == ["event", "quarantined", "run", "cleared"]
    assert (steps["event"]["id"], steps["quarantined"]["id"]) == (event["id"], told[0]["also"][0]["id"])
    assert (steps["run"]["id"], steps["cleared"]["id"]) == ("", "")
    assert "fix_data" in steps["run"]["says"]

    after = place.check(BACK + timedelta(hours=6), END)
    (cleared,) = [one for line in after for one in line["also"]]
    steps = place.trace(event["id"])
    assert (steps["cleared"]["id"], steps["cleared"]["says"]) == (cleared["id"], "recovered")
    (hold,) = holds.read(place.lake, [PARK.id])
    assert hold.state == holds.ENDED
    learned = hours[np.isfinite(records.load(place.lake, PARK.id).truth(hours, healthy=True))]
    assert learned.min() >= as_datetime64(BACK.isoformat())
    assert place.trigger.runs() == place.trigger.calls() == []
