"""Training images with label images: refined seeds, pseudo-masks or ground truth, for IRN, AMN and segmenters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.training.images import AugmentedImages, tag_vector

_READERS = 2
LabelsOf = Callable[[Sample], Labels]
"""From a sample to its label image (H, W) uint8: 0 background, c + 1 class c, 255 ignored."""


class LabelImages(AugmentedImages):
    """Augmented images (3, crop, crop) with their labels uint8, 255 outside the image.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        labels: gives their label images.
        transform: augments image and labels together.
        seed: of the training.
        grid: rows and columns to which labels are reduced; None keeps the size of the crop.
        tags: give the tags (C,) as 0 and 1 between image and labels.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        labels: LabelsOf,
        transform: Callable[[Image.Image, Labels], tuple[Tensor, Any]],
        seed: int,
        *,
        grid: tuple[int, int] | None = None,
        tags: bool = False,
    ) -> None:
        super().__init__(samples, seed)
        self.dataset, self.labels, self.transform, self.grid, self.tags = dataset, labels, transform, grid, tags

    def read(self, sample: Sample) -> tuple[Image.Image, Labels]:
        """The image and its labels."""
        image, labels = self.dataset.image(sample), self.labels(sample)
        check_size(labels, image, sample)
        return image, labels

    def augmented(self, sample: Sample, content: tuple[Image.Image, Labels]) -> tuple[Tensor, ...]:
        """The augmented image, its tags where wanted, and the labels on the grid."""
        image, labels = self.transform(*content)
        reduced = (labels if self.grid is None else at_grid(labels, *self.grid)).to(torch.uint8)
        return (image, tag_vector(sample, len(self.dataset.classes)), reduced) if self.tags else (image, reduced)


def at_grid(labels: Tensor, height: int, width: int) -> Tensor:
    """Labels on a smaller grid, as Pillow's nearest does it: index floor((i + 1/2) H / height), in whole numbers.

    Where that is a whole number before rounding, Pillow's sum of fractions may fall just below it.

    Args:
        labels: (..., H, W).
        height: rows of the result.
        width: columns of the result.

    Returns:
        (..., height, width).
    """
    rows, columns = (
        (2 * torch.arange(n, device=labels.device) + 1) * side // (2 * n)
        for n, side in zip((height, width), labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]


def check_size(labels: Labels, image: Image.Image, sample: Sample) -> None:
    """Refuse labels of another size than their image."""
    if labels.shape != (image.height, image.width):
        raise DataError(
            f"the labels of image '{sample.id}' are {labels.shape[0]} x {labels.shape[1]} pixels, but the image is "
            f"{image.height} x {image.width} (height x width): they belong to another image; run the recipe again"
        )


def checked(labels: LabelsOf, classes: Sequence[str], *, tags: bool = False) -> LabelsOf:
    """Label images that raise a DataError, as `check_labels`, for labels that cannot belong to their sample.

    Args:
        labels: gives label images.
        classes: of the data.
        tags: hold them against the tags, too.
    """

    def give(sample: Sample) -> Labels:
        found = labels(sample)
        present = np.flatnonzero(np.bincount(found.ravel())).tolist()
        check_labels(present, classes, f"image '{sample.id}'", sample.tags if tags else None)
        return found

    return give


def check_labels(found: Sequence[int], classes: Sequence[str], what: str, tags: Sequence[int] | None = None) -> None:
    """Refuse labels that cannot belong to an image.

    Args:
        found: the labels that occur: 0, c + 1 for class column c, 255.
        classes: of the data.
        what: the image, for the error text.
        tags: class columns present; None where any may be.
    """
    present = [label for label in found if label not in (0, IGNORE)]
    beyond = [label for label in present if not 1 <= label <= len(classes)]
    if beyond:
        raise DataError(
            f"the labels of {what} hold {beyond[0]}, but the data has {len(classes)} classes: expected 0 (background), "
            f"1 to {len(classes)}, and 255 (ignored). Make them again with these classes, or add the missing ones to "
            f"data.classes"
        )
    if tags is not None and present and not {label - 1 for label in present} & set(tags):
        seen, named = ([classes[c] for c in columns] for columns in ((label - 1 for label in present), tags))
        raise DataError(
            f"the refined seeds of {what} show {', '.join(seen)}, but its tags are "
            f"{', '.join(named) or 'none'}: they have no class in common. Make the seeds from maps of these tags"
        )


def with_labels(samples: Sequence[Sample], labels: LabelsOf, name: str) -> list[Sample]:
    """The samples that have anything to learn from; how many were left out is logged.

    Args:
        samples: all of a split.
        labels: gives their label images.
        name: of the stage.
    """

    def confident(sample: Sample) -> bool:
        return bool((labels(sample) != IGNORE).any())

    kept = [sample for sample, any_of in zip(samples, prefetch(confident, samples, _READERS), strict=True) if any_of]
    if samples and not kept:
        raise DataError(
            f"{name}: every pixel of the labels of all {len(samples)} images is ignored (255), so there is nothing to "
            f"learn from. Nearly all values of the maps lie between the two thresholds of the refined seeds: bring "
            f"these together (lower 'foreground' and raise 'background', or lower 'margin')"
        )
    if len(kept) < len(samples):
        LOG.warning(
            "%s: %d of %d images are left out: every pixel of their labels is ignored (255)",
            name, len(samples) - len(kept), len(samples),
        )  # fmt: skip
    return kept
