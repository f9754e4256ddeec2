"""From a reference and a record to an event: what is found, what it is called, and what stays quiet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from inference.drift import events
from inference.drift import reference as references
from inference.drift.check import Check, check, today
from inference.drift.days import DayCutter, check_time
from inference.drift.reference import FULL, PROVISIONAL, Budget, Reference, from_facts, make
from inference.drift.tests.conftest import UNTIL
from inference.drift.tests.parks import SITE, simulated, tampered
from pvforecast.errors import InvalidInput, NotEnoughData
from pvforecast.known import Floats, ParkRecord

CHANGE = "2022-06-10"


def _first_event(record: ParkRecord, reference: Reference, days: int, first: str = "2022-06-01") -> Check | None:
    cutter = DayCutter(record)
    for day in np.datetime64(first, "D") + np.arange(days):
        outcome = check(cutter, reference, check_time(record.site, day))
        if outcome.alarms:
            return outcome
    return None


def test_a_healthy_park_stays_quiet(record: ParkRecord, reference: Reference) -> None:
    assert reference.kind == FULL
    assert _first_event(record, reference, 60) is None


@pytest.mark.parametrize(
    ("change", "within", "likely", "detector"),
    [
        (lambda p: p * 0.9, 28, "loss_or_soiling", "cusum_level"),
        (lambda p: np.minimum(p, 0.45 * SITE.ac_capacity_kw), 28, "clipping", "cusum_level"),
        (lambda p: np.roll(p, 1), 14, "clock_shift", "cusum_tc"),
        (lambda p: p * 1_000.0, 1, "unit_error", "above_capacity"),
        (lambda p: p * 0.0, 1, "outage", "dead"),
        (lambda p: np.full_like(p, p[12]), 2, "frozen_sensor", "frozen_values"),
        (lambda p: p * 1.15, 28, "unknown", "cusum_level"),
    ],
)
def test_a_planted_fault_is_found_and_named(
    record: ParkRecord,
    reference: Reference,
    change: Callable[[Floats], Floats],
    within: int,
    likely: str,
    detector: str,
) -> None:
    found = _first_event(tampered(record, CHANGE, change), reference, 9 + within)
    assert found is not None
    assert found.day >= np.datetime64(CHANGE)
    assert any(alarm.detector.startswith(detector) for alarm in found.alarms)
    assert found.cause is not None
    assert found.cause.likely == likely, found.cause.evidence


def test_the_event_of_a_loss_tells_what_a_human_needs(record: ParkRecord, reference: Reference) -> None:
    found = _first_event(tampered(record, CHANGE, lambda p: p * 0.9), reference, 40)
    assert found is not None
    event = events.event(found)
    data = event["data"]
    assert (event["type"], event["source"], event["subject"]) == (events.TYPE, events.SOURCE, SITE.park_id)
    assert event["time"] == f"{check_time(SITE, found.day)}Z"
    assert (data["advice"], data["provisional"]) == ("retrain", False)
    assert (data["level"], data["severity"]) in (("warn", "warning"), ("page", "critical"))
    assert data["cause"]["evidence"]["power_ratio"] == pytest.approx(0.9, abs=0.03)
    assert abs(np.datetime64(data["windows"]["recent"]["first"]) - np.datetime64(CHANGE)) <= np.timedelta64(3, "D")
    tests = {(row["statistic"], row["test"]): row for row in data["distances"]}
    assert set(tests) == {(s, t) for s in ("level", "tc", "lrel") for t in ("ks", "cvm")}
    assert all(row["recent"] == 14 for row in tests.values())
    assert all(row["bias"] > 0 and not row["carries"] for row in data["psi"])


def test_a_check_is_a_pure_function(record: ParkRecord, reference: Reference) -> None:
    lossy = tampered(record, CHANGE, lambda p: p * 0.9)
    found = _first_event(lossy, reference, 40)
    assert found is not None
    again = check(DayCutter(lossy), reference, found.checked_at)
    assert events.event(again) == events.event(found)


def test_what_came_later_changes_nothing(record: ParkRecord, reference: Reference) -> None:
    lossy = tampered(record, CHANGE, lambda p: p * 0.9)
    found = _first_event(lossy, reference, 40)
    assert found is not None
    cut = lossy.available_at <= found.checked_at
    past = ParkRecord(
        SITE, tuple(run for run in lossy.runs if run.available_at <= found.checked_at),
        lossy.valid_at[cut], lossy.available_at[cut], lossy.power_kw[cut],
    )  # fmt: skip
    assert events.event(check(DayCutter(past), reference, found.checked_at)) == events.event(found)


def test_a_lasting_change_is_one_warning_in_a_week_and_at_most_one_page(
    record: ParkRecord, reference: Reference
) -> None:
    lossy = tampered(record, CHANGE, lambda p: p * 0.8)
    found = _first_event(lossy, reference, 40)
    assert found is not None
    cutter = DayCutter(lossy)
    following = [check(cutter, reference, check_time(SITE, found.day + day)) for day in range(1, 8)]
    levels = [found.level, *(outcome.level for outcome in following if outcome.alarms)]
    assert levels in (["warn"], ["page"], ["warn", "page"])


def test_days_of_a_hard_fault_do_not_feed_the_sums(record: ParkRecord, reference: Reference) -> None:
    def broken_for_two_days(power: Floats) -> Floats:
        power[:48] *= 1_000.0
        return power

    cutter = DayCutter(tampered(record, CHANGE, broken_for_two_days))
    outcome = check(cutter, reference, check_time(SITE, np.datetime64("2022-06-20")))
    assert outcome.scores["cusum_level"][0] < 4.0


@pytest.mark.parametrize(
    ("change", "hour", "likely"),
    [
        (lambda day: np.where(np.arange(24) >= 10, 0.0, day), 18, "outage"),
        (lambda day: np.where(np.arange(24) >= 10, day[10], day), 21, "frozen_sensor"),
        (lambda day: np.where(np.arange(24) >= 10, day * 1_000.0, day), 13, "unit_error"),
    ],
)
def test_a_fault_of_the_morning_is_told_on_the_same_day_under_the_id_it_will_have(
    record: ParkRecord, reference: Reference, change: Callable[[Floats], Floats], hour: int, likely: str
) -> None:
    day = np.datetime64("2022-06-13")
    begin = check_time(SITE, day) - np.timedelta64(29, "h")

    def from_ten(power: Floats) -> Floats:
        return np.concatenate([change(power[:24]), power[24:]])

    cutter = DayCutter(tampered(record, str(day), from_ten))
    assert today(cutter, reference, begin + np.timedelta64(11, "h")) == ()
    (early,) = today(cutter, reference, begin + np.timedelta64(hour, "h"))
    assert early.cause is not None
    assert (early.day, early.cause.likely, early.level) == (day, likely, "page")
    later = check(cutter, reference, check_time(SITE, day))
    assert events.event(later)["id"] == events.event(early)["id"]


def test_a_day_that_is_not_over_does_not_feed_the_sums(record: ParkRecord, reference: Reference) -> None:
    cutter = DayCutter(tampered(record, CHANGE, lambda p: p * 0.4))
    morning = check_time(SITE, np.datetime64(CHANGE) + 1) - np.timedelta64(8, "h")
    assert today(cutter, reference, morning) == ()


def test_a_day_of_the_reference_cannot_be_checked(record: ParkRecord, reference: Reference) -> None:
    with pytest.raises(InvalidInput, match="belongs to the reference"):
        check(DayCutter(record), reference, check_time(SITE, np.datetime64("2022-05-31")))


def test_a_day_without_metering_is_said_so(record: ParkRecord, reference: Reference) -> None:
    with pytest.raises(NotEnoughData, match="nothing metered on 2022-09-01"):
        check(DayCutter(record), reference, check_time(SITE, np.datetime64("2022-09-01")))


def test_a_reference_survives_storage_and_is_named_by_its_content(reference: Reference) -> None:
    back = from_facts(reference.facts(), reference.booster_ubj)
    assert back.reference_id == reference.reference_id
    assert back.thresholds == reference.thresholds
    assert (
        replace(back, thresholds={**back.thresholds, "warn": {"cusum_level": 1.0}}).reference_id
        != reference.reference_id
    )


def test_a_reference_knows_nothing_from_after_its_end(record: ParkRecord, reference: Reference) -> None:
    other_future = tampered(record, "2022-06-01", lambda p: p * 0.5)
    assert make(other_future, UNTIL).reference_id == reference.reference_id


def test_the_reference_leaves_out_faulty_days(record: ParkRecord, reference: Reference) -> None:
    def broken_for_a_day(power: Floats) -> Floats:
        power[:24] *= 1_000.0
        return power

    made = make(tampered(record, "2022-03-10", broken_for_a_day), UNTIL)
    row = np.flatnonzero(made.days == np.datetime64("2022-03-10"))
    assert np.isnan(made.statistics["lrel"][row]).all()
    assert not np.isnan(reference.statistics["lrel"][row]).any()


YOUNG = replace(SITE, park_id="young", ac_capacity_kw=9.0)


@pytest.fixture(scope="module")
def young() -> ParkRecord:
    return simulated("2022-04-01", 120, site=YOUNG, scale=1.05, seed=7)


@pytest.fixture(scope="module")
def borrowed(young: ParkRecord, record: ParkRecord) -> Reference:
    return make(young, UNTIL, [record])


def test_a_young_park_is_provisional_and_names_its_pool(borrowed: Reference) -> None:
    assert (borrowed.kind, borrowed.booster_ubj, borrowed.pool_parks) == (PROVISIONAL, b"", (SITE.park_id,))


def test_a_healthy_young_park_stays_quiet(young: ParkRecord, borrowed: Reference) -> None:
    assert _first_event(young, borrowed, 55) is None


def test_a_young_park_that_lost_power_is_to_be_watched_not_retrained(young: ParkRecord, borrowed: Reference) -> None:
    found = _first_event(tampered(young, CHANGE, lambda p: p * 0.8), borrowed, 40)
    assert found is not None
    data = events.event(found)["data"]
    assert (data["provisional"], data["advice"]) == (True, "watch")


def test_without_a_pool_only_hard_rules_watch_a_young_park(young: ParkRecord) -> None:
    alone = make(young, UNTIL, [])
    assert alone.thresholds == {"warn": {}, "page": {}}
    assert _first_event(tampered(young, CHANGE, lambda p: p * 0.8), alone, 40) is None
    found = _first_event(tampered(young, CHANGE, lambda p: p * 1_000.0), alone, 40)
    assert found is not None
    assert found.distances == found.psi == ()


def test_a_reference_needs_two_weeks(young: ParkRecord) -> None:
    with pytest.raises(NotEnoughData, match="at least 14"):
        make(young, np.datetime64("2022-04-10T12:00:00", "s"))


def test_the_budget_is_shared_by_the_detectors_and_pages_by_the_fleet() -> None:
    def total(budget: Budget, kind: str = FULL) -> dict[str, float]:
        tests = {"distance": 2 * len(references.EXPLAINED[kind])}
        return {
            level: round(sum(rate * tests.get(name, 1) for name, rate in rates.items()), 6)
            for level, rates in budget.of(kind).items()
        }

    assert total(Budget(warnings=0.5, fleet_pages=2.0, parks=1_000)) == {"warn": 0.5, "page": 0.002}
    assert total(Budget(warnings=0.25, parks=1)) == {"warn": 0.25, "page": references.MOST_PAGES}
    assert total(Budget(warnings=0.5, parks=1), PROVISIONAL)["warn"] == 0.2


def test_a_smaller_budget_raises_the_thresholds(record: ParkRecord, reference: Reference) -> None:
    strict = make(record, UNTIL, budget=Budget(warnings=0.1, parks=1_000)).thresholds
    warn, page = (sum(strict[level].values()) - sum(reference.thresholds[level].values()) for level in ("warn", "page"))
    assert warn > 0.0
    assert page >= 0.0  # so quiet a reference has the least days of a page as its limit
