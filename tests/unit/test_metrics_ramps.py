"""Ramps, on series whose ramps can be counted by eye."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast.evaluation import ramps

ONE = np.zeros(6, np.int64)
HOURS = np.arange(6, dtype=float)


def test_events_hits_and_false_alarms() -> None:
    metered = np.array([0.0, 0.3, 0.3, 0.0, 0.1, 0.1])  # up at 1, down at 3
    forecast = np.array([0.0, 0.3, 0.0, 0.1, 0.5, 0.5])  # up at 1 (hit), down at 2 (false), up at 4 (false)
    result = ramps.scores(ONE, HOURS, metered, forecast)
    assert (result.events, result.hits, result.false_alarms) == (2, 1, 2)
    assert result.detected == 0.5
    assert result.false_alarm_ratio == pytest.approx(2 / 3)
    assert result.critical_success == 0.25


def test_a_ramp_the_other_way_is_a_false_alarm() -> None:
    result = ramps.scores(ONE[:2], HOURS[:2], np.array([0.5, 0.9]), np.array([0.5, 0.1]))
    assert (result.events, result.hits, result.false_alarms) == (1, 0, 1)


def test_no_ramp_spans_a_gap_or_two_issues() -> None:
    target = np.array([0.0, 0.0, 0.9, 0.9, 0.0, 0.0])
    gap = np.array([0.0, 1.0, 5.0, 6.0, 0.0, 1.0])
    group = np.array([0, 0, 0, 0, 1, 1])
    assert ramps.scores(group, gap, target, target).events == 0


def test_the_door_straightens_what_lies_within_it_and_keeps_what_does_not() -> None:
    line = np.linspace(0, 0.5, 6)
    np.testing.assert_allclose(ramps.swinging_door(line), 0.1)
    np.testing.assert_allclose(ramps.swinging_door(line + np.array([0, 1, -1, 1, -1, 0]) * 0.02), 0.1)
    tent = np.array([0.0, 0.3, 0.6, 0.3, 0.0])
    np.testing.assert_allclose(ramps.swinging_door(tent), [0.3, 0.3, -0.3, -0.3])


def test_the_ramp_score_is_the_mean_difference_of_slopes() -> None:
    flat, rising = np.zeros(5), np.arange(5) * 0.2
    assert ramps.scores(ONE[:5], HOURS[:5], rising, flat).ramp_score == pytest.approx(0.2)
    assert ramps.scores(ONE[:5], HOURS[:5] / 4, rising, flat).ramp_score == pytest.approx(0.8)  # quarter hours
    assert ramps.scores(ONE[:5], HOURS[:5], rising, rising).ramp_score == 0.0
    assert np.isnan(ramps.scores(ONE[:1], HOURS[:1], flat[:1], flat[:1]).ramp_score)
