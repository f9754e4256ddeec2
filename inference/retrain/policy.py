"""When events become a training run, when they belong to one already, and when people have to look instead.

Pure: the store hands in what it knows, in one transaction, and writes down what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Policy:
    """What may start how often.

    Attributes
    ----------
    cool_down : events this close to a run's as-of, before or after it and by their own time, are part of that run.
    coalesce : how long the first waiting event waits for others, by the trigger's clock.
    runs_a_week : runs that went well or are active, by their as-of; what comes beyond goes to people.
    attempts : failed runs an event goes through before it goes to people.
    retry_after : from a failed run to the next attempt; doubled each time.
    memory : how long an event after a run says that this run did not help.
    """

    cool_down: timedelta = timedelta(hours=24)
    coalesce: timedelta = timedelta(seconds=5)
    runs_a_week: int = 3
    attempts: int = 3
    retry_after: timedelta = timedelta(minutes=10)
    memory: timedelta = timedelta(days=42)

    def pause(self, attempts: int) -> timedelta:
        """How long an event waits after its `attempts`-th failed run."""
        return self.retry_after * float(2 ** max(0, attempts - 1))


@dataclass(frozen=True)
class Waiting:
    """An event that waits. `since` is when it came in, or may be tried again, by the trigger's clock.

    `parks` : its subject, or all that a fleet event names.
    """

    id: str
    parks: frozenset[str]
    time: datetime
    since: datetime
    attempts: int = 0


@dataclass(frozen=True)
class Past:
    """A run that is active or went well, the parks whose events it answered, and those that were cleared since.

    `cleared` : park -> the latest time at which the park was reported clear.
    """

    id: int
    as_of: datetime
    active: bool
    verdict: str = ""
    parks: frozenset[str] = frozenset()
    cleared: dict[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Event id -> the run it belongs to; event id -> why people should look; the events of the run to start now."""

    attach: dict[str, int]
    escalate: dict[str, str]
    unhelped: frozenset[int]
    claim: tuple[str, ...]


def decide(waiting: Sequence[Waiting], runs: Sequence[Past], now: datetime, policy: Policy) -> Decision:
    """What becomes of the waiting events.

    Parameters
    ----------
    runs : newest first.

    Returns
    -------
    Events in none of its parts wait on: for others, for a retry, or for the active run to end.
    """
    attach: dict[str, int] = {}
    escalate: dict[str, str] = {}
    unhelped: set[int] = set()
    ready = []
    for event in waiting:
        near = next((run for run in runs if abs(event.time - run.as_of) < policy.cool_down), None)
        before = _unhelpful(event, runs, policy)
        if near is not None:
            attach[event.id] = near.id
        elif before is not None:
            escalate[event.id] = (
                f"run {before.id} as of {before.as_of:%Y-%m-%d} ({before.verdict}) did not clear it: look at the park,"
                " and accept the change if it is the new normal"
            )
            unhelped.add(before.id)
        elif event.attempts >= policy.attempts:
            escalate[event.id] = f"{event.attempts} runs failed: look at their logs"
        elif event.since <= now:
            ready.append(event)
    if not ready or any(run.active for run in runs) or min(e.since for e in ready) + policy.coalesce > now:
        return Decision(attach, escalate, frozenset(unhelped), ())
    as_of = max(event.time for event in ready)
    used = sum(abs(run.as_of - as_of) < WEEK for run in runs)
    if used >= policy.runs_a_week:
        why = f"the budget of {policy.runs_a_week} runs a week is used up: train by hand if it cannot wait"
        return Decision(attach, escalate | {event.id: why for event in ready}, frozenset(unhelped), ())
    return Decision(attach, escalate, frozenset(unhelped), tuple(event.id for event in ready))


def _unhelpful(event: Waiting, runs: Sequence[Past], policy: Policy) -> Past | None:
    """A run that answered this drift already without clearing it; None while any of the event's parks is new to it."""
    found = [_answered(park, event.time, runs, policy) for park in sorted(event.parks)]
    return found[0] if all(run is not None for run in found) else None


def _answered(park: str, time: datetime, runs: Sequence[Past], policy: Policy) -> Past | None:
    """The newest run that already answered an event of this park, recently and without clearing it."""
    for run in runs:
        recent = timedelta(0) <= time - run.as_of <= policy.memory
        if recent and not run.active and park in run.parks:
            cleared = run.cleared.get(park)
            return None if cleared is not None and cleared >= run.as_of else run
    return None
