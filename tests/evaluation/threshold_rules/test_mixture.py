"""Two distributions fitted to a histogram: against scikit-learn, against what drew the pixels, where they cross."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture

from tag2mask.evaluation.threshold_rules.evidence import BINS, VALUES
from tag2mask.evaluation.threshold_rules.mixture import (
    Mixture,
    beta,
    beta_mixture,
    crossing,
    fit_mixture,
    gaussian_mixture,
    normal,
)


def counted(pixels: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount(np.rint(pixels.clip(0, 1) * (BINS - 1)).astype(int), minlength=BINS)


@pytest.mark.parametrize("seed", [0, 1])
def test_normal_components_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.concatenate([rng.normal(0.25, 0.08, 3000), rng.normal(0.7, 0.12, 1500)])
    counts = counted(pixels)
    found = fit_mixture(counts, normal)
    assert found is not None
    binned = np.repeat(VALUES, counts)[:, None]
    theirs = GaussianMixture(2, means_init=[[0.3], [0.7]], tol=1e-9, max_iter=2000).fit(binned)
    order = theirs.means_[:, 0].argsort()
    np.testing.assert_allclose(found.means, theirs.means_[order, 0], atol=2e-4)
    np.testing.assert_allclose(found.weights, theirs.weights_[order], atol=5e-4)
    np.testing.assert_allclose(found.variances, theirs.covariances_[order, 0, 0], atol=5e-5)
    grid = np.linspace(0.25, 0.7, 4501)[:, None]
    upper = theirs.predict_proba(grid)[:, order[1]]
    assert gaussian_mixture(counts) == pytest.approx(float(grid[(upper >= 0.5).argmax(), 0]), abs=1.5e-3)


def test_beta_components_that_pile_up_at_the_ends_are_found_again() -> None:
    rng = np.random.default_rng(4)
    counts = counted(np.concatenate([rng.beta(0.6, 5, 20000), rng.beta(6, 0.8, 10000)]))
    found = fit_mixture(counts, beta)
    assert found is not None
    np.testing.assert_allclose(found.means, [0.6 / 5.6, 6 / 6.8], atol=0.02)
    np.testing.assert_allclose(found.weights, [2 / 3, 1 / 3], atol=0.02)
    threshold = beta_mixture(counts)
    assert threshold is not None
    assert 0.4 < threshold < 0.7


def test_densities_are_those_of_the_books() -> None:
    found = Mixture(np.array([0.5, 0.5]), np.array([0.25, 0.5]), np.array([0.01, 0.05]))
    assert normal(found)[0, 300] == pytest.approx(-0.5 * 0.05**2 / 0.01 - 0.5 * math.log(2 * math.pi * 0.01))
    assert beta(found)[1, 200] == pytest.approx(math.log(6 * 0.2 * 0.8)), "mean 1/2, variance 1/20: Beta(2, 2)"


@pytest.mark.parametrize("density", [normal, beta])
def test_a_density_sums_to_one(density: Callable[[Mixture], NDArray[np.float64]]) -> None:
    found = Mixture(np.array([0.5, 0.5]), np.array([0.3, 0.6]), np.array([0.01, 0.02]))
    np.testing.assert_allclose(np.exp(density(found)).sum(axis=1) / (BINS - 1), 1, atol=5e-3)


def test_equal_components_cross_in_the_middle() -> None:
    found = Mixture(np.array([0.5, 0.5]), np.array([0.2, 0.6]), np.array([0.01, 0.01]))
    assert crossing(found, normal) == pytest.approx(0.4, abs=6e-4)
    heavy = Mixture(np.array([0.9, 0.1]), found.means, found.variances)
    exact = 0.4 + 0.01 * math.log(9) / 0.4
    assert crossing(heavy, normal) == pytest.approx(exact, abs=6e-4), "the heavier side takes more"


def test_where_the_upper_is_never_likelier_its_mean_is_taken() -> None:
    swamped = Mixture(np.array([0.999, 0.001]), np.array([0.3, 0.4]), np.array([0.04, 0.04]))
    assert crossing(swamped, normal) == pytest.approx(0.4005)


def test_a_spike_at_zero_stays_finite() -> None:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[0], counts[400:600] = 100000, 10
    for rule in (gaussian_mixture, beta_mixture):
        found = rule(counts)
        assert found is not None
        assert 0 < found < 0.41
