"""How active absent classes are in AMN's maps, and what a wrong tag changes (AMN, Figure 4).

Used by ``analyse absent-classes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import rounded
from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.thresholds import Threshold

MEASURES = ("present", "absent", "absent_highest", "wrong_tag_wrong", "wrong_tag_present")
COLUMNS = ("stage", "split", "seed", "image", "wrong", *MEASURES)
"""Of `AbsentAnalysis.lines`."""

Probabilities = Callable[[Sample, Sequence[int]], NDArray[np.float32]]
"""Softmax (C + 1, h, w), background first, of a sample conditioned on class columns."""


@dataclass(frozen=True, slots=True)
class ImageAbsent:
    """One image's activations: means of the softmax over its pixels, 0..1."""

    id: str
    wrong: int  # column of the absent class that is most active under the image's own tags
    present: float  # of the classes that it is tagged with
    absent: float  # of all other classes
    absent_highest: float  # of the class ``wrong``
    wrong_tag_wrong: float  # of that class where it is the only tag
    wrong_tag_present: float  # of the classes of the image's own tags, there


@dataclass(frozen=True, slots=True)
class AbsentAnalysis:
    """What `analyse_absent` found: numbers of each image that lacks a class and has one; the others are left out."""

    split: str
    images: tuple[ImageAbsent, ...]
    n_left_out: int

    def results(self, origin: Origin) -> tuple[ResultRow, ...]:
        """The means over the images as lines of ``results/``; there is no threshold in them."""
        means = [(m, fmean(getattr(i, m) for i in self.images)) for m in MEASURES]
        return origin.rows(means, Threshold(None, "none"), self.split, len(self.images))

    def lines(self, classes: Sequence[str], *, stage: str, seed: int) -> list[tuple[Any, ...]]:
        """The numbers of each image as lines of CSV."""
        return [
            (stage, self.split, seed, i.id, classes[i.wrong], *(rounded(getattr(i, m)) for m in MEASURES))
            for i in self.images
        ]


def analyse_absent(
    dataset: Dataset,
    probabilities: Probabilities,
    samples: Sequence[Sample],
    advance: Callable[[], None] | None = None,
) -> AbsentAnalysis:
    """Measure present and absent classes under an image's own tags and a wrong one; ``advance`` counts the images."""
    found = []
    for sample in samples:
        if 0 < len(sample.tags) < len(dataset.classes):
            found.append(_measure(sample, len(dataset.classes), probabilities))
        if advance is not None:
            advance()
    if not found:
        raise DataError(
            f"no image of split '{dataset.split}' has some of the {len(dataset.classes)} classes and lacks another, so "
            "there is no absent class to look at"
        )
    return AbsentAnalysis(dataset.split, tuple(found), len(samples) - len(found))


def _measure(sample: Sample, n_classes: int, probabilities: Probabilities) -> ImageAbsent:
    present = list(sample.tags)
    absent = [c for c in range(n_classes) if c not in sample.tags]
    right = probabilities(sample, present)[1:].mean(axis=(1, 2), dtype=np.float64)
    wrong = max(absent, key=lambda c: float(right[c]))
    mistagged = probabilities(sample, [wrong])[1:].mean(axis=(1, 2), dtype=np.float64)
    return ImageAbsent(
        sample.id, wrong, float(right[present].mean()), float(right[absent].mean()), float(right[wrong]),
        float(mistagged[wrong]), float(mistagged[present].mean()),
    )  # fmt: skip
