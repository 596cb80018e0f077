"""Training data of a segmentation network: ground truth where the recipe allows it, and the papers' augmentation.

Resize (bilinear without antialiasing, masks nearest), crop, flip, colours, normalise. What the crop lacks comes after
normalising, on the right and below: the mean colour (0) in the image, 255 in the mask, never background. All randomness
is torch's: inside `tag2mask.data.transforms.seeded` it derives from (seed, epoch, index) alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from tag2mask.core.errors import DataError
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.segmentation.settings import SegmentTrainSettings
from tag2mask.training.label_images import LabelsOf

_TRIES = 10
_HALF = 0.5
_BRIGHTNESS, _FACTOR, _HUE = 32 / 255, (0.5, 1.5), 18 / 180
"""PhotoMetricDistortion as published: added brightness, contrast and saturation factors, part of the colour circle."""


def truth_of(dataset: Dataset, name: str) -> tuple[list[Sample], LabelsOf]:
    """The samples that have ground truth, and how to read it; how many have none is logged."""
    found = [sample for sample in dataset.samples if dataset.truth(sample) is not None]
    if not found:
        raise no_truth(dataset, f"{name}: ")
    if len(found) < len(dataset):
        LOG.warning(
            "%s: %d of %d images have no ground truth and are left out", name, len(dataset) - len(found), len(dataset)
        )

    def read(sample: Sample) -> Labels:
        mask = dataset.truth(sample)
        assert mask is not None  # those without were left out
        return mask

    return found, read


def no_truth(dataset: Dataset, where: str = "") -> DataError:
    """The error for a split whose ground truth should train, and that has none."""
    return DataError(
        f"{where}truth = true, but split '{dataset.split}' has no ground truth. Add masks to the data, choose "
        f"another split, or set truth=false and read a stage of pseudo-masks"
    )


@dataclass(frozen=True, slots=True)
class SegmentTransform:
    """Random size, crop, flip and colours; ``mean`` and ``std`` are per channel of RGB in [0, 1]."""

    settings: SegmentTrainSettings
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Augment one RGB image with its (H, W) mask; call inside `seeded`.

        Gives (3, crop, crop) float32 normalised and (crop, crop) uint8.
        """
        size = self._size(image.height, image.width)
        pixels = V.resize(V.pil_to_tensor(image), size, InterpolationMode.BILINEAR, antialias=False)
        # Pillow, because torch rounds the ties of nearest elsewhere
        labels = torch.from_numpy(np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)))
        pixels, labels = self._cropped(pixels.float() / 255, labels)
        if _coin():
            pixels, labels = pixels.flip(-1), labels.flip(-1)
        if self.settings.photometric:
            pixels = photometric(pixels)
        pixels = V.normalize(pixels, list(self.mean), list(self.std))
        missing = (0, self.settings.crop - labels.shape[1], 0, self.settings.crop - labels.shape[0])
        return F.pad(pixels, missing).contiguous(), F.pad(labels, missing, value=IGNORE).contiguous()

    def _size(self, height: int, width: int) -> list[int]:
        """The random (height, width), rounded down as published, each at least 1."""
        settings = self.settings
        if settings.scales is not None:
            factor = settings.scales[_below(len(settings.scales))]
        else:
            low, high = settings.rescale
            factor = low + (high - low) * float(torch.rand((), dtype=torch.float64))
        factor *= fit_factor(height, width, settings.fit)
        return [max(1, int(height * factor)), max(1, int(width * factor))]

    def _cropped(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """A random window of at most the crop; drawn anew, up to ten times, while one label fills too much of it."""
        crop, limit = self.settings.crop, self.settings.max_share
        for _ in range(1 if limit is None else _TRIES):
            top, left = (_below(max(side - crop, 0) + 1) for side in labels.shape)
            window = labels[top : top + crop, left : left + crop]
            if limit is not None and largest_share(window) < limit:
                break
        return pixels[:, top : top + crop, left : left + crop], window


def largest_share(labels: Tensor) -> float:
    """How much of the pixels that are not 255 the commonest label has; infinite where it is the only one."""
    counts = torch.bincount(labels.flatten().int(), minlength=IGNORE + 1)[:IGNORE]
    return float(counts.max() / counts.sum()) if counts.count_nonzero() > 1 else inf


def fit_factor(height: int, width: int, fit: tuple[int, int] | None) -> float:
    """What brings an image, its shape kept, into (long side, short side); 1 where ``fit`` is None."""
    if fit is None:
        return 1.0
    return min(max(fit) / max(height, width), min(fit) / min(height, width))


def photometric(image: Tensor) -> Tensor:
    """Distort brightness, contrast, saturation and hue of (3, h, w) in [0, 1], each with probability 1/2.

    Contrast comes before or after the others.
    """
    if _coin():
        image = (image + _between(-_BRIGHTNESS, _BRIGHTNESS)).clamp(0, 1)
    first = _coin()
    if first:
        image = _contrast(image)
    if _coin():
        image = saturated(image, _between(*_FACTOR))
    if _coin():
        image = V.adjust_hue(image, _between(-_HUE, _HUE))
    return image if first else _contrast(image)


def saturated(image: Tensor, factor: float) -> Tensor:
    """Multiply the S of HSV of (3, h, w) in [0, 1] by a factor of at least 0, at most to 1.

    Each channel's distance from the largest one grows by the factor.
    """
    value, low = image.amax(0), image.amin(0)
    most = value / (value - low).clamp_min(torch.finfo(image.dtype).tiny)
    return (value - most.clamp_max(factor) * (value - image)).clamp(0, 1)


def _contrast(image: Tensor) -> Tensor:
    return (image * _between(*_FACTOR)).clamp(0, 1) if _coin() else image


def _coin() -> bool:
    return bool(torch.rand(()) < _HALF)


def _below(n: int) -> int:
    return int(torch.randint(n, ()))


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
