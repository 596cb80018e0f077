"""What refined seeds are worth: they are unsure in places, so none of their numbers is a mIoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.arrays import percent
from tag2mask.core.errors import DataError
from tag2mask.evaluation.confusion import Matrix, label_image
from tag2mask.evaluation.metrics import BACKGROUND, SegmentationMetrics, SegmentationScores


@dataclass(frozen=True, slots=True, eq=False)
class SureScores:
    """How much of the images refined seeds are sure of, and how right they are there; in percent.

    Attributes:
        labels: label names, ``background`` first.
        matrix: (L, L) pixel counts over sure pixels, row = truth, column = refined seeds.
        known: (L,) pixels of each label in the truth, sure or not.
    """

    labels: tuple[str, ...]
    matrix: Matrix
    known: NDArray[np.int64]

    @property
    def shows_classes(self) -> bool:
        """Whether a foreground class has a pixel in the truth, be the seeds sure of it or not."""
        return bool(self.known[1:].any())

    @property
    def coverage(self) -> float:
        """Share of the pixels that are not void in the truth where the seeds are sure."""
        return float(percent(self.matrix.sum(), self.known.sum()))

    @property
    def precision_sure(self) -> float:
        """Share of the sure pixels that are right; NaN where nothing is sure."""
        return float(percent(np.trace(self.matrix), self.matrix.sum()))

    @property
    def miou_sure(self) -> float:
        """Mean IoU over the sure pixels alone, of the labels that occur there; NaN where no class of the truth is."""
        return self._segmentation().miou if self.matrix.sum() else math.nan

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``, in percent, NaN where undefined.

        ``coverage/<label>`` is the sure share of a label's pixels in the truth, ``precision_sure/<label>`` and
        ``iou_sure/<label>`` are over sure pixels.
        """
        means = [(name, getattr(self, name)) for name in ("coverage", "precision_sure", "miou_sure")]
        shares = percent(self.matrix.sum(axis=1), self.known)
        single = [(f"coverage/{name}", float(share)) for name, share in zip(self.labels, shares, strict=True)]
        if self.matrix.sum():
            sure = self._segmentation()
            for metric, values in (("precision_sure", sure.precision), ("iou_sure", sure.iou)):
                single += [(f"{metric}/{n}", float(v)) for n, v in zip(self.labels, values, strict=True)]
        return (*means, *single)

    def _segmentation(self) -> SegmentationScores:
        return SegmentationScores.from_matrix(self.matrix, self.labels[1:])


class SureMetrics:
    """Counts refined seeds, 255 where they are unsure, against their truth, image by image.

    Args:
        classes: names of the foreground classes; class ``c`` is label ``c + 1``, 0 is background.

    Raises:
        DataError: no class, a class twice, or a class named ``background``.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._sure = SegmentationMetrics(classes, unsure="ignore")
        self._known: NDArray[np.int64] = np.zeros(len(self._sure.matrix), dtype=np.int64)

    def update(self, prediction: ArrayLike, truth: ArrayLike, sample_id: str = "") -> None:
        """Count one image.

        Args:
            prediction: (H, W) labels 0..C, 255 unsure.
            truth: (H, W) labels 0..C, 255 void.
            sample_id: id of the image, for the error text.

        Raises:
            DataError: shapes differ or a label is out of range.
        """
        self._sure.update(prediction, truth, sample_id)
        pixels = np.bincount(label_image(truth, "truth", sample_id).ravel(), minlength=256)
        self._known += pixels[: len(self._known)]

    def compute(self) -> SureScores:
        """The scores of all images together.

        Raises:
            DataError: no pixel was counted: there is no image, or the truth is void everywhere.
        """
        if not self._known.sum():
            raise DataError("no refined seeds were evaluated: no image, or every pixel of the truth is void (255)")
        return SureScores((BACKGROUND, *self._sure.classes), self._sure.matrix.copy(), self._known.copy())
