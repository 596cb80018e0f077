"""The threshold at which maps agree best with refined seeds: what a network learned from says where its maps end.

A network that learns from confident pixels does not answer with even odds at the edge of a thing: label smoothing, the
weights of rare classes and images shown under the label of a class that they lack all move its probabilities, by how
much hangs on the data. The pixels that it learned from are known. At the right threshold it gives them back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE
from tag2mask.evaluation.confusion import LabelImage

NAME = "seeds"
LEVELS: NDArray[np.float64] = np.arange(101) / 100
"""Thresholds that are tried."""
_TOLD = 1.05
"""How much better than the whole of the images maps agree at their best threshold where they tell anything."""
_FILLED = 0.5
"""IoU of the whole of the images from which on a class fills them, so that cutting them nowhere is no fault."""
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the maps of a class agree with its confident pixels.

    Attributes:
        level: the threshold at which they agree best, the middle of several.
        iou: there, 0..1; 0 where they agree nowhere.
        everywhere: IoU at threshold 0, of all pixels where no other class of the image is ahead.
    """

    level: float
    iou: float
    everywhere: float

    @property
    def tells(self) -> bool:
        """Whether the maps say where the class ends: what learned nothing of it agrees no better cut than whole."""
        return self.iou > 0 and (self.iou > _TOLD * self.everywhere or self.everywhere >= _FILLED)


class SeedAgreement:
    """Counts, class by class, how maps cut at each of `LEVELS` agree with the confident pixels of refined seeds.

    A pixel of an image is the class's at a threshold where its map is the highest of the image's and above it.

    Args:
        n_classes: of the data.
    """

    def __init__(self, n_classes: int) -> None:
        self.shared: Counts = np.zeros((n_classes, len(LEVELS)), np.int64)
        self.found = self.shared.copy()
        self.known: Counts = np.zeros(n_classes, np.int64)

    def update(self, maps: NDArray[np.float32], classes: tuple[int, ...], seeds: LabelImage) -> None:
        """Count one image.

        Args:
            maps: (K, H, W) in [0, 1].
            classes: their K class columns.
            seeds: (H, W), 0 background, class column + 1, 255 where not confident, which counts nothing.
        """
        if not classes:
            return
        sure, highest = seeds != IGNORE, maps.argmax(0)
        for place, column in enumerate(classes):
            own = seeds == column + 1
            here = sure & (highest == place)
            self.known[column] += np.count_nonzero(own)
            self.found[column] += _above(maps[place][here])
            self.shared[column] += _above(maps[place][here & own])

    def iou(self) -> NDArray[np.float64]:
        """(C, L) IoU of each class with its confident pixels at each level, 0..1; 0 where neither has a pixel."""
        union = self.known[:, None] + self.found - self.shared
        agreed: NDArray[np.float64] = np.divide(self.shared, union, out=np.zeros(union.shape), where=union > 0)
        return agreed

    def best(self) -> list[Agreement]:
        """Where the maps of each class agree best."""
        found = []
        for row in self.iou():
            places = np.flatnonzero(row == row.max())
            level = float(LEVELS[places[(len(places) - 1) // 2]])
            found.append(Agreement(level, float(row.max()), float(row[0])))
        return found


def _above(values: NDArray[np.float32]) -> Counts:
    """(L,) how many values are above each level."""
    bins = np.searchsorted(LEVELS, values, side="left")  # a value at a level is not above it
    return np.bincount(bins, minlength=len(LEVELS) + 1)[::-1].cumsum()[::-1][1:]


def best_agreement(scores: NDArray[np.float32], own: NDArray[np.bool_], known: int) -> float:
    """The largest IoU with ``known`` pixels that any threshold of some scores reaches, 0..1.

    Args:
        scores: (N,) of the cells that may be the class's.
        own: (N,), which of these are.
        known: all cells that are.
    """
    if not known or not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    shared, ends = own[order].cumsum(), scores[order]
    last = np.append(ends[:-1] != ends[1:], True)  # a threshold takes equal scores together
    return float((shared / (np.arange(1, len(order) + 1) + known - shared))[last].max())
