"""Ranks, their correlation (Spearman) and their average, for scores whose size says nothing but whose order does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.arrays import known_mean
from tag2mask.core.errors import DataError

Floats = NDArray[np.float64]


def ranks(values: ArrayLike) -> Floats:
    """Ranks 1..n of values, ascending; equal ones share the mean of their ranks, NaN stays NaN and takes no rank.

    Args:
        values: (n,).
    """
    given = np.asarray(values, dtype=np.float64)
    result = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    _, group, sizes = np.unique(given[known], return_inverse=True, return_counts=True)
    last = sizes.cumsum()
    result[known] = ((last - sizes + 1 + last) / 2)[group]
    return result


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation, -1..1: Pearson's correlation of the ranks, which is right with ties too.

    Args:
        one: (n,).
        other: (n,); a pair with a NaN is left out.

    Returns:
        NaN where fewer than two pairs are left, or all values on one side are equal.

    Raises:
        DataError: the lengths differ.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (one, other))
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"a rank correlation of values of shapes {a.shape} and {b.shape}; expected (n,) twice")
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = (ranks(v[known]) for v in (a, b))
    if len(x) < 2:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return min(1.0, max(-1.0, float(x @ y) / spread)) if spread else math.nan


def rank_average(columns: Sequence[ArrayLike]) -> Floats:
    """One score from several: the mean of each item's ranks, each scaled to 0 (lowest) .. 1 (highest).

    Args:
        columns: (n,) each, higher is better. A NaN takes no part, so an item's mean is over the scores it has; a column
            with fewer than two different values says nothing and is left out.

    Returns:
        (n,) in 0..1; NaN for an item without any score.

    Raises:
        DataError: there is no column, or their lengths differ.
    """
    given = [np.asarray(c, dtype=np.float64) for c in columns]
    if not given or len({c.shape for c in given}) > 1 or given[0].ndim != 1:
        raise DataError(f"cannot average the ranks of columns of shapes {[c.shape for c in given]}; expected (n,) each")
    scaled = [_scaled(ranks(c)) for c in given if len(np.unique(c[~np.isnan(c)])) > 1]
    if not scaled:
        return np.full(given[0].shape, np.nan)
    return known_mean(np.stack(scaled), axis=0)


def _scaled(ranked: Floats) -> Floats:
    """Ranks 1..n as 0..1; n counts what has a rank."""
    return (ranked - 1) / (np.count_nonzero(~np.isnan(ranked)) - 1)
