"""Scores, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvforecast.evaluation import metrics

TARGET = np.array([0.2, 0.4, 0.6, 0.0])
FORECAST = np.array([0.3, 0.2, 0.6, 0.1])  # errors +0.1, -0.2, 0, +0.1
LEVELS = (0.1, 0.5, 0.9)


def test_point_scores() -> None:
    assert metrics.nmae(TARGET, FORECAST) == pytest.approx(0.1)
    assert metrics.nrmse(TARGET, FORECAST) == pytest.approx(np.sqrt(0.06 / 4))
    assert metrics.bias(TARGET, FORECAST) == pytest.approx(0.0)
    assert metrics.bias(TARGET, FORECAST + 0.1) == pytest.approx(0.1)  # too high is positive
    assert metrics.r2(TARGET, FORECAST) == pytest.approx(1 - 0.06 / 0.2)
    assert metrics.r2(TARGET, TARGET) == 1.0
    assert metrics.r2(TARGET, np.full(4, 0.3)) == pytest.approx(0.0)  # the mean


def test_pinball_weighs_each_side_by_its_level() -> None:
    quantiles = np.array([[0.1, 0.3, 0.5]])
    # target 0.4: errors +0.3, +0.1, -0.1 -> 0.03, 0.05, 0.01
    assert metrics.pinball(np.array([0.4]), quantiles, LEVELS) == pytest.approx([0.09 / 3])
    # target 0.0: errors -0.1, -0.3, -0.5 -> 0.09, 0.15, 0.05
    assert metrics.pinball(np.array([0.0]), quantiles, LEVELS) == pytest.approx([0.29 / 3])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=20, max_size=60), st.sampled_from((0.1, 0.25, 0.5, 0.9)), st.floats(-0.5, 0.5)
)
def test_no_forecast_has_less_pinball_loss_than_the_true_quantile(
    sample: list[float], level: float, away: float
) -> None:
    target = np.array(sample)
    true = np.quantile(target, level, method="inverted_cdf")

    def loss(quantile: float) -> float:
        return float(metrics.pinball(target, np.full((len(target), 1), quantile), (level,)).mean())

    assert loss(true) <= loss(true + away) + 1e-12


def test_the_pinball_loss_of_the_median_is_half_the_absolute_error() -> None:
    loss = metrics.pinball(TARGET, FORECAST[:, None], (0.5,))
    assert loss == pytest.approx(np.abs(TARGET - FORECAST) / 2)


def test_picp_counts_the_bounds_in() -> None:
    lower, upper = np.array([0.1, 0.4, 0.7, 0.1]), np.array([0.2, 0.4, 0.8, 0.2])
    assert metrics.picp(TARGET, lower, upper) == 0.5


def test_the_summary_scores_daylight_and_r2_over_all_hours() -> None:
    daylight = np.array([True, True, True, False])
    quantiles = np.stack([FORECAST - 0.1, FORECAST, FORECAST + 0.1], axis=1)
    scores = metrics.summary(TARGET, quantiles, LEVELS, daylight)
    assert scores["daylight_nmae"] == pytest.approx(0.1)
    assert scores["daylight_nrmse"] == pytest.approx(np.sqrt(0.05 / 3))
    assert scores["daylight_bias"] == pytest.approx(-0.1 / 3)
    assert scores["r2_median"] == scores["r2"] == pytest.approx(0.7)  # symmetric quantiles: mean = median
    assert scores["daylight_picp80"] == pytest.approx(2 / 3)
    assert scores["daylight_width80"] == pytest.approx(0.2)
    # CRPS: P10 and P90 stand for 30 % each, P50 for 40 %: losses by level 0.03+0.01, 0.05+0.1, 0.02+0.09+0.01
    assert scores["daylight_crps"] == pytest.approx(2 * (0.3 * 0.04 + 0.4 * 0.15 + 0.3 * 0.12) / 3)
    # errors to P10, P50, P90 by row: (0, -.1, -.2), (.3, .2, .1), (.1, 0, -.1)
    assert scores["daylight_pinball"] == pytest.approx((0.05 + 0.02 + 0.03 + 0.10 + 0.09 + 0.01 + 0.01) / 9)
    assert (scores["hours"], scores["daylight_hours"]) == (4, 3)


def test_nothing_to_score_is_nan_and_not_zero() -> None:
    nothing = np.zeros(0)
    for score in (metrics.nmae, metrics.nrmse, metrics.bias, metrics.r2):
        assert np.isnan(score(nothing, nothing))
    assert np.isnan(metrics.r2(np.full(3, 0.5), np.full(3, 0.4)))  # no variance to explain
