"""Training images with their masks, and what is wrong with masks, said before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.segmentation.transforms import SegmentTransform
from tag2mask.training.images import AugmentedImages

_READERS = 2
Masks = Callable[[Sample], Labels]
"""From a sample to its mask (H, W) uint8: 0 background, c + 1 class c, 255 unsure."""


class MaskImages(AugmentedImages):
    """Augmented images (3, crop, crop) with their masks (crop, crop) uint8, 255 outside the image.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        masks: gives their masks.
        transform: augments image and mask together.
        seed: of the training.
    """

    def __init__(
        self, dataset: Dataset, samples: Sequence[Sample], masks: Masks, transform: SegmentTransform, seed: int
    ) -> None:
        super().__init__(samples, seed)
        self.dataset, self.masks, self.transform = dataset, masks, transform

    def read(self, sample: Sample) -> tuple[Image.Image, Labels]:
        """The image and its mask.

        Raises:
            DataError: their sizes differ, or the image cannot be read.
        """
        image, mask = self.dataset.image(sample), self.masks(sample)
        if mask.shape != (image.height, image.width):
            raise DataError(
                f"the mask of image '{sample.id}' is {mask.shape[0]} x {mask.shape[1]} pixels, but the image is "
                f"{image.height} x {image.width} (height x width): they do not belong together; make the masks again"
            )
        return image, mask

    def augmented(self, sample: Sample, content: tuple[Image.Image, Labels]) -> tuple[Tensor, ...]:
        """The augmented image and mask."""
        return self.transform(*content)


def usable(samples: Sequence[Sample], masks: Masks, classes: Sequence[str], name: str) -> list[Sample]:
    """The samples whose mask has anything to learn from; how many were left out is logged.

    Args:
        samples: all of a split.
        masks: gives their masks.
        classes: of the data.
        name: of the stage.

    Raises:
        DataError: a mask holds an index above the class list, or every pixel of every mask is unsure.
    """

    def sure(sample: Sample) -> bool:
        found = np.flatnonzero(np.bincount(masks(sample).ravel(), minlength=IGNORE + 1)[:IGNORE])
        if found.size and found[-1] > len(classes):
            raise DataError(
                f"the mask of image '{sample.id}' holds index {found[-1]}, but the data has {len(classes)} classes: "
                f"expected 0 (background), 1 to {len(classes)}, and 255 (unsure). Make the masks again with these "
                f"classes, or add the missing ones to data.classes"
            )
        return bool(found.size)

    kept = [sample for sample, any_sure in zip(samples, prefetch(sure, samples, _READERS), strict=True) if any_sure]
    if samples and not kept:
        raise DataError(
            f"{name}: every pixel of the masks of all {len(samples)} images is unsure (255), so there is nothing to "
            f"learn from. Read pseudo-masks, in which nothing is unsure, or refined seeds with other thresholds"
        )
    if len(kept) < len(samples):
        LOG.warning(
            "%s: %d of %d images are left out: every pixel of their masks is unsure",
            name, len(samples) - len(kept), len(samples),
        )  # fmt: skip
    return kept


def truth_of(dataset: Dataset, name: str) -> tuple[list[Sample], Masks]:
    """The samples that have a truth, and how to read it; how many have none is logged.

    Raises:
        DataError: none has.
    """
    found = [sample for sample in dataset.samples if dataset.truth(sample) is not None]
    if not found:
        raise no_truth(dataset, f"{name}: ")
    if len(found) < len(dataset):
        LOG.warning("%s: %d of %d images have no truth and are left out", name, len(dataset) - len(found), len(dataset))

    def read(sample: Sample) -> Labels:
        mask = dataset.truth(sample)
        assert mask is not None  # those without were left out
        return mask

    return found, read


def no_truth(dataset: Dataset, where: str = "") -> DataError:
    """The error for a split whose truth should train, and that has none."""
    return DataError(
        f"{where}truth = true, but split '{dataset.split}' has no truth. Add masks to the data, choose another split, "
        f"or set truth=false and read a stage of pseudo-masks"
    )
