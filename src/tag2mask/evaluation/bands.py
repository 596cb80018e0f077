"""Bands of label images: pixels near the contour of their own label, and pixels by their distance to a boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE
from tag2mask.evaluation.confusion import LabelImage


def band(labels: LabelImage, delta: int) -> NDArray[np.bool_]:
    """Pixels whose square of ``2 delta + 1`` pixels a side leaves the image or holds another label.

    These are, for each label, its mask less the mask eroded by ``delta`` steps of a 3 x 3 square with zeros around the
    image: chessboard distance at most ``delta`` to what is not the label.

    Args:
        labels: (H, W); every value is a label of its own, 255 too.
        delta: at least 1.
    """
    found: NDArray[np.bool_] = np.ones(labels.shape, dtype=np.bool_)
    height, width = (side - 2 * delta for side in labels.shape)
    if height <= 0 or width <= 0:
        return found
    lowest, highest = labels, labels
    for axis in (0, 1):
        lowest, highest = _windows(lowest, delta, axis, np.minimum), _windows(highest, delta, axis, np.maximum)
    found[delta:-delta, delta:-delta] = lowest != highest
    return found


def distance_bands(truth: LabelImage, widths: Sequence[int]) -> NDArray[np.uint8]:
    """The first of ``widths`` that each pixel's Euclidean distance to a boundary does not exceed.

    Args:
        truth: (H, W); boundaries are its void pixels, or, where it has none, the pixels with another label beside them.
        widths: pixels, ascending.

    Returns:
        (H, W) uint8 index into ``widths``; their count where the distance exceeds all, or there is no boundary.
    """
    squared = squared_distance(boundary(truth), widths[-1])
    limits = np.array([w * w for w in widths], dtype=squared.dtype)
    return np.searchsorted(limits, squared).astype(np.uint8)


def boundary(truth: LabelImage) -> NDArray[np.bool_]:
    """(H, W) void pixels of a truth that has any, else the pixels with another label right, left, above or below."""
    void: NDArray[np.bool_] = truth == IGNORE
    if void.any():
        return void
    edge = np.zeros_like(void)
    across, down = truth[:, 1:] != truth[:, :-1], truth[1:] != truth[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def squared_distance(marked: NDArray[np.bool_], farthest: int) -> NDArray[np.int32]:
    """Squared Euclidean distance of each pixel to the nearest marked one, exact up to ``farthest`` pixels.

    Distances along the columns first, then the best over the columns beside: the squares add up.

    Args:
        marked: (H, W).
        farthest: pixels, at least 1.

    Returns:
        (H, W) int32; larger than ``farthest ** 2`` where the nearest is farther away or there is none.
    """
    beyond = farthest + 1
    along = np.where(marked, 0, beyond).astype(np.int32)
    for row in range(1, len(along)):
        np.minimum(along[row], along[row - 1] + 1, out=along[row])
    for row in range(len(along) - 2, -1, -1):
        np.minimum(along[row], along[row + 1] + 1, out=along[row])
    along *= along
    squared = along.copy()
    for shift in range(1, min(farthest, along.shape[1] - 1) + 1):
        np.minimum(squared[:, shift:], along[:, :-shift] + shift * shift, out=squared[:, shift:])
        np.minimum(squared[:, :-shift], along[:, shift:] + shift * shift, out=squared[:, :-shift])
    return squared


def _windows(labels: LabelImage, delta: int, axis: int, best: np.ufunc) -> LabelImage:
    """``best`` over every window of ``2 delta + 1`` pixels along an axis that lies inside: by doubling, log2 passes."""
    length, size = 2 * delta + 1, 1
    values = np.moveaxis(labels, axis, 0)
    while 2 * size <= length:
        values = best(values[:-size], values[size:])
        size *= 2
    rest = length - size
    values = best(values[: len(values) - rest], values[rest:])
    return np.moveaxis(values, 0, axis)
