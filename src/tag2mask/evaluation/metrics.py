"""mIoU, F1, FP, FN, precision and recall from one confusion matrix over the data set, each mean under its own name.

With g_i = pixels of label i in the ground truth, r_i = predicted as i, t_i = of both, u_i = g_i + r_i - t_i:
IoU_i = t_i/u_i, FP_i = (r_i - t_i)/u_i, FN_i = (g_i - t_i)/u_i, precision_i = t_i/r_i, recall_i = t_i/g_i. FP and FN
are shares of the union, not rates of negatives or positives, so IoU_i + FP_i + FN_i = 1. Averaged over the foreground
classes they reproduce the sums of LPCAM's Table 1. F1_i = 2 t_i/(g_i + r_i), which is Dice, is the harmonic mean of
precision and recall of one class, 2 IoU_i/(1 + IoU_i); `SegmentationScores.f1_foreground` is its mean over the
foreground classes (macro F1, as mFscore and scikit-learn's ``average='macro'`` are), not the F1 of pooled pixels, which
common classes decide.

Data may have no background: where its ground truth never shows label 0, mIoU leaves that out and is the mean over the
classes alone; pixels that are predicted as background are missed ones of their class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import nan_mean, percent
from tag2mask.core.errors import DataError
from tag2mask.data.forms import Numbers
from tag2mask.evaluation.confusion import Matrix, confusion_matrix

BACKGROUND = "background"
PER_LABEL = ("iou", "fp", "fn", "precision", "recall")

Percent = NDArray[np.float64]
"""(L,) percent for each label, background first; NaN where the ratio is 0/0."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationScores:
    """Everything that one confusion matrix says, in percent.

    Attributes:
        labels: label names, ``background`` first.
        matrix: (L, L) pixel counts, row = ground truth, column = prediction.
        iou: (L,) t/u.
        fp: (L,) (r - t)/u, the false share of the union.
        fn: (L,) (g - t)/u, the missed share of the union.
        precision: (L,) t/r.
        recall: (L,) t/g.
        has_background: whether label 0 is a label of the data; where it is none, no mean counts it.
    """

    labels: tuple[str, ...]
    matrix: Matrix
    iou: Percent
    fp: Percent
    fn: Percent
    precision: Percent
    recall: Percent
    has_background: bool = True

    @classmethod
    def from_matrix(cls, matrix: Matrix, classes: Sequence[str], *, has_background: bool = True) -> SegmentationScores:
        """Work the ratios out of a matrix (C + 1, C + 1), row = ground truth, of C foreground ``classes``."""
        if not matrix.sum():
            raise DataError(
                "nothing was evaluated: no image with ground truth, or every pixel is ignored (255). Check the split "
                "and the masks with tag2mask doctor"
            )
        both = np.diag(matrix).astype(np.float64)
        true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
        union = true + predicted - both
        return cls(
            (BACKGROUND, *classes),
            matrix,
            iou=percent(both, union),
            fp=percent(predicted - both, union),
            fn=percent(true - both, union),
            precision=percent(both, predicted),
            recall=percent(both, true),
            has_background=has_background,
        )

    @classmethod
    def of_split(cls, matrix: Matrix, classes: Sequence[str]) -> SegmentationScores:
        """As `from_matrix`, of all images of a split together, whose ground truth says if there is a background."""
        return cls.from_matrix(matrix, classes, has_background=shows_background(matrix.sum(axis=1)))

    @property
    def shows_classes(self) -> bool:
        """Whether a foreground class has a pixel in the ground truth; where none has, no mean is defined."""
        return bool(self.matrix[1:].any())

    @property
    def miou(self) -> float:
        """Mean IoU over all labels, background included; labels in neither ground truth nor prediction are dropped.

        On data without background it is ``mean("iou")``. NaN where the ground truth shows no foreground class: a mean
        over the background alone would measure nothing.
        """
        return self.mean("iou", with_background=True)

    def mean(self, metric: str, *, with_background: bool = False) -> float:
        """Mean of one of `PER_LABEL` over the labels where it is defined.

        NaN where it is defined for none, and where the ground truth shows no foreground class.
        """
        if not self.shows_classes:
            return math.nan
        values: Percent = getattr(self, metric)[0 if with_background and self.has_background else 1 :]
        return float(nan_mean(values))

    @property
    def f1(self) -> Percent:
        """(L,) 2 t/(g + r), the harmonic mean of precision and recall: Dice of each label."""
        return percent(2 * np.diag(self.matrix), self.matrix.sum(axis=1) + self.matrix.sum(axis=0))

    @property
    def f1_foreground(self) -> float:
        """Mean `f1` over the foreground classes, as ``mean`` of the others."""
        return self.mean("f1")

    @property
    def accuracy(self) -> float:
        """Share of all counted pixels that are right, background included."""
        return float(percent(np.trace(self.matrix), self.matrix.sum()))

    @property
    def pooled_precision(self) -> float:
        """Share of the pixels predicted as any foreground class that are of any class in the ground truth."""
        return float(percent(self.matrix[1:, 1:].sum(), self.matrix[:, 1:].sum()))

    @property
    def pooled_recall(self) -> float:
        """Share of the foreground pixels of the ground truth that are predicted as foreground, of any class."""
        return float(percent(self.matrix[1:, 1:].sum(), self.matrix[1:].sum()))

    @property
    def absent(self) -> tuple[str, ...]:
        """Labels in neither ground truth nor prediction: they are in no mean."""
        return self._named(np.isnan(self.iou))

    @property
    def never_predicted(self) -> tuple[str, ...]:
        """Labels of the ground truth that no pixel was given: they count in every mean but precision's."""
        return self._named(np.isnan(self.precision) & ~np.isnan(self.iou))

    @property
    def without_truth(self) -> tuple[str, ...]:
        """Labels that were predicted but are in no ground truth: they count in every mean but recall's."""
        return self._named(np.isnan(self.recall) & ~np.isnan(self.iou))

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``, in percent, NaN where undefined.

        ``miou`` is over all labels; ``fp``, ``fn``, ``precision``, ``recall``, ``miou_foreground`` and
        ``f1_foreground`` over the foreground classes; ``<metric>_with_background`` over all labels; ``pooled_*`` over
        pixels, foreground against background; ``<metric>/<label>`` is one label's.
        """
        means = [("miou", self.miou), ("miou_foreground", self.mean("iou")), ("f1_foreground", self.f1_foreground)]
        means += [(m, self.mean(m)) for m in PER_LABEL[1:]]
        means += [(f"{m}_with_background", self.mean(m, with_background=True)) for m in PER_LABEL[1:]]
        pooled = [("pooled_precision", self.pooled_precision), ("pooled_recall", self.pooled_recall)]
        single = [(f"{m}/{n}", float(v)) for m in PER_LABEL for n, v in zip(self.labels, getattr(self, m), strict=True)]
        return (*means, *pooled, *single)

    def _named(self, which: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, yes in zip(self.labels, which, strict=True) if yes)


def shows_background(true: NDArray[np.integer[Any]] | NDArray[np.float64]) -> bool:
    """Whether data has a background, by the (L,) pixels of each label in its whole ground truth.

    It has none where label 0 never occurs while a class does; where nothing does, nothing speaks against one.
    """
    return bool(true[0]) or not bool(true[1:].any())


class SegmentationMetrics:
    """Counts label images against their ground truth, image by image, and scores them all together.

    Args:
        classes: names of the foreground classes; class ``c`` is label ``c + 1``, 0 is background.
        unsure: what a prediction of 255 is: an ``error``, or pixels to ``ignore`` (refined seeds).

    Raises:
        DataError: no class, a text or a number in place of a list, a class twice, or a class named ``background``.

    Example:
        >>> metrics = SegmentationMetrics(["cat"])
        >>> metrics.update([[0, 1], [1, 1]], [[0, 1], [0, 1]])
        >>> round(metrics.compute().miou, 2)
        58.33
    """

    def __init__(self, classes: Sequence[str], *, unsure: Literal["error", "ignore"] = "error") -> None:
        if isinstance(classes, str):
            raise DataError(f"classes = '{classes}' is one text; expected a list of names, such as ['{classes}']")
        if not isinstance(classes, Iterable):  # such as their number, which other libraries take
            raise DataError(f"classes = {classes!r:.80}; expected a list of names, such as ['cat', 'dog']")
        self.classes, self.unsure = tuple(classes), unsure
        twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
        if not self.classes or twice or BACKGROUND in self.classes:
            wrong = f"'{twice[0]}' twice" if twice else "'background', which is label 0" if self.classes else "none"
            raise DataError(f"classes names {wrong}; expected the names of the foreground classes, each once")
        self.matrix: Matrix = np.zeros((len(self.classes) + 1,) * 2, dtype=np.int64)
        self.n_images = 0

    def update(self, prediction: Numbers, truth: Numbers, sample_id: str = "") -> None:
        """Count one image.

        Args:
            prediction: (H, W) labels 0..C: an array, a tensor, nested lists, an image of Pillow's, or a mask that a
                network of `tag2mask.load` gave.
            truth: (H, W) labels 0..C, 255 ignored, in the same forms.
            sample_id: id of the image, for the error text.

        Raises:
            DataError: shapes differ or a label is out of range.
        """
        self.matrix += confusion_matrix(prediction, truth, len(self.matrix), sample_id=sample_id, unsure=self.unsure)
        self.n_images += 1

    def merge(self, other: SegmentationMetrics) -> None:
        """Add the counts of another part of the same data set, such as another process's.

        Raises:
            DataError: the classes differ.
        """
        if other.classes != self.classes:
            raise DataError(f"cannot add counts of classes {list(other.classes)} to counts of {list(self.classes)}")
        self.matrix += other.matrix
        self.n_images += other.n_images

    def compute(self) -> SegmentationScores:
        """The scores of all images together, which are those of a whole split, see `SegmentationScores.of_split`.

        Raises:
            DataError: no pixel was counted.
        """
        return SegmentationScores.of_split(self.matrix.copy(), self.classes)
