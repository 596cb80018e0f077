"""Divisions whose 0 / 0 is NaN, and means over what is not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ratios = NDArray[np.float64]


def ratio(part: ArrayLike, whole: ArrayLike) -> Ratios:
    """``part / whole``, broadcast; NaN where ``whole`` is 0."""
    above, below = np.broadcast_arrays(part, whole)
    result: Ratios = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def percent(part: ArrayLike, whole: ArrayLike) -> Ratios:
    """100 times the `ratio`."""
    return ratio(100.0 * np.asarray(part), whole)


def known_mean(values: ArrayLike, axis: int = -1) -> Ratios:
    """Mean along an axis over what is not NaN; NaN where all of it is."""
    given = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(given)
    return ratio(np.where(known, given, 0.0).sum(axis=axis), known.sum(axis=axis))
