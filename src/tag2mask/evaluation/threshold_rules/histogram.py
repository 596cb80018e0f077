"""Rules that read a threshold off a histogram of activations: where to split it into background and object.

Each takes the pixels of each of the 1001 bins and returns a threshold in (0, 1), or None where the histogram has fewer
than two filled bins: then there is nothing to split. A split after bin k is the threshold (k + 0.5) / 1000, so that
cutting maps there parts them as the histogram was parted. Of equally good splits that follow each other, as in a gap
between two hills, the middle one is taken. None depends on the number of pixels: data taken twice change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.evaluation.threshold_rules.evidence import BINS, VALUES

Counts = NDArray[Any]
"""(1001,) pixels of each bin."""

Floats = NDArray[np.float64]


def splitting(score: Callable[[Floats], Floats]) -> Callable[[Counts], float | None]:
    """A rule that takes the split with the largest score, never one that leaves a side empty.

    ``score`` makes of (1001,) shares of the bins, of sum 1, the (1000,) scores of the splits after all but the last.
    """

    def rule(counts: Counts) -> float | None:
        filled = np.flatnonzero(counts)
        if len(filled) < 2:
            return None
        with np.errstate(divide="ignore", invalid="ignore"):  # of splits with an empty side, which are not taken
            scores = score(counts / counts.sum())
        return middle_split(scores, int(filled[0]), int(filled[-1]))

    return rule


def split_of(values: NDArray[Any]) -> float | None:
    """Otsu's threshold of values of any range; None where all are equal."""
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return None
    counts = np.bincount(np.rint((values.ravel() - low) * ((BINS - 1) / (high - low))).astype(np.int64), minlength=BINS)
    found = OTSU(counts)
    return None if found is None else low + found * (high - low)


def middle_split(scores: Floats, first: int, last: int) -> float:
    """The threshold of the best split after one of the bins ``first`` to ``last`` - 1; the middle of equal ones."""
    start, top = plateau(np.nan_to_num(scores[first:last], nan=-np.inf))
    return after_bin(first + (start + top) / 2)


def plateau(scores: Floats) -> tuple[int, int]:
    """First and last place of the largest score, of equal ones those that follow the first."""
    top = start = int(scores.argmax())
    while top + 1 < len(scores) and scores[top + 1] == scores[start]:
        top += 1
    return start, top


def after_bin(place: float) -> float:
    """The threshold of a split after a bin; halves lie between two bins."""
    return float((place + 0.5) / (BINS - 1))


def between_class_variance(shares: Floats) -> Floats:
    """Otsu (1979): ``w0 w1 (m0 - m1)^2``, the variance between the two sides."""
    weight, mean = shares.cumsum()[:-1], (shares * VALUES).cumsum()[:-1]
    total = (shares * VALUES).sum()
    scores: Floats = (total * weight - mean) ** 2 / (weight * (1 - weight))
    return scores


OTSU = splitting(between_class_variance)
"""Otsu's threshold of a histogram."""


def minimum_error(shares: Floats) -> Floats:
    """Kittler and Illingworth (1986): two normal distributions with the fewest confusions, each side its own fit.

    A side's variance is at least that of one bin: a single value would otherwise fit without any error.
    """
    found: Floats = np.zeros(len(shares) - 1)
    for weight, first, second in _sides(shares):
        variance = np.maximum(second / weight - (first / weight) ** 2, _BIN**2 / 12)
        found -= weight * (0.5 * np.log(variance) - np.log(weight))
    return found


def cross_entropy(shares: Floats) -> Floats:
    """Li and Lee (1993): the two-valued image of the sides' means with the least cross entropy to the activation."""
    found: Floats = np.zeros(len(shares) - 1)
    for weight, first, _ in _sides(shares):
        found += np.where(first > 0, first * np.log(first / weight), 0.0)
    return found


def entropy(shares: Floats) -> Floats:
    """Kapur, Sahoo and Wong (1985): the sum of the entropies of both sides."""
    information = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1.0)), 0.0)
    weight, part = shares.cumsum()[:-1], information.cumsum()[:-1]
    rest, whole = 1 - weight, information.sum()
    scores: Floats = part / weight + np.log(weight) + (whole - part) / rest + np.log(rest)
    return scores


def triangle(counts: Counts) -> float | None:
    """Zack, Rogers and Latt (1977): the bin farthest below the line from the peak to the farther end.

    The peak is the fullest bin, the lowest of several; the end is the last filled bin on the longer side.
    """
    filled = np.flatnonzero(counts)
    if len(filled) < 2:
        return None
    first, last, peak = int(filled[0]), int(filled[-1]), int(np.argmax(counts))
    end = last if last - peak >= peak - first else first
    places = np.arange(min(peak, end), max(peak, end) + 1)
    line = counts[end] + (counts[peak] - counts[end]) * (places - end) / (peak - end)
    depth = line - counts[places]
    at = int(places[int(depth.argmax())])
    return after_bin(min(max(at, first), last - 1))


def moments(counts: Counts) -> float | None:
    """Tsai (1985): the split whose two-valued image keeps the first three moments of the activation.

    Such an image has two values, the roots of a square equation, and a share of pixels of the lower one; the threshold
    lies at this share.
    """
    filled = np.flatnonzero(counts)
    if len(filled) < 2:
        return None
    shares = counts / counts.sum()
    m1, m2, m3 = (float((shares * VALUES**power).sum()) for power in (1, 2, 3))
    variance = m2 - m1 * m1
    c0, c1 = (m1 * m3 - m2 * m2) / variance, (m1 * m2 - m3) / variance
    spread = float(np.sqrt(max(c1 * c1 - 4 * c0, 0.0)))
    low, high = (-c1 - spread) / 2, (-c1 + spread) / 2
    below = (high - m1) / (high - low)
    distance = -np.abs(shares.cumsum()[:-1] - below)
    return middle_split(distance, int(filled[0]), int(filled[-1]))


_BIN = 1 / (BINS - 1)
_Side = tuple[Floats, Floats, Floats]


def _sides(shares: Floats) -> tuple[_Side, _Side]:
    """Sums of 1, value and value squared below and above each split."""
    sums = [(shares * VALUES**power).cumsum() for power in (0, 1, 2)]
    lower = (sums[0][:-1], sums[1][:-1], sums[2][:-1])
    upper = (sums[0][-1] - lower[0], sums[1][-1] - lower[1], sums[2][-1] - lower[2])
    return lower, upper
