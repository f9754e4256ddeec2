"""Scores of whole distributions, against closed forms and definitions that were not used to write them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pvforecast.evaluation import metrics

NINETY_NINE = tuple(n / 100 for n in range(1, 100))
SEVEN = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
RANDOM = np.random.default_rng(5)


def normal_crps(target: np.ndarray, mean: float, sd: float) -> np.ndarray:
    """Gneiting, Raftery, Westveld & Goldman 2005, equation 5."""
    z = (target - mean) / sd
    return sd * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))


@pytest.mark.parametrize(("levels", "off"), [(NINETY_NINE, 0.01), (SEVEN, 0.06)])
def test_the_crps_of_a_normal_forecast_is_the_closed_form(levels: tuple[float, ...], off: float) -> None:
    target = RANDOM.normal(0.5, 0.1, 4000)
    quantiles = np.tile(stats.norm.ppf(levels, 0.5, 0.1), (len(target), 1))
    assert metrics.crps(target, quantiles, levels) == pytest.approx(normal_crps(target, 0.5, 0.1).mean(), rel=off)


def test_levels_in_the_middle_of_equal_cells_give_the_crps_of_the_ensemble_exactly() -> None:
    """CRPS = E|X - y| - E|X - X'| / 2 (Gneiting & Raftery 2007, equation 21)."""
    members = np.sort(RANDOM.uniform(0, 1, (50, 5)), axis=1)
    target = RANDOM.uniform(0, 1, 50)
    spread = np.abs(members[:, :, None] - members[:, None, :]).mean(axis=(1, 2))
    ensemble = np.abs(members - target[:, None]).mean(axis=1) - spread / 2
    np.testing.assert_allclose(metrics.crps_rows(target, members, (0.1, 0.3, 0.5, 0.7, 0.9)), ensemble, atol=1e-12)


@pytest.mark.parametrize("levels", [NINETY_NINE, SEVEN, (0.5,)])
def test_a_point_forecast_scores_its_absolute_error(levels: tuple[float, ...]) -> None:
    target, point = RANDOM.uniform(0, 1, 30), RANDOM.uniform(0, 1, 30)
    crps = metrics.crps_rows(target, np.repeat(point[:, None], len(levels), 1), levels)
    np.testing.assert_allclose(crps, np.abs(target - point), atol=1e-12)


def test_the_predictive_mean_of_a_skewed_distribution_is_its_mean_and_not_its_median() -> None:
    beta = stats.beta(2, 6)
    mean = metrics.mean(beta.ppf(NINETY_NINE)[None, :], NINETY_NINE)
    assert mean[0] == pytest.approx(beta.mean(), abs=0.001)
    assert abs(mean[0] - beta.median()) > 0.01


def test_rmse_and_r2_are_the_means_and_mae_is_the_medians() -> None:
    """Gneiting 2011: each point by the loss that it minimises."""
    target = RANDOM.beta(2, 6, 3000)
    quantiles = np.tile(stats.beta(2, 6).ppf(NINETY_NINE), (3000, 1))
    scores = metrics.summary(target, quantiles, NINETY_NINE, np.ones(3000, bool))
    median, mean = stats.beta(2, 6).median(), stats.beta(2, 6).mean()
    assert scores["nmae"] == pytest.approx(np.abs(target - median).mean(), rel=1e-3)
    assert scores["nrmse"] == pytest.approx(np.sqrt(((target - mean) ** 2).mean()), rel=1e-3)
    assert scores["r2"] > scores["r2_median"]


def test_a_perfect_forecaster_is_covered_as_often_as_it_says() -> None:
    centre = RANDOM.uniform(0.3, 0.7, 20_000)
    quantiles = centre[:, None] + stats.norm.ppf(NINETY_NINE) * 0.05
    target = centre + RANDOM.normal(0, 0.05, len(centre))
    scores = metrics.summary(target, quantiles, NINETY_NINE, np.ones(len(target), bool))
    for nominal in (50, 80, 90):
        assert scores[f"daylight_picp{nominal}"] == pytest.approx(nominal / 100, abs=0.01)
        assert scores[f"daylight_picp{nominal}_error"] == abs(scores[f"daylight_picp{nominal}"] - nominal / 100)
        sharp = 2 * stats.norm.ppf((1 + nominal / 100) / 2) * 0.05
        assert scores[f"daylight_width{nominal}"] == pytest.approx(sharp, rel=1e-9)


def test_a_level_that_was_not_forecast_lies_between_its_neighbours_and_none_is_invented_beyond() -> None:
    quantiles = np.array([[0.1, 0.2, 0.4]])
    assert metrics.at_level(quantiles, (0.1, 0.5, 0.9), 0.7) == pytest.approx([0.3])
    assert metrics.at_level(quantiles, (0.1, 0.5, 0.9), 0.95) == pytest.approx([0.4])
    assert metrics.band(quantiles, (0.1, 0.5, 0.9), 0.9) is None
    assert "daylight_picp90" not in metrics.summary(np.array([0.2]), quantiles, (0.1, 0.5, 0.9), np.array([True]))


def test_mape_leaves_out_hours_with_next_to_nothing() -> None:
    target, forecast = np.array([0.5, 0.2, 0.05, 0.0]), np.array([0.4, 0.3, 0.5, 0.5])
    assert metrics.mape(target, forecast) == pytest.approx((0.1 / 0.5 + 0.1 / 0.2) / 2)
    assert np.isnan(metrics.mape(target[2:], forecast[2:]))


def test_a_missing_forecast_counts_as_the_worst_there_can_be() -> None:
    target, daylight = np.array([0.2, 0.9, 0.0, 0.4]), np.array([True, True, False, True])
    quantiles = np.array([[np.nan] * 3, [0.1, np.nan, 0.3], [np.nan] * 3, [0.3, 0.4, 0.5]])
    filled, missing = metrics.penalised(target, quantiles, daylight)
    assert missing.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(filled[:, 0], [1.0, 0.0, 0.0, 0.3])
    for honest in np.linspace(0, 1, 21):  # no forecast at all does worse than silence
        assert (np.abs(target - honest)[:2] <= np.abs(target - filled[:, 1])[:2]).all()
