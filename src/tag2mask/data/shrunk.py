"""Large photos brought to a working size: ``data.max_side``.

The networks and settings of the recipes are made for images of some hundred pixels a side. A phone's photo of 12
megapixels would cost fifty times as much, and its objects would be larger than what the networks look at.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.images import upright_size


class ShrunkImages(Dataset):
    """A split whose images have at most ``max_side`` pixels a side, smaller ones as they are.

    Maps and masks made of it have the working size too.

    Args:
        dataset: the split.
        max_side: longest side in pixels.
    """

    def __init__(self, dataset: Dataset, max_side: int) -> None:
        self.name, self.split, self.classes, self.samples = (
            dataset.name, dataset.split, dataset.classes, dataset.samples,
        )  # fmt: skip
        self.findings, self.tag_names, self.sources = dataset.findings, dataset.tag_names, dataset.sources
        self.max_side = self._side = max_side
        self._whole = dataset

    def image(self, sample: Sample) -> Image.Image:
        """The image in RGB, shrunk with antialiasing.

        Raises:
            DataError: the file is missing, truncated or no image.
        """
        image = self._whole.image(sample)
        height, width = shrunk_size(image.height, image.width, self._side)
        return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)

    def truth(self, sample: Sample) -> Labels | None:
        """The truth at the size of the image, nearest pixels."""
        labels = self._whole.truth(sample)
        if labels is None:
            return None
        height, width = labels.shape
        return resized_labels(labels, *shrunk_size(height, width, self._side))

    def mask_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) of the truth as stored, before it is shrunk."""
        return self._whole.mask_size(sample)

    def remarks(self, sample: Sample) -> tuple[str, ...]:
        """What is doubtful about a sample."""
        return self._whole.remarks(sample)

    @property
    def has_truth(self) -> bool:
        """Whether any sample has a truth."""
        return self._whole.has_truth

    @property
    def truth_reading(self) -> str:
        """How mask files become labels."""
        return self._whole.truth_reading

    def content_hash(self, sample: Sample) -> str:
        """SHA-256 of what the image is made of before it is shrunk."""
        return self._whole.content_hash(sample)

    def working_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) that the image is brought to; None where it stays as it is.

        Raises:
            DataError: the file is missing or no image.
        """
        whole = self._whole.image(sample).size[::-1] if sample.image is None else upright_size(sample.image)
        size = shrunk_size(*whole, self._side)
        return None if size == whole else size


def shrunk_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """(H, W) with the longest side at most ``max_side``, the shape kept, each side at least 1."""
    factor = min(1.0, max_side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def resized_labels(labels: Labels, height: int, width: int) -> Labels:
    """(H, W) uint8 to another size, each pixel from the nearest one."""
    if labels.shape == (height, width):
        return labels
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
