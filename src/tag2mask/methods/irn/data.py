"""Training images with their refined seeds on the stride-4 grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.irn.settings import STRIDE
from tag2mask.training.images import AugmentedImages

_READERS = 2
Seeds = Callable[[Sample], Labels]
"""From a sample to its refined seeds (H, W) uint8: 0 background, c + 1 class c, 255 unsure."""


class SeedImages(AugmentedImages):
    """Augmented images (3, crop, crop) with their labels (crop / 4, crop / 4) uint8, 255 outside the image.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        seeds: gives their refined seeds.
        transform: augments image and seeds together.
        seed: of the training.
    """

    def __init__(
        self, dataset: Dataset, samples: Sequence[Sample], seeds: Seeds, transform: TrainTransform, seed: int
    ) -> None:
        super().__init__(samples, seed)
        self.dataset, self.seeds, self.transform = dataset, seeds, transform

    def read(self, sample: Sample) -> tuple[Image.Image, Labels]:
        """The image and its refined seeds.

        Raises:
            DataError: their sizes differ, or the image cannot be read.
        """
        image, labels = self.dataset.image(sample), self.seeds(sample)
        check_size(labels, image, sample)
        return image, labels

    def augmented(self, sample: Sample, content: tuple[Image.Image, Labels]) -> tuple[Tensor, ...]:
        """The augmented image and the reduced labels."""
        image, labels = self.transform(*content)
        assert labels is not None  # there were seeds
        return image, reduced(labels)


def check_size(labels: Labels, image: Image.Image, sample: Sample) -> None:
    """Refuse refined seeds of another size than their image.

    Raises:
        DataError: both sizes, and the image's id.
    """
    if labels.shape != (image.height, image.width):
        raise DataError(
            f"the refined seeds of image '{sample.id}' are {labels.shape[0]} x {labels.shape[1]} pixels, but the "
            f"image is {image.height} x {image.width} (height x width): they belong to another image; run the "
            f"recipe again"
        )


def reduced(labels: Tensor) -> Tensor:
    """Labels at a quarter of the size, as Pillow's nearest does it: the third of each four pixels in row and column.

    Args:
        labels: (H, W), sides multiples of 4.

    Returns:
        (H / 4, W / 4) uint8.
    """
    return labels[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].to(torch.uint8)


def with_sure_pixels(samples: Sequence[Sample], seeds: Seeds, name: str) -> list[Sample]:
    """The samples that have anything to learn from; how many were left out is logged.

    Args:
        samples: all of a split.
        seeds: gives their refined seeds.
        name: of the stage.

    Raises:
        DataError: there are no samples, or every pixel of every sample is unsure.
    """

    def sure(sample: Sample) -> bool:
        return bool((seeds(sample) != IGNORE).any())

    kept = [sample for sample, any_sure in zip(samples, prefetch(sure, samples, _READERS), strict=True) if any_sure]
    if samples and not kept:
        raise DataError(
            f"{name}: every pixel of the refined seeds of all {len(samples)} images is unsure, so there is nothing "
            f"to learn from. Nearly all values of the maps lie between the two thresholds of the refined seeds: "
            f"bring these together (lower 'foreground' and raise 'background', or lower 'margin')"
        )
    if len(kept) < len(samples):
        LOG.warning(
            "%s: %d of %d images are left out: every pixel of their refined seeds is unsure",
            name, len(samples) - len(kept), len(samples),
        )  # fmt: skip
    return kept
