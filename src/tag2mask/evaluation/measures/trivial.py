"""Trivial answers for scale: what all background reaches on a split, and one random own tag an image.

They come from pixel counts of the ground truth alone. A mask that is not ahead of them says nothing: where a class is
1 % of the pixels, all background has a mIoU of about 50, and where every pixel is of one of few classes, a tag of the
image everywhere is right on much of it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE, Sample
from tag2mask.evaluation.confusion import LabelImage, Matrix
from tag2mask.evaluation.measures.tolerance import Widths
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.result_tables import MetricRow, score_rows
from tag2mask.evaluation.thresholds import Threshold

ALL_BACKGROUND, RANDOM_TAG = "all background", "random own tag"
TRIVIAL = (ALL_BACKGROUND, RANDOM_TAG)
"""Names that the answers have in place of a stage's."""
METRICS = ("miou", "miou_foreground", "f1_foreground")
"""What is measured of them."""


class Beside:
    """What a split's ground truth says beside the measured labels: trivial answers, and which classes are thin."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.trivial, self._widths = TrivialAnswers(classes), Widths(len(classes))

    def update(self, truth: LabelImage, sample: Sample, enlarged: float) -> None:
        """Take one image: (H, W) labels, 255 ignored, its tags, and its `Dataset.enlargement`."""
        self.trivial.update(truth, sample)
        self._widths.update(truth, enlarged)

    def thin(self) -> tuple[int, ...]:
        """As `Widths.thin`."""
        return self._widths.thin()


class TrivialAnswers:
    """Counts what the trivial answers reach, image by image.

    The tag of an image is drawn with a generator seeded by its id, so that it is the same on every split, part and
    process; an image without tags is background.

    Example:
        >>> answers = TrivialAnswers(["cat"])
        >>> answers.update(np.array([[0, 1], [1, 1]], np.uint8), Sample("a", (0,)))
        >>> [(name, round(scores.mean("iou"))) for name, scores in answers.scores()]
        [('all background', 0), ('random own tag', 75)]
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        size = len(self.classes) + 1
        self._matrices: dict[str, Matrix] = {name: np.zeros((size, size), np.int64) for name in TRIVIAL}
        self.n_images = 0

    def update(self, truth: LabelImage, sample: Sample) -> None:
        """Count one image: (H, W) labels 0..C, 255 ignored, and its tags."""
        pixels = np.bincount(truth.ravel(), minlength=IGNORE + 1)[: len(self.classes) + 1]
        self.add(pixels, sample)

    def add(self, pixels: NDArray[np.int64], sample: Sample) -> None:
        """Count one image by the (C + 1,) pixels of each label in its ground truth."""
        self._matrices[ALL_BACKGROUND][:, 0] += pixels
        tag = random.Random(sample.id).choice(sample.tags) + 1 if sample.tags else 0
        self._matrices[RANDOM_TAG][:, tag] += pixels
        self.n_images += 1

    def scores(self) -> tuple[tuple[str, SegmentationScores], ...]:
        """Name and scores of each answer; none where the ground truth shows no class, and no mean is defined."""
        return tuple(
            (name, SegmentationScores.of_split(matrix, self.classes))
            for name, matrix in self._matrices.items()
            if matrix[1:].any()
        )

    def rows(self, *, split: str, seed: int, time: str) -> tuple[MetricRow, ...]:
        """The answers as rows of ``metrics.jsonl``, with their names as stage and method."""
        return tuple(
            row
            for name, scores in self.scores()
            for row in score_rows(
                scores, Threshold(None, "none"), stage=name, method=name, split=split, n_images=self.n_images,
                seed=seed, time=time,
            )
            if row.metric in METRICS
        )  # fmt: skip
