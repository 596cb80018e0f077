"""Label images of a whole split against its truth: masks, and refined seeds, which are unsure in places."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import ahead
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.metrics import SegmentationMetrics, SegmentationScores
from tag2mask.evaluation.sure import SureMetrics, SureScores

_OF_IMAGE = {False: ("miou",), True: ("coverage", "precision_sure")}
"""Metrics of each image, by whether the labels may be unsure."""


@dataclass(frozen=True, slots=True)
class MaskImage:
    """One image's own numbers, for choosing examples; the scores of a split are no mean of these.

    Attributes:
        id: the sample's.
        values: percent, in the order of `MaskEvaluation.image_metrics`; NaN where undefined.
    """

    id: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MaskEvaluation:
    """What `evaluate_masks` found.

    Attributes:
        split: the evaluated split.
        n_images: images with a truth, all counted.
        n_without_truth: images left out because they have none.
        scores: over all images together.
        image_metrics: names of the values of ``images``.
        images: of each image.
    """

    split: str
    n_images: int
    n_without_truth: int
    scores: SegmentationScores | SureScores
    image_metrics: tuple[str, ...]
    images: tuple[MaskImage, ...]

    @property
    def shows_classes(self) -> bool:
        """Whether the truth of any image shows a class; where none does, every mean IoU is NaN."""
        return self.scores.shows_classes


def evaluate_masks(
    dataset: Dataset,
    read_labels: Callable[[Sample], LabelImage],
    *,
    unsure: bool = False,
    samples: Sequence[Sample] | None = None,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> MaskEvaluation:
    """Score the label images of a split.

    Args:
        dataset: the split.
        read_labels: gives a sample's (H, W) labels; called from several threads.
        unsure: the labels are refined seeds, 255 where unsure: `SureScores`, never a mIoU.
        samples: those of the split to evaluate; all of them where None.
        threads: how many images are read beside the counting.
        advance: called after each image, those without a truth included.

    Raises:
        DataError: no image has a truth, labels and truth do not fit, or labels are 255 without ``unsure``.
    """
    chosen = dataset.samples if samples is None else samples
    whole = _metrics(dataset, unsure)
    images: list[MaskImage] = []

    def read(sample: Sample) -> tuple[Sample, tuple[LabelImage, LabelImage] | None]:
        truth = dataset.truth(sample)
        return sample, None if truth is None else (read_labels(sample), truth)

    for sample, pair in ahead(read, chosen, threads):
        if pair is not None:
            one = _metrics(dataset, unsure)
            for metrics in (one, whole):
                metrics.update(*pair, sample.id)
            images.append(MaskImage(sample.id, _values(one, _OF_IMAGE[unsure])))
        if advance is not None:
            advance()
    if not images:
        raise DataError(
            f"no image of split '{dataset.split}' has a truth, so its masks cannot be evaluated. Give masks drawn by "
            "hand, or evaluate a split that has them"
        )
    n_without = len(chosen) - len(images)
    return MaskEvaluation(dataset.split, len(images), n_without, whole.compute(), _OF_IMAGE[unsure], tuple(images))


def _metrics(dataset: Dataset, unsure: bool) -> SegmentationMetrics | SureMetrics:
    return SureMetrics(dataset.classes) if unsure else SegmentationMetrics(dataset.classes)


def _values(metrics: SegmentationMetrics | SureMetrics, names: Sequence[str]) -> tuple[float, ...]:
    """One image's metrics; NaN where its truth is void everywhere."""
    try:
        found = dict(metrics.compute().values())
    except DataError:
        return (math.nan,) * len(names)
    return tuple(found[name] for name in names)
