"""The instances of a label image: connected components of each class.

Pixels that touch at a side or a corner belong together (8 neighbours): a slanting line of one pixel's width is one
instance, not one for each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE
from tag2mask.data.base import Labels

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Instance:
    """One connected component of one class."""

    column: int  # class column; the label is ``column + 1``
    top: int  # of the box's first pixel
    left: int  # of the box's first pixel
    mask: Mask  # (h, w), the pixels of the instance within its box
    area: int  # number of its pixels

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; right and bottom are the first outside."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height


def find_instances(labels: Labels) -> list[Instance]:
    """The instances of (H, W) uint8 labels, in the reading order of their first pixels; 0 and 255 are of none."""
    from scipy import ndimage

    found = []
    for label, place in enumerate(ndimage.find_objects(labels, IGNORE - 1), start=1):
        if place is None:
            continue
        numbers, _ = ndimage.label(labels[place] == label, np.ones((3, 3)))
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            mask = numbers[box] == number
            top, left = (whole.start + part.start for whole, part in zip(place, box, strict=True))
            found.append(Instance(label - 1, top, left, mask, int(np.count_nonzero(mask))))
    return sorted(found, key=lambda one: (one.top, one.left + int(one.mask[0].argmax())))


def count_holes(mask: Mask) -> int:
    """Number of holes of a (h, w) mask that is one instance: what its outside does not reach over sides of pixels."""
    from scipy import ndimage

    return int(ndimage.label(~np.pad(mask, 1))[1]) - 1
