"""When events become a run, and when people have to look instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from inference.retrain.policy import Past, Policy, Waiting, decide

DAY = timedelta(days=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
T = datetime(2013, 9, 1, 12, tzinfo=UTC)
POLICY = Policy(coalesce=timedelta(seconds=30))


def _event(name: str = "e", *parks: str, at: datetime = T, age_s: float = 60.0, attempts: int = 0) -> Waiting:
    return Waiting(name, frozenset(parks or ("p",)), at, NOW - timedelta(seconds=age_s), attempts)


def _run(as_of: datetime, *parks: str, number: int = 1, active: bool = False, **cleared: datetime) -> Past:
    return Past(number, as_of, active, "refresh", frozenset(parks), cleared)


def test_the_first_event_waits_for_others_and_then_all_are_one_run() -> None:
    young = [_event("a", age_s=10), _event("b", "q", age_s=5)]
    assert decide(young, [], NOW, POLICY).claim == ()
    assert decide([*young, _event("c", "r", age_s=31)], [], NOW, POLICY).claim == ("a", "b", "c")


def test_nothing_starts_while_a_run_is_active() -> None:
    decision = decide([_event(at=T + 3 * DAY)], [_run(T, "q", active=True)], NOW, POLICY)
    assert (decision.claim, decision.attach, decision.escalate) == ((), {}, {})


@pytest.mark.parametrize(("hours", "attached"), [(-24, False), (-23, True), (0, True), (23, True), (24, False)])
def test_the_cool_down_reaches_as_far_back_as_forward(hours: int, attached: bool) -> None:
    decision = decide([_event(at=T + timedelta(hours=hours))], [_run(T, "q", number=7)], NOW, POLICY)
    assert decision.attach == ({"e": 7} if attached else {})
    assert decision.claim == (() if attached else ("e",))


def test_a_park_whose_run_did_not_help_goes_to_people_and_its_run_is_marked() -> None:
    decision = decide([_event(at=T + 10 * DAY)], [_run(T, "p", number=3)], NOW, POLICY)
    assert "did not clear it" in decision.escalate["e"]
    assert decision.unhelped == {3}
    assert decision.claim == ()


def test_after_a_clearance_or_six_weeks_it_is_a_new_drift() -> None:
    cleared = _run(T, "p", p=T + 2 * DAY)
    assert decide([_event(at=T + 10 * DAY)], [cleared], NOW, POLICY).claim == ("e",)
    assert decide([_event(at=T + 43 * DAY)], [_run(T, "p")], NOW, POLICY).claim == ("e",)
    before = _run(T, "p", p=T - 2 * DAY)
    assert "e" in decide([_event(at=T + 10 * DAY)], [before], NOW, POLICY).escalate


def test_a_fleet_event_is_trained_on_while_one_of_its_parks_is_new_to_it() -> None:
    runs = [_run(T, "p", number=4), _run(T - 2 * DAY, "q", number=3)]
    assert decide([_event("e", "p", "q", "r", at=T + 10 * DAY)], runs, NOW, POLICY).claim == ("e",)
    assert "did not clear it" in decide([_event("e", "p", "q", at=T + 10 * DAY)], runs, NOW, POLICY).escalate["e"]


def test_a_failed_event_waits_for_its_retry_and_then_goes_to_people() -> None:
    assert decide([_event(age_s=-5, attempts=1)], [], NOW, POLICY).claim == ()
    assert decide([_event(attempts=2)], [], NOW, POLICY).claim == ("e",)
    assert "3 runs failed" in decide([_event(attempts=3)], [], NOW, POLICY).escalate["e"]
    assert [POLICY.pause(n) / POLICY.retry_after for n in (1, 2, 3)] == [1, 2, 4]


def test_the_budget_of_a_week_counts_runs_within_seven_days_by_the_events_time() -> None:
    runs = [_run(T - n * DAY, "q", number=n) for n in (1, 3, 5)]
    assert "budget" in decide([_event(at=T + DAY)], runs, NOW, POLICY).escalate["e"]
    assert decide([_event(at=T + 3 * DAY)], runs, NOW, POLICY).claim == ("e",)
