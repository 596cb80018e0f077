"""Label images of a split against ground truth: masks by mIoU, refined seeds by coverage and precision.

Refined seeds have ignored pixels where they are not confident, so none of their numbers is comparable to a mIoU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.arrays import percent
from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import LabelImage, Matrix, label_image
from tag2mask.evaluation.measures.tolerance import ToleranceMetrics, ToleranceScores
from tag2mask.evaluation.measures.trivial import Beside, TrivialAnswers
from tag2mask.evaluation.metrics import BACKGROUND, SegmentationMetrics, SegmentationScores, shows_background


@dataclass(frozen=True, slots=True, eq=False)
class ConfidentScores:
    """On how many pixels refined seeds are confident, and how right they are there; in percent."""

    labels: tuple[str, ...]  # background first
    matrix: Matrix  # (L, L) pixel counts over confident pixels, row = ground truth, column = refined seeds
    known: NDArray[np.int64]  # (L,) pixels of each label in the ground truth, confident or not

    @property
    def shows_classes(self) -> bool:
        """Whether a foreground class has a pixel in the ground truth, confident or not."""
        return bool(self.known[1:].any())

    @property
    def coverage(self) -> float:
        """Share of the pixels with ground truth where the seeds are confident."""
        return float(percent(self.matrix.sum(), self.known.sum()))

    @property
    def precision_sure(self) -> float:
        """Share of the confident pixels that are right; NaN where there are none."""
        return float(percent(np.trace(self.matrix), self.matrix.sum()))

    @property
    def sure_of_classes(self) -> bool:
        """Whether the seeds are confident of a class anywhere; of the background alone no mean IoU says anything."""
        return bool(self.matrix[:, 1:].any())

    @property
    def miou_sure(self) -> float:
        """Mean IoU over the confident pixels alone, of the labels there.

        NaN where no class is shown there, and where the seeds are confident of the background alone.
        """
        return self._segmentation().miou if self.sure_of_classes else math.nan

    @property
    def miou_foreground_sure(self) -> float:
        """As `miou_sure`, over the foreground classes."""
        return self._segmentation().mean("iou") if self.sure_of_classes else math.nan

    @property
    def f1_foreground_sure(self) -> float:
        """Mean F1 over the foreground classes, as `miou_foreground_sure`."""
        return self._segmentation().f1_foreground if self.sure_of_classes else math.nan

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``, in percent, NaN where undefined.

        ``coverage/<label>`` is the confident share of a label's pixels in the ground truth, ``precision_sure/<label>``
        and ``iou_sure/<label>`` are over confident pixels.
        """
        means = [(name, getattr(self, name)) for name in _MEANS]
        shares = percent(self.matrix.sum(axis=1), self.known)
        single = [(f"coverage/{name}", float(share)) for name, share in zip(self.labels, shares, strict=True)]
        if self.matrix.sum():
            there = self._segmentation()
            for metric, values in (("precision_sure", there.precision), ("iou_sure", there.iou)):
                single += [(f"{metric}/{n}", float(v)) for n, v in zip(self.labels, values, strict=True)]
        return (*means, *single)

    def _segmentation(self) -> SegmentationScores:
        has_background = shows_background(self.known)
        return SegmentationScores.from_matrix(self.matrix, self.labels[1:], has_background=has_background)


_MEANS = ("coverage", "precision_sure", "miou_sure", "miou_foreground_sure", "f1_foreground_sure")
"""Means of `ConfidentScores` by the names that they have in ``metrics.jsonl``."""


class ConfidentMetrics:
    """Counts refined seeds, 255 where not confident, against ground truth, image by image; arguments as for masks."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._confident = SegmentationMetrics(classes, unsure="ignore")
        self._known: NDArray[np.int64] = np.zeros(len(self._confident.matrix), dtype=np.int64)

    def update(self, prediction: ArrayLike, truth: ArrayLike, sample_id: str = "") -> None:
        """Count one image, as `SegmentationMetrics.update`."""
        self._confident.update(prediction, truth, sample_id)
        pixels = np.bincount(label_image(truth, "truth", sample_id).ravel(), minlength=256)
        self._known += pixels[: len(self._known)]

    def compute(self) -> ConfidentScores:
        """The scores of all images together."""
        if not self._known.sum():
            raise DataError(
                "no refined seeds were evaluated: no image with ground truth, or all of it is ignored (255)"
            )
        return ConfidentScores(
            (BACKGROUND, *self._confident.classes), self._confident.matrix.copy(), self._known.copy()
        )


_OF_IMAGE = {False: ("miou",), True: ("coverage", "precision_sure")}
"""Metrics of each image, by whether labels may be 255 where not confident."""


@dataclass(frozen=True, slots=True)
class MaskImage:
    """One image's percents by `MaskEvaluation.image_metrics`, NaN where undefined; for examples, not to average."""

    id: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MaskEvaluation:
    """What `evaluate_masks` found.

    ``n_images`` have ground truth, ``n_without_truth`` have none and are left out; ``scores`` is over all images,
    ``images`` of each by the ``image_metrics``.
    """

    split: str
    n_images: int
    n_without_truth: int
    scores: SegmentationScores | ConfidentScores
    image_metrics: tuple[str, ...]
    images: tuple[MaskImage, ...]
    trivial: TrivialAnswers | None = None  # what trivial answers reach on the same images
    tolerance: ToleranceScores | None = None  # of thin classes; None where there are none, and of refined seeds

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``."""
        return (*self.scores.values(), *(self.tolerance.values() if self.tolerance else ()))

    @property
    def shows_classes(self) -> bool:
        """Whether the ground truth of any image shows a class; where none does, every mean IoU is NaN."""
        return self.scores.shows_classes


Compared = tuple[LabelImage, LabelImage, str]
"""Labels and ground truth of an image, (H, W) each, and its id: what metrics are updated by."""


def compared(
    dataset: Dataset,
    read_labels: Callable[[Sample], LabelImage],
    samples: Sequence[Sample],
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> Iterator[Compared]:
    """Labels beside the ground truth of every sample that has some, in order; arguments as for `evaluate_masks`."""

    def read(sample: Sample) -> Compared | None:
        truth = dataset.truth(sample)
        return None if truth is None else (read_labels(sample), truth, sample.id)

    return prefetch_known(read, samples, threads, advance)


def evaluate_masks(
    dataset: Dataset,
    read_labels: Callable[[Sample], LabelImage],
    *,
    unsure: bool = False,
    samples: Sequence[Sample] | None = None,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> MaskEvaluation:
    """Score the label images of a split; those of refined seeds (``unsure``) give `ConfidentScores`, never a mIoU.

    ``read_labels`` gives a sample's (H, W) labels; the other arguments are as for `evaluate_seeds`.
    """
    chosen = dataset.samples if samples is None else samples
    by_id = {sample.id: sample for sample in chosen}
    whole, beside = _metrics(dataset, unsure), Beside(dataset.classes)
    images: list[MaskImage] = []
    for labels, truth, sample_id in compared(dataset, read_labels, chosen, threads, advance):
        beside.update(truth, by_id[sample_id], dataset.enlargement(by_id[sample_id]))
        one = _metrics(dataset, unsure)
        for metrics in (one, whole):
            metrics.update(labels, truth, sample_id)
        images.append(MaskImage(sample_id, _values(one, _OF_IMAGE[unsure])))
    if not images:
        raise DataError(
            f"no image of split '{dataset.split}' has ground truth, so its masks cannot be evaluated. Give masks drawn "
            "by hand, or evaluate a split that has them"
        )
    tolerance = None
    if not unsure and (thin := beside.thin()):  # known once all ground truth is seen: in a pass of its own
        near = ToleranceMetrics(dataset.classes, thin)
        for image in compared(dataset, read_labels, chosen, threads):
            near.update(*image, enlarged=dataset.enlargement(by_id[image[-1]]))
        tolerance = near.compute()
    return MaskEvaluation(
        dataset.split, len(images), len(chosen) - len(images), whole.compute(), _OF_IMAGE[unsure], tuple(images),
        beside.trivial, tolerance,
    )  # fmt: skip


def _metrics(dataset: Dataset, unsure: bool) -> SegmentationMetrics | ConfidentMetrics:
    return ConfidentMetrics(dataset.classes) if unsure else SegmentationMetrics(dataset.classes)


def _values(metrics: SegmentationMetrics | ConfidentMetrics, names: Sequence[str]) -> tuple[float, ...]:
    """One image's metrics; NaN where its ground truth is ignored everywhere."""
    try:
        scores = metrics.compute()
    except DataError:
        return (math.nan,) * len(names)
    if isinstance(scores, SegmentationScores):  # one image does not say whether the data has a background
        scores = SegmentationScores.from_matrix(scores.matrix, scores.labels[1:])
    found = dict(scores.values())
    return tuple(found[name] for name in names)
