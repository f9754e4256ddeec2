"""The 80 % band holds 80 %: on simulated output whose spread is known and changes from row to row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pvforecast.dataset import Rows
from pvforecast.evaluation import metrics
from pvforecast.features import FeatureSpec
from pvforecast.features.spec import RECENT
from pvforecast.known import HOUR
from pvforecast.model.bundle import Bundle
from pvforecast.model.recipe import Recipe
from pvforecast.model.training import train

SPEC = FeatureSpec(("ghi", "hour_sin", "lead_hours"))
BEGIN = np.datetime64("2013-01-01T00:00:00", "s")
END = np.datetime64("2014-01-01", "s")
# Bold enough to fit noise: its raw bands are too narrow.
LEVELS = (0.1, 0.5, 0.9)
EAGER = Recipe(
    spec=SPEC,
    quantiles=LEVELS,
    boosted=LEVELS,
    rounds=60,
    max_depth=6,
    eta=0.3,
    min_child_weight=1.0,
    colsample_bytree=1.0,
)


def simulated(n: int, seed: int, spec: FeatureSpec = SPEC) -> Rows:
    """Output around ghi whose spread grows with it, and is twice as wide on the second day of lead.

    Further features of `spec` are noise.
    """
    rng = np.random.default_rng(seed)
    level, lead = rng.uniform(0.2, 0.6, n), rng.integers(0, 48, n)
    spread = 0.15 * level * np.where(lead < 24, 1.0, 2.0)
    target = np.clip(level + spread * rng.standard_normal(n), 0, 1)
    noise = rng.uniform(0, 1, (n, len(spec) - len(SPEC)))
    x = np.column_stack([level, rng.uniform(-1, 1, n), lead, noise]).astype(np.float32)
    issued_at = BEGIN + np.sort(rng.integers(0, 360, n)) * 24 * HOUR
    return Rows(spec, np.full(n, "sim", object), issued_at, issued_at + lead * HOUR, x, target, np.ones(n, bool))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(simulated(3000, 1), EAGER, END)


@pytest.fixture(scope="module")
def unseen() -> Rows:
    return simulated(6000, 2)


def coverage(quantiles: np.ndarray, rows: Rows) -> float:
    return metrics.picp(rows.target, quantiles[:, 0], quantiles[:, -1])


def test_out_of_sample_the_band_holds_what_it_says_on_both_days(bundle: Bundle, unseen: Rows) -> None:
    quantiles = bundle.predict(unseen.features).astype(float)
    first = unseen.lead_hours < 24
    assert 0.75 <= coverage(quantiles, unseen) <= 0.85
    for day in (first, ~first):
        assert 0.75 <= coverage(quantiles[day], unseen.where(day)) <= 0.85
    below = (unseen.target[:, None] < quantiles).mean(axis=0)
    np.testing.assert_allclose(below, EAGER.quantiles, atol=0.04)


def test_without_calibration_it_would_not(bundle: Bundle, unseen: Rows) -> None:
    raw = bundle.ensemble.quantiles(unseen.features, LEVELS)
    assert coverage(raw, unseen) < 0.72


def test_the_band_is_wide_where_the_output_is_uncertain(bundle: Bundle, unseen: Rows) -> None:
    quantiles = bundle.predict(unseen.features).astype(float)
    width, level = quantiles[:, 2] - quantiles[:, 0], unseen.features[:, 0]
    assert width[level > 0.5].mean() > 1.5 * width[level < 0.3].mean()


def test_a_correction_that_learned_from_noise_makes_no_band_too_narrow() -> None:
    """Errors that the correction has learned from say nothing of those to come."""
    noisy = FeatureSpec((*SPEC.names, *RECENT))
    bundle = train(simulated(3000, 1, noisy), replace(EAGER, spec=noisy, corrector_rounds=600), END)
    assert bundle.corrector is not None
    assert bundle.corrector.strength < 0.6
    unseen = simulated(6000, 2, noisy)
    assert coverage(bundle.predict(unseen.features).astype(float), unseen) >= 0.77  # calibrated on them: 0.755
