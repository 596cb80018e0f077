"""IoU with a tolerance of two pixels for thin classes, whose IoU a shift of a pixel or two decides.

A hair crack of 3 pixels that is drawn 2 pixels beside itself has an IoU of 20, however right it is. So precision is the
share of a class's predicted pixels that lie within `TOLERANCE` pixels (Euclidean) of its ground truth, recall the share
of the ground truth's pixels within `TOLERANCE` of the prediction (the relaxed precision and recall of Mnih and Hinton,
2010, for roads, used for cracks too), both of pixels summed over the split; with them IoU = PR / (P + R - PR), as it is
without a tolerance. Pixels that the ground truth ignores are ignored in the prediction too.

Pixels are those of the photo: of an image that was enlarged, the tolerance and the width are enlarged with it, and of
one that was shrunk they are those of the shrunk image.

A class is thin where its ground truth says so: in the median of the images that show it, it is less than `THIN` pixels
wide. The width of a region is twice its area over its perimeter, which of a long strip is its width and of a disc half
its diameter, so that tiny things count as thin too; the perimeter is pi/4 times the pixel sides between the class and
another label (Cauchy-Crofton with two directions); ignored pixels, such as VOC's rings, are another label, what lies
outside of the image is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import nan_mean, percent
from tag2mask.core.types import IGNORE
from tag2mask.data.forms import Numbers
from tag2mask.evaluation.confusion import LabelImage, check_shapes, label_image

TOLERANCE = 2
"""Pixels that a pixel may be off."""
THIN = 6.0
"""Width in pixels below which a shift by `TOLERANCE` takes half of the IoU of a strip, (w - 2) / (w + 2), or more."""
METRIC = f"iou@{TOLERANCE}px"
"""Name of the mean over the thin classes; ``iou@2px/<class>`` is one class's."""
_CROFTON = math.pi / 4


def widths(truth: LabelImage, n_classes: int) -> NDArray[np.float64]:
    """(C,) width in pixels of each class in one (H, W) ground truth; NaN where it has no pixel, or no boundary."""
    area = np.bincount(truth.ravel(), minlength=IGNORE + 1)[: n_classes + 1]
    sides = np.zeros(IGNORE + 1, np.int64)
    for one, other in ((truth[:, 1:], truth[:, :-1]), (truth[1:], truth[:-1])):
        met = one != other
        sides += np.bincount(one[met], minlength=IGNORE + 1) + np.bincount(other[met], minlength=IGNORE + 1)
    perimeter = _CROFTON * sides[: n_classes + 1]
    found: NDArray[np.float64] = np.full(n_classes + 1, np.nan)
    np.divide(2.0 * area, perimeter, out=found, where=perimeter > 0)
    return found[1:]


class Widths:
    """Gathers the `widths` of a split's images."""

    def __init__(self, n_classes: int) -> None:
        self._n_classes = n_classes
        self._each: list[NDArray[np.float64]] = []

    def update(self, truth: LabelImage, enlarged: float = 1.0) -> None:
        """Take one (H, W) ground truth, ``enlarged`` times as large as its photo."""
        self._each.append(widths(truth, self._n_classes) / enlarged)

    def thin(self) -> tuple[int, ...]:
        """Class columns whose median width is below `THIN`."""
        every = np.asarray(self._each, np.float64).reshape(-1, self._n_classes)
        return tuple(
            column
            for column, known in enumerate(~np.isnan(every.T))
            if known.any() and float(np.median(every[known, column])) < THIN
        )


@dataclass(frozen=True, slots=True)
class ToleranceScores:
    """IoU with a tolerance of each thin class, percent, NaN where it is in neither ground truth nor prediction."""

    classes: tuple[str, ...]  # the thin ones
    iou: tuple[float, ...]  # of each

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``; none where no class is thin."""
        if not self.classes:
            return ()
        each = (((f"{METRIC}/{name}"), value) for name, value in zip(self.classes, self.iou, strict=True))
        return ((METRIC, float(nan_mean(self.iou))), *each)


class ToleranceMetrics:
    """Counts thin classes of label images and their ground truth with a tolerance, image by image.

    Args:
        classes: names of all classes.
        thin: columns of those that are counted.

    Example:
        >>> metrics = ToleranceMetrics(["crack"], [0])
        >>> metrics.update([[1, 0, 0, 0, 0]], [[0, 0, 1, 0, 0]])  # two pixels off
        >>> metrics.compute().values()
        (('iou@2px', 100.0), ('iou@2px/crack', 100.0))
    """

    def __init__(self, classes: Sequence[str], thin: Iterable[int]) -> None:
        self.classes, self.thin = tuple(classes), tuple(thin)
        self._counts: NDArray[np.int64] = np.zeros((4, len(self.thin)), np.int64)

    def update(self, prediction: Numbers, truth: Numbers, sample_id: str = "", *, enlarged: float = 1.0) -> None:
        """Count one image: (H, W) labels, 255 ignored in either; as `SegmentationMetrics.update`.

        ``enlarged`` is how many times as large as its photo the image is, see `Dataset.enlargement`.
        """
        guess, true = label_image(prediction, "prediction", sample_id), label_image(truth, "truth", sample_id)
        check_shapes(guess.shape, true.shape, sample_id)
        counted, reach = true != IGNORE, TOLERANCE * enlarged
        for place, column in enumerate(self.thin):
            found, known = (guess == column + 1) & counted, true == column + 1
            near = (found & _near(known, reach), found, known & _near(found, reach), known)
            self._counts[:, place] += [int(np.count_nonzero(mask)) for mask in near]

    def compute(self) -> ToleranceScores:
        """The scores of all images together."""
        right, predicted, hit, known = self._counts
        precision, recall = percent(right, predicted) / 100, percent(hit, known) / 100
        both = np.nan_to_num(precision) * np.nan_to_num(recall)
        union = np.nan_to_num(precision) + np.nan_to_num(recall) - both
        iou = np.where(union > 0, 100 * both / np.where(union > 0, union, 1), 0.0)
        iou[(predicted == 0) & (known == 0)] = np.nan
        return ToleranceScores(tuple(self.classes[column] for column in self.thin), tuple(map(float, iou)))


def _near(mask: NDArray[np.bool_], reach: float) -> NDArray[np.bool_]:
    """(H, W) pixels within ``reach`` pixels of a set one."""
    from scipy import ndimage

    if not mask.any():
        return mask
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= reach
    return near
