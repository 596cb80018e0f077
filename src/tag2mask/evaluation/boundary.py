"""Boundary quality beside mIoU: Boundary IoU of each label, and mIoU in bands around the boundaries (trimap).

Boundary IoU (Cheng et al., CVPR 2021) compares, label by label, the bands of width delta inside the contours of ground
truth and prediction: ``|(G_d & G) & (P_d & P)| / |(G_d & G) | (P_d & P)|``. A pixel is in the band of its label where a
square of ``2 delta + 1`` pixels around it leaves the image or holds another label: exactly the mask less its erosion
by ``delta`` steps of a 3 x 3 square, for all labels at once. Intersections and unions are summed over the data set
before the ratio, as for IoU. Ignored pixels of the ground truth are ignored in the prediction too and never counted;
where a ring of them lies along the contours, as in VOC, both masks end at the ring, which makes a thin band optimistic.

The trimap (Kohli et al. 2009; Kraehenbuehl and Koltun 2011) is the confusion matrix of the pixels whose Euclidean
distance to a boundary of the ground truth is at most a width. Boundaries are its ignored pixels where it has any, else
the pixels with another label to the right, left, above or below. An image of one label alone has none and adds nothing.

Used by the boundary stage and ``analyse boundary``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.arrays import beside_another, nan_mean, percent
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.types import IGNORE
from tag2mask.evaluation.confusion import LabelImage, confusion_matrix, label_image
from tag2mask.evaluation.metrics import Percent, SegmentationMetrics, SegmentationScores

SHARE = 0.02
"""Width of the band as a share of the image's diagonal, as for COCO and LVIS; 0.005 is Cityscapes'."""

WIDTHS = (1, 2, 3, 5, 10, 20, 40)
"""Widths of the trimap's bands, pixels."""


def band(labels: LabelImage, delta: int) -> NDArray[np.bool_]:
    """(H, W) pixels at a chessboard distance of at most ``delta``, 1 or more, to what is not their label.

    Outside of the image there is none, and 255 is a label of its own.
    """
    from scipy import ndimage

    size = 2 * delta + 1
    found: NDArray[np.bool_] = ndimage.minimum_filter(labels, size) != ndimage.maximum_filter(labels, size)
    found[:delta] = found[-delta:] = found[:, :delta] = found[:, -delta:] = True
    return found


def distance_bands(truth: LabelImage, widths: Sequence[int]) -> NDArray[np.uint8]:
    """(H, W) index of the first of ascending ``widths`` that the Euclidean distance to a `boundary` does not exceed.

    It is their count where the distance exceeds all, or there is no boundary.
    """
    from scipy import ndimage

    edge = boundary(truth)
    if not edge.any():
        return np.full(truth.shape, len(widths), dtype=np.uint8)
    # Exact: distances are roots of whole numbers, and the root of a square is the very number.
    bands: LabelImage = np.searchsorted(widths, ndimage.distance_transform_edt(~edge)).astype(np.uint8)
    return bands


def boundary(truth: LabelImage) -> NDArray[np.bool_]:
    """(H, W) ignored pixels where there are any, else pixels with another label to the right, left, above or below."""
    ignored: NDArray[np.bool_] = truth == IGNORE
    return ignored if ignored.any() else beside_another(truth)


def band_width(height: int, width: int, share: float = SHARE) -> int:
    """Delta in pixels: ``share`` of the diagonal, rounded half to even as the published code does, at least 1."""
    return max(1, round(share * math.hypot(height, width)))


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryScores:
    """Everything that the bands say, in percent."""

    labels: tuple[str, ...]  # background first
    iou: Percent  # (L,) Boundary IoU of each label; NaN where neither side has a band of it
    trimap: tuple[tuple[int, SegmentationScores | None], ...]  # by width in pixels, ascending; None without a pixel
    share: float = SHARE  # width of Boundary IoU's band as a share of the image's diagonal
    shows_classes: bool = True  # of the ground truth: without a foreground class no mean is defined

    @property
    def mean(self) -> float:
        """Mean Boundary IoU over the labels that have one, background included as in mIoU."""
        return float(nan_mean(self.iou)) if self.shows_classes else math.nan

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``, in percent, NaN where undefined.

        ``boundary_iou`` is over all labels, as ``miou`` is, ``boundary_iou_foreground`` over the foreground classes,
        ``boundary_iou/<label>`` one label's; ``trimap_miou/<w>`` and ``trimap_accuracy/<w>`` are of the pixels at most
        ``w`` from a boundary.
        """
        foreground = float(nan_mean(self.iou[1:])) if self.shows_classes else math.nan
        means = (("boundary_iou", self.mean), ("boundary_iou_foreground", foreground))
        single = tuple((f"boundary_iou/{n}", float(v)) for n, v in zip(self.labels, self.iou, strict=True))
        bands: list[tuple[str, float]] = []
        for width, scores in self.trimap:
            bands.append((f"trimap_miou/{width}", scores.miou if scores else math.nan))
            bands.append((f"trimap_accuracy/{width}", scores.accuracy if scores else math.nan))
        return (*means, *single, *bands)


class BoundaryMetrics:
    """Counts the bands of label images and their ground truth, image by image, and scores them all together.

    ``share`` of the image's diagonal is the width of Boundary IoU's band, ascending ``widths`` in pixels are those of
    the trimap's; without any the trimap is left out.

    Example:
        >>> metrics = BoundaryMetrics(["cat"])
        >>> metrics.update([[0, 1], [1, 1]], [[0, 1], [0, 1]])
        >>> round(metrics.compute().mean, 2)  # so small an image is all band: its mIoU
        58.33
    """

    def __init__(self, classes: Sequence[str], *, share: float = SHARE, widths: Sequence[int] = WIDTHS) -> None:
        self.classes = SegmentationMetrics(classes).classes
        if not 0 < share < 1:
            raise ConfigError(f"share = {share}: expected a part of the image's diagonal, above 0 and below 1")
        if list(widths) != sorted({w for w in widths if w >= 1}):
            raise ConfigError(f"widths = {list(widths)}: expected pixels, each at least 1, ascending")
        self.share, self.widths = share, tuple(widths)
        size = len(self.classes) + 1
        self.both, self.true, self.predicted = (np.zeros(size, dtype=np.int64) for _ in range(3))
        self.trimaps: NDArray[np.int64] = np.zeros((len(self.widths), size, size), dtype=np.int64)
        self.n_images = 0

    def update(self, prediction: ArrayLike, truth: ArrayLike, sample_id: str = "") -> None:
        """Count one image, as `SegmentationMetrics.update`."""
        guess, true = label_image(prediction, "prediction", sample_id), label_image(truth, "truth", sample_id)
        confusion_matrix(guess, true, len(self.both), sample_id=sample_id)  # refuses what does not fit
        if true.size:
            self._count_bands(np.where(true == IGNORE, np.uint8(IGNORE), guess), true)
            self._count_trimaps(guess, true)
        self.n_images += 1

    def compute(self) -> BoundaryScores:
        """The scores of all images together."""
        union = self.true + self.predicted - self.both
        if not union.any():
            raise DataError(
                "no boundary was evaluated: no image with ground truth, or all of it is ignored (255). Check the "
                "split and the masks with tag2mask doctor"
            )
        scored = [SegmentationScores.from_matrix(m.copy(), self.classes) if m.any() else None for m in self.trimaps]
        return BoundaryScores(
            ("background", *self.classes),
            percent(self.both, union),
            tuple(zip(self.widths, scored, strict=True)),
            self.share,
            bool(self.true[1:].any()),
        )

    def _count_bands(self, guess: LabelImage, true: LabelImage) -> None:
        """Add the bands of one image; 255 is a label of its own in both."""
        height, width = true.shape
        delta, size = band_width(height, width, self.share), len(self.both)
        in_truth, in_guess = band(true, delta), band(guess, delta)
        self.true += _pixels(true[in_truth], size)
        self.predicted += _pixels(guess[in_guess], size)
        self.both += _pixels(true[in_truth & in_guess & (true == guess)], size)

    def _count_trimaps(self, guess: LabelImage, true: LabelImage) -> None:
        if not self.widths:
            return
        nearest = distance_bands(true, self.widths)
        size = len(self.both)
        counted = (nearest < len(self.widths)) & (true != IGNORE)
        codes = (nearest[counted].astype(np.intp) * size + true[counted]) * size + guess[counted]
        of_ring = np.bincount(codes, minlength=self.trimaps.size).reshape(self.trimaps.shape)
        self.trimaps += of_ring.cumsum(axis=0)


def _pixels(labels: LabelImage, size: int) -> NDArray[np.int64]:
    """Pixels of each label; 255 left out."""
    return np.bincount(labels, minlength=IGNORE + 1)[:size].astype(np.int64, copy=False)
