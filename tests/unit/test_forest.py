"""The quantile forest answers the distribution of what fell into its leaves, from plain arrays."""

from __future__ import annotations

import numpy as np
import pytest

from pvforecast.model import forest
from pvforecast.model.forest import QuantileForest

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
GROWING = {"trees": 20, "min_leaf": 5, "max_leaves": 200, "max_features": 1.0, "seed": 1}


def two_groups(n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Column 0 tells two groups apart, uniform on 0.1-0.3 and 0.5-0.9; column 1 is noise."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, n)
    target = np.where(group == 0, rng.uniform(0.1, 0.3, n), rng.uniform(0.5, 0.9, n))
    return np.stack([group, rng.normal(size=n)], axis=1).astype(np.float32), target


@pytest.fixture(scope="module")
def grown() -> QuantileForest:
    features, target = two_groups()
    return forest.fit(features, target, **GROWING)


def test_quantiles_are_those_of_each_group(grown: QuantileForest) -> None:
    asked = np.array([[0, 0.0], [1, 0.0]], np.float32)
    expected = [[0.1 + 0.2 * level for level in LEVELS], [0.5 + 0.4 * level for level in LEVELS]]
    np.testing.assert_allclose(grown.quantiles(asked, LEVELS), expected, atol=0.04)


def test_its_leaves_are_those_of_scikit_learn() -> None:
    """With the mean as the target: the forest's mean is scikit-learn's prediction."""
    from sklearn.ensemble import ExtraTreesRegressor

    features, target = two_groups(800)
    ours = forest.fit(features, target, **GROWING)
    theirs = ExtraTreesRegressor(20, min_samples_leaf=5, max_features=1.0, random_state=1).fit(features, target)
    levels = tuple(np.linspace(0.005, 0.995, 100))
    np.testing.assert_allclose(ours.quantiles(features, levels).mean(axis=1), theirs.predict(features), atol=0.01)


def test_heavier_rows_count_more() -> None:
    features = np.zeros((100, 1), np.float32)
    target = np.repeat([0.2, 0.8], 50)
    even, heavy = (
        forest.fit(features, target, weight, **GROWING).quantiles(features[:1], (0.5,))[0, 0]
        for weight in (None, np.repeat([1.0, 9.0], 50))
    )
    assert even < 0.5 < heavy


def test_a_missing_value_is_taken_for_the_columns_median(grown: QuantileForest) -> None:
    features, _ = two_groups()
    median = np.median(features[:, 1])
    asked = np.array([[1, np.nan], [1, median]], np.float32)
    first, second = grown.quantiles(asked, LEVELS)
    np.testing.assert_array_equal(first, second)


def test_rows_are_answered_alike_alone_and_among_many(grown: QuantileForest) -> None:
    features = np.random.default_rng(1).normal(size=(5_000, 2)).astype(np.float32)
    together = grown.quantiles(features, LEVELS)
    np.testing.assert_array_equal(together[4_097:4_100], grown.quantiles(features[4_097:4_100], LEVELS))
    assert (np.diff(together, axis=1) >= 0).all()
    assert grown.quantiles(features[:0], LEVELS).shape == (0, 5)


def test_its_arrays_make_it_again(grown: QuantileForest) -> None:
    features, _ = two_groups(50)
    again = QuantileForest(**grown.arrays())
    np.testing.assert_array_equal(again.quantiles(features, LEVELS), grown.quantiles(features, LEVELS))
