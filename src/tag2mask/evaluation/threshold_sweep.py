"""The threshold sweep: the scores of every threshold from one pass over the maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import nan_mean, percent
from tag2mask.core.errors import ConfigError, DataError, nothing_shown
from tag2mask.evaluation.background import CONSTANT, NO_SIDES, Background, Sides
from tag2mask.evaluation.confusion import LabelImage, Matrix, check_labels, check_shapes, label_image
from tag2mask.evaluation.metrics import SegmentationScores

GRID = tuple(i / 100 for i in range(101))
"""The thresholds that a sweep tries: 0.00, 0.01, ..., 1.00."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The means at one threshold, in percent, as `SegmentationScores.values` defines them."""

    threshold: float  # 0..1
    miou: float  # over all labels
    fp: float  # this and the rest over the foreground classes
    fn: float
    precision: float  # NaN where nothing is predicted as foreground
    recall: float


class ThresholdSweep:
    """Confusion matrices of every threshold in 0..1, exact, from one pass over the maps.

    A pixel's seed depends on the threshold only through whether its largest map is above it. So pixels are counted by
    truth, class of the largest map and number of thresholds below its value (`Background.passed` for any rule); sums
    over the last axis give the matrix of each threshold. ``thresholds`` to score, 0..1, are sorted.
    """

    def __init__(
        self, classes: Sequence[str], thresholds: Iterable[float] = GRID, background: Background = CONSTANT
    ) -> None:
        self.classes, self.background = tuple(classes), background
        self.thresholds = tuple(sorted(set(thresholds)))
        wrong = [t for t in self.thresholds if not 0 <= t <= 1]
        if wrong or not self.thresholds:
            raise ConfigError(f"thresholds: {wrong or 'none given'}; expected numbers from 0 to 1")
        self._edges = np.asarray(self.thresholds, dtype=np.float32)
        n_labels = len(self.classes) + 1
        self._true: NDArray[np.int64] = np.zeros(n_labels, dtype=np.int64)
        self._counts: NDArray[np.int64] = np.zeros((n_labels, n_labels - 1, len(self._edges) + 1), dtype=np.int64)

    def update(
        self,
        maps: NDArray[np.float32],
        classes: Sequence[int],
        truth: NDArray[Any],
        sample_id: str = "",
        sides: Sides = NO_SIDES,
    ) -> None:
        """Count one image at every threshold: maps (K, H, W) of K ascending class columns, K may be 0."""
        true = label_image(truth, "truth", sample_id)
        self._check(maps, classes, true, sample_id)
        n_labels, n_bins = len(self._true), len(self._edges) + 1
        pixels = np.bincount(true.ravel(), minlength=256)
        check_labels(pixels, n_labels, "truth", sample_id)
        self._true += pixels[:n_labels]
        if not len(classes):
            return
        largest = maps.max(axis=0)
        if np.isnan(largest).any():  # NaN is above no threshold, but sorts after all of them
            raise DataError(f"maps of '{sample_id}' hold NaN; remove the file and rerun")
        below = self.background.passed(largest, maps, self._edges, sides)
        codes = (true.astype(np.intp) * len(classes) + maps.argmax(axis=0)) * n_bins + below
        counts = np.bincount(codes.ravel(), minlength=256 * len(classes) * n_bins)
        self._counts[:, list(classes)] += counts.reshape(256, len(classes), n_bins)[:n_labels]

    def _check(self, maps: NDArray[np.float32], classes: Sequence[int], true: LabelImage, sample_id: str) -> None:
        if maps.ndim != 3 or len(maps) != len(classes):
            raise DataError(
                f"maps of '{sample_id}' have shape {maps.shape} for {len(classes)} classes; expected (K, H, W), one "
                "map for each present class"
            )
        if maps.dtype != np.float32:  # the comparison with a threshold is defined in float32
            raise DataError(f"maps of '{sample_id}' are {maps.dtype}; expected float32")
        check_shapes(maps.shape[1:], true.shape, sample_id)
        if list(classes) != sorted({*classes}) or any(not 0 <= c < len(self.classes) for c in classes):
            raise DataError(
                f"maps of '{sample_id}' are of class columns {list(classes)}; expected ascending columns from 0 to "
                f"{len(self.classes) - 1}"
            )

    def matrix(self, threshold: float) -> Matrix:
        """The confusion matrix of one threshold, (C + 1, C + 1), row = ground truth."""
        if threshold not in self.thresholds:
            raise ConfigError(f"threshold {threshold} is not in this sweep; give it to ThresholdSweep(thresholds=...)")
        above = self._counts[:, :, self.thresholds.index(threshold) + 1 :].sum(axis=2)
        return np.concatenate([(self._true - above.sum(axis=1))[:, None], above], axis=1)

    def scores(self, threshold: float) -> SegmentationScores:
        """The scores of the images counted, which are those of a split, at one threshold."""
        return SegmentationScores.of_split(self.matrix(threshold), self.classes)

    def ious(self) -> NDArray[np.float64]:
        """(T, C + 1) percent: each IoU at every threshold; NaN where a label is in neither ground truth nor seeds."""
        above = self._counts[:, :, :0:-1].cumsum(axis=2)[:, :, ::-1].transpose(2, 0, 1)  # (T, truth, class)
        both = np.empty((len(self.thresholds), len(self._true)), dtype=np.int64)
        both[:, 0] = self._true[0] - above[:, 0].sum(axis=1)
        both[:, 1:] = above.diagonal(offset=-1, axis1=1, axis2=2)
        predicted = np.empty_like(both)
        predicted[:, 1:] = above.sum(axis=1)
        predicted[:, 0] = self._true.sum() - predicted[:, 1:].sum(axis=1)
        return percent(both, self._true + predicted - both)

    def mious(self) -> NDArray[np.float64]:
        """(T,) mIoU at every threshold, percent, as `SegmentationScores.miou`; NaN where no class is shown."""
        return nan_mean(self.ious()) if self._true[1:].any() else np.full(len(self.thresholds), np.nan)

    def curve(self, thresholds: Iterable[float] | None = None) -> tuple[CurvePoint, ...]:
        """The means at the given thresholds, or at all of the sweep's, ascending."""
        points = []
        for threshold in self.thresholds if thresholds is None else thresholds:
            scores = self.scores(threshold)
            means = [scores.mean(m) for m in ("fp", "fn", "precision", "recall")]
            points.append(CurvePoint(threshold, scores.miou, *means))
        return tuple(points)


def best(curve: Sequence[CurvePoint]) -> CurvePoint:
    """The point of largest mIoU over the whole curve; the lowest threshold of several equal ones."""
    if not curve:
        raise ConfigError("an empty curve has no best threshold; sweep at least one")
    if all(math.isnan(point.miou) for point in curve):
        raise nothing_shown()
    return max(curve, key=lambda point: -math.inf if math.isnan(point.miou) else point.miou)
