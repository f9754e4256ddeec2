"""Once around the loop: a lasting loss is planted, found, and learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import numpy as np

from pvf import children
from pvf.demo import scenario
from pvforecast import dataset
from pvforecast.errors import StackError
from pvforecast.lake import records
from pvforecast.settings import Settings
from pvforecast.wiring import lake

Say = Callable[[str], None]
_RUN_DEADLINE_S = 600


def make_references(settings: Settings, say: Say) -> None:
    """Freeze the drift references at the time of the first model; existing ones are kept."""
    for made in children.drift(settings, "reference", "--all", "--until", scenario.NOW.isoformat()):
        say(f"{made['park_id']}: reference {made['reference_id']} ({made['kind']}), {made['first']} to {made['until']}")


def plant_and_detect(settings: Settings, say: Say) -> str:
    """Load the watched days with the fault, replay the daily checks, send the event; returns its id.

    Raises
    ------
    StackError
        nothing was found, or the event was not taken.
    """
    end = scenario.LOSS_FROM + scenario.WATCHED
    arguments = {
        "since": scenario.LOSS_FROM.isoformat(),
        "as_of": end.isoformat(),
        "source_options": scenario.planted_loss(),
        "publish": False,
    }
    children.pipeline("ingestion", settings, arguments, lambda task: say(f"ingestion: {task}"))
    checks = 0
    until = end + timedelta(days=1)
    words = ("check", "--all", "--as-of", scenario.LOSS_FROM.isoformat(), "--until", until.isoformat())
    found = None
    for line in children.drift(settings, *words, "--sink", settings.trigger_url):
        checks += 1
        if line["event"] is not None:
            found = line
    if found is None:
        raise StackError(f"the loss was not found in {checks} checks", hint="see log/drift.log")
    data = found["event"]["data"]
    alarms = ", ".join(f"{a['detector']} {a['score']:.1f} > {a['threshold']:.1f}" for a in data["alarms"])
    say(f"{checks} daily checks; {found['day']}: {found['park_id']} {alarms}")
    say(f"likely {data['cause']['likely']}, advice: {data['advice']}")
    say(f"event {found['event_id']}, {found['delivered']}")
    return str(found["event_id"])


def known_event(settings: Settings) -> str | None:
    """The event that an earlier run of the loop ended with, if its training run has finished."""
    runs: list[dict[str, Any]] = httpx.get(f"{settings.trigger_url}/runs", timeout=10).json()["runs"]
    done = [run for run in runs if run.get("verdict")]
    return str(done[0]["event_id"]) if done else None


def await_retrain(settings: Settings, event_id: str, check: Callable[[], None]) -> dict[str, Any]:
    """Wait until the trigger's training run has ended; returns the event with its run.

    Parameters
    ----------
    check : raises when a part of the stack died.

    Raises
    ------
    StackError
        the run failed, or took too long.
    """
    deadline = time.monotonic() + _RUN_DEADLINE_S
    while time.monotonic() < deadline:
        check()
        event: dict[str, Any] = httpx.get(f"{settings.trigger_url}/events/{event_id}", timeout=10).json()
        run = event.get("run")
        if run and run.get("finished_at"):
            if not run.get("verdict"):
                raise StackError(
                    f"the training run failed: {run}", hint=f"its log is in {settings.home / 'log' / 'retrain'}"
                )
            return event
        time.sleep(1.0)
    raise StackError(f"the training run did not end in {_RUN_DEADLINE_S} s", hint=f"see {settings.home / 'log'}")


def next_issue(settings: Settings, after: datetime) -> datetime:
    """The first local midnight after `after`: when the new model forecasts first."""
    record = records.load(lake(settings), scenario.PARK)
    begin = np.datetime64(int(after.timestamp()), "s")
    issue = dataset.daily_issues(record, begin, begin + np.timedelta64(2 * 86_400, "s"))[0]
    return datetime.fromisoformat(f"{issue}+00:00")
