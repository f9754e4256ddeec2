"""The weather's features together: TabularDrift's statistic, its limit out of the reference, and no alarm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.drift import events, history, tabular
from inference.drift.check import Check, check
from inference.drift.days import DayCutter, check_time
from inference.drift.job import OK, Line
from inference.drift.reference import Reference
from inference.drift.tabular import FEATURES, Tabular
from inference.drift.tests.parks import tampered
from pvforecast.known import ParkRecord

DAY = np.datetime64("2022-07-01")


def _checked(record: ParkRecord, reference: Reference) -> Check:
    return check(DayCutter(record), reference, check_time(record.site, DAY))


def _warmer(record: ParkRecord, kelvin: float) -> ParkRecord:
    """From the end of the reference on, by its weather alone."""
    runs = tuple(
        replace(run, variables={**run.variables, "temp_air": run.variables["temp_air"] + kelvin})
        if run.run_at >= np.datetime64("2022-06-02") else run
        for run in record.runs
    )  # fmt: skip
    return replace(record, runs=runs)


def test_usual_weather_lies_within_the_limit(record: ParkRecord, reference: Reference) -> None:
    found = _checked(record, reference).weather
    assert found is not None
    assert set(found.distance) == set(FEATURES)
    assert 0.0 < max(found.distance.values()) <= found.limit < 1.0
    assert (found.recent, found.exceeds, found.p_limit) == (14, False, None)


def test_new_weather_is_told_by_its_feature_and_alarms_nobody(record: ParkRecord, reference: Reference) -> None:
    outcome = _checked(_warmer(record, 12.0), reference)
    assert outcome.weather is not None
    assert outcome.weather.exceeds
    assert max(outcome.weather.distance, key=outcome.weather.distance.__getitem__) == "temp"
    assert outcome.alarms == ()


def test_the_limit_is_that_of_the_reference_s_own_windows(reference: Reference) -> None:
    z = reference.standardised(reference.days, {name: reference.statistics[name] for name in FEATURES})
    beyond = [
        found.exceeds
        for last in range(14, len(reference.days), 3)
        if (found := tabular.measure(reference, {name: values[:last] for name, values in z.items()}))
    ]
    assert len(beyond) > 100
    assert np.mean(beyond) == pytest.approx(tabular.RARE, abs=0.01)


def test_the_distances_are_tabular_drift_s(record: ParkRecord, reference: Reference) -> None:
    outcome = _checked(tampered(record, "2022-07-01", lambda power: power * 0.0), reference)
    assert outcome.alarms
    sent = events.event(outcome)["data"]["weather"]
    assert sent["p_limit"] == pytest.approx(0.05 / len(FEATURES), abs=1e-6)
    assert set(sent["p_value"]) == set(FEATURES)
    assert max(sent["distance"], key=sent["distance"].get) == min(sent["p_value"], key=sent["p_value"].get)


def test_too_few_days_or_no_pool_say_nothing(reference: Reference) -> None:
    few = {name: np.zeros(13) for name in FEATURES}
    assert tabular.measure(reference, few) is None
    assert tabular.measure(reference, few, explained=True) is None
    young = replace(
        reference, days=reference.days[:20], statistics={n: v[:20] for n, v in reference.statistics.items()}
    )
    assert tabular.measure(young, {name: np.zeros(14) for name in FEATURES}) is None


def test_each_feature_is_kept_beside_the_limit_of_all() -> None:
    found = Tabular({"csi": 0.2, "cse": 0.1, "temp": 0.5}, 0.4, 14, 380, exceeds=True)
    rows = history._rows(Line("a", "2022-07-01", "2022-07-02T12:00:00Z", OK, reference_id="r", weather=found))
    assert {(row["kind"], row["name"], row["value"], row["limit"], row["alarm"]) for row in rows} == {
        ("weather", "csi", 0.2, 0.4, False), ("weather", "cse", 0.1, 0.4, False), ("weather", "temp", 0.5, 0.4, True),
    }  # fmt: skip
