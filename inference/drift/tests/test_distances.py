"""Our vectorised distances are Alibi Detect's, and PSI's bias is what it is said to be."""

from __future__ import annotations

import numpy as np
import pytest

from inference.drift import distances, explain


@pytest.mark.parametrize("n", [1, 14, 40])
def test_ks_and_cvm_equal_alibi_detect(n: int) -> None:
    rng = np.random.default_rng(n)
    pool, windows = rng.normal(size=300), rng.normal(0.4, 1.3, (5, n))
    ks, cvm = distances.ks(windows, pool), distances.cvm(windows, pool)
    for row, window in enumerate(windows):
        theirs = explain._alibi(pool, window) if n > 1 else {"ks": (ks[row], 0.0), "cvm": (cvm[row], 0.0)}
        assert ks[row] == pytest.approx(theirs["ks"][0], abs=2e-6)
        assert cvm[row] == pytest.approx(theirs["cvm"][0], abs=2e-6)


def test_far_apart_is_one() -> None:
    assert distances.ks(np.full((1, 14), 99.0), np.random.default_rng(0).normal(size=200))[0] == 1.0


def test_psi_without_drift_is_mostly_bias() -> None:
    rng = np.random.default_rng(0)
    mean = float(np.mean([distances.psi(rng.lognormal(size=14), rng.lognormal(size=60)) for _ in range(300)]))
    assert mean > 0.35  # far beyond the usual limit of 0.2, with nothing wrong
    assert distances.psi_bias(14, 60) == pytest.approx(mean, abs=0.05)


def test_the_bias_of_large_samples_is_the_known_formula() -> None:
    assert distances.psi_bias(600, 2000) == pytest.approx(9 * (1 / 600 + 1 / 2000), rel=0.1)


def test_psi_of_a_shifted_large_sample_stays_large_after_the_bias_is_taken_off() -> None:
    rng = np.random.default_rng(0)
    index = distances.psi(rng.normal(1.0, 1.0, 200), rng.normal(size=1000))
    assert index - distances.psi_bias(200, 1000) > 0.5
