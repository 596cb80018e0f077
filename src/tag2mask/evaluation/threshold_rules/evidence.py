"""Evidence that threshold rules read: small arrays of one image that add up over images; no map is kept.

Three kinds of evidence, each an array for the whole image and one for each of its classes:

- ``histogram``: (1001,) pixels by activation. Of the largest map for the image, of a class's own map for a class.
- ``agreement``: (101, 2), for each threshold of `GRID` how far two views of the image agree, and how far they could.
- ``erasure``: (19, 2), for each threshold of `PROBED` what keeping and erasing a region does to the classifier.

The sum over the images of a class, or over all, is the evidence for the class or for the data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.evaluation.threshold_sweep import GRID

BINS = 1001
"""Bins of a histogram; bin i holds the activations that round to i / 1000."""

ABSENT_BINS = 251
"""Bins of the histogram of an absent class's raw scores; bin i holds those that round to i / 250."""

VALUES: NDArray[np.float64] = np.arange(BINS) / (BINS - 1)
"""(1001,) activation of each bin."""

PROBED = tuple(i / 20 for i in range(1, 20))
"""Thresholds at which the classifier is run: 0.05, 0.10, ..., 0.95."""

Maps = NDArray[np.float32]
"""(K, h, w) in [0, 1], one map for each class present."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageEvidence:
    """The evidence of one image: of the whole, and of each of its K class columns, in arrays as its kind says."""

    id: str
    columns: tuple[int, ...]
    whole: NDArray[Any]
    classes: NDArray[Any]


def histogram(sample_id: str, columns: Sequence[int], maps: Maps) -> ImageEvidence:
    """Pixels by activation: of the largest of the maps, and of each map; K is at least 1."""
    if not ((maps >= 0) & (maps <= 1)).all():  # false for NaN too
        raise DataError(f"maps of '{sample_id}' hold NaN or values outside 0..1; remove the file and rerun")
    bins = np.rint(maps * np.float32(BINS - 1)).astype(np.intp)
    return ImageEvidence(sample_id, tuple(columns), _count(bins.max(axis=0)), np.stack([_count(b) for b in bins]))


def agreement(sample_id: str, columns: Sequence[int], first: Maps, second: Maps) -> ImageEvidence:
    """How far the seeds of two views of one image agree, class by class, at every threshold.

    For a class whose seeds have A pixels in one view, B in the other and I in both, of N pixels in all, two regions of
    these sizes laid at random share E = A B / N. Evidence is ``(I - E, A + B - I - E)``: their ratio is the IoU
    corrected for chance, 1 where the views are the same, 0 where they agree as far as chance does, such as where
    everything is foreground.
    """
    if first.shape != second.shape:
        raise DataError(
            f"two maps of '{sample_id}' have the shapes {first.shape} and {second.shape}; views are of the same image "
            "and the same tags"
        )
    count, labels, others = len(first), first.argmax(axis=0), second.argmax(axis=0)
    values, other_values = first.max(axis=0), second.max(axis=0)
    a, b = _above(labels, values, count), _above(others, other_values, count)
    same = np.where(labels == others, labels, count)
    both = _above(same, np.minimum(values, other_values), count + 1)[:count]
    chance = a * b / same.size
    found = np.stack([both - chance, a + b - both - chance], axis=-1)
    return ImageEvidence(sample_id, tuple(columns), found.sum(axis=0), found)


def erasure(
    sample_id: str,
    columns: Sequence[int],
    gains: NDArray[np.float64],
    areas: NDArray[np.float64],
    ends: NDArray[np.float64],
) -> ImageEvidence:
    """What the classifier says of the region of a class: kept alone, and erased.

    A larger region is always believed more when kept and missed more when erased, so the difference of the two alone
    grows with the area. By area alone, from nothing to the whole image, it would go in a straight line from -D to D,
    where D is what the whole image gains over an empty one. Evidence is ``(gain, D (2 area - 1))``: the part above the
    line is what the choice of pixels is worth. ``gains`` (K, 19) are the probability in the kept region less that in
    the rest, at each of `PROBED`; ``areas`` (K, 19) the region's share of the image; ``ends`` (K,) each class's D.
    """
    found = np.stack([gains, ends[:, None] * (2 * areas - 1)], axis=-1)
    return ImageEvidence(sample_id, tuple(columns), found.sum(axis=0), found)


def _count(bins: NDArray[np.intp]) -> NDArray[np.int64]:
    return np.bincount(bins.ravel(), minlength=BINS).astype(np.int64, copy=False)


def _above(labels: NDArray[np.intp], values: NDArray[np.float32], n_labels: int) -> NDArray[np.float64]:
    """(n_labels, 101) pixels of each label whose value is above each threshold of `GRID`."""
    n_bins = len(GRID) + 1
    below = np.searchsorted(np.asarray(GRID, dtype=np.float32), values)  # thresholds strictly below the value
    counts = np.bincount((labels * n_bins + below).ravel(), minlength=n_labels * n_bins).reshape(n_labels, n_bins)
    above: NDArray[np.float64] = counts[:, :0:-1].cumsum(axis=1)[:, ::-1].astype(np.float64)
    return above
