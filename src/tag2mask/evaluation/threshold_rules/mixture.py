"""Rules that fit two distributions to a histogram of activations by expectation-maximisation.

The threshold is where the upper one becomes the likelier. Both begin at the two sides of Otsu's split, so nothing is
random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.evaluation.threshold_rules.evidence import BINS, VALUES
from tag2mask.evaluation.threshold_rules.histogram import OTSU, after_bin

Floats = NDArray[np.float64]

FLOOR = 1e-6
"""Least variance of a component, added to the normal ones as scikit-learn does."""

_STEPS, _STILL = 300, 1e-5
_INSIDE: Floats = np.clip(VALUES, 0.5 / (BINS - 1), 1 - 0.5 / (BINS - 1))
"""Activations for beta distributions, whose density may be infinite at 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Two components, the lower first: (2,) shares, means in 0..1 and variances."""

    weights: Floats
    means: Floats
    variances: Floats


def fit_mixture(counts: NDArray[Any], log_density: Callable[[Mixture], Floats], floor: float = FLOOR) -> Mixture | None:
    """Fit two components to a histogram; None where it has fewer than two filled bins.

    A step gives each bin to the components by their densities, then takes weighted means and variances. For normal
    components this is maximum likelihood; for beta ones it is the iterated method of moments (Schroeder and Rahmann,
    2017). ``log_density`` gives (2, 1001) logarithms of the components' densities without their weights.
    """
    start = OTSU(counts)
    if start is None:
        return None
    shares = counts / counts.sum()
    found = _moments(shares, np.stack([start >= VALUES, start < VALUES]).astype(np.float64), floor)
    for _ in range(_STEPS):
        before = found
        found = _moments(shares, _given(found, log_density), floor)
        moved = np.abs(np.stack([found.means - before.means, found.weights - before.weights])).max()
        if moved < _STILL:
            break
    order = np.argsort(found.means)
    return Mixture(found.weights[order], found.means[order], found.variances[order])


def normal(found: Mixture) -> Floats:
    """Logarithm of normal densities at the bins."""
    away = (VALUES - found.means[:, None]) ** 2 / found.variances[:, None]
    density: Floats = -0.5 * (away + np.log(2 * math.pi * found.variances)[:, None])
    return density


def beta(found: Mixture) -> Floats:
    """Logarithm of beta densities at the bins; parameters from mean and variance."""
    mean = np.clip(found.means, _INSIDE[0], _INSIDE[-1])
    size = np.maximum(mean * (1 - mean) / found.variances - 1, 1e-3)
    a, b = mean * size, (1 - mean) * size
    constant = np.array([math.lgamma(x + y) - math.lgamma(x) - math.lgamma(y) for x, y in zip(a, b, strict=True)])
    density: Floats = (a - 1)[:, None] * np.log(_INSIDE) + (b - 1)[:, None] * np.log1p(-_INSIDE) + constant[:, None]
    return density


def crossing(found: Mixture, log_density: Callable[[Mixture], Floats]) -> float:
    """The threshold after which, going up from the lower mean, the upper component is the likelier.

    The upper mean where it never is before.
    """
    weighted = log_density(found) + np.log(found.weights)[:, None]
    first, last = (int(np.clip(np.rint(m * (BINS - 1)), 0, BINS - 2)) for m in found.means)
    likelier = np.flatnonzero(weighted[1, first : last + 1] >= weighted[0, first : last + 1])
    return after_bin(max(first + int(likelier[0]) - 1, 0) if len(likelier) else last)


def gaussian_mixture(counts: NDArray[Any]) -> float | None:
    """Where the upper of two normal distributions becomes the likelier."""
    found = fit_mixture(counts, normal)
    return None if found is None else crossing(found, normal)


def beta_mixture(counts: NDArray[Any]) -> float | None:
    """Where the upper of two beta distributions becomes the likelier: these can pile up at 0 and at 1."""
    found = fit_mixture(counts, beta)
    return None if found is None else crossing(found, beta)


def _given(found: Mixture, log_density: Callable[[Mixture], Floats]) -> Floats:
    """(2, 1001) probability of each component given the bin."""
    weighted = log_density(found) + np.log(found.weights)[:, None]
    shifted = np.exp(weighted - weighted.max(axis=0))
    given: Floats = shifted / shifted.sum(axis=0)
    return given


def _moments(shares: Floats, given: Floats, floor: float) -> Mixture:
    """Weights, means and variances of the bins as they are given to the components."""
    parts = shares * given
    weights = np.maximum(parts.sum(axis=1), 1e-12)  # a component that nothing is left of stays harmless
    means = (parts * VALUES).sum(axis=1) / weights
    variances = (parts * (VALUES - means[:, None]) ** 2).sum(axis=1) / weights + floor
    return Mixture(weights, means, variances)
