"""Image and mask together, as the training of the papers' networks needs them.

The order is that of the published systems: resize (bicubic image, nearest mask), normalise, flip, crop. What the crop
adds comes after normalising, so it is the mean colour (0) in the image and 255 in the mask, and the image lies at a
random place in it. All randomness is torch's: inside `seeded` it derives from (seed, epoch, index) alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from tag2mask.core.errors import ConfigError
from tag2mask.core.types import IGNORE

_LOCK = threading.RLock()


@contextmanager
def seeded(seed: int, epoch: int, index: int) -> Iterator[None]:
    """Let torch's random numbers on the CPU derive from seed, epoch and sample index alone; restore its state after.

    The generator is one for the whole process, so threads take turns in here; decode outside.
    """
    state = np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(state[0]) >> 1)  # torch.manual_seed would reseed GPUs too
        yield


class _RandomSize(v2.Transform):  # type: ignore[misc]  # torchvision ships no types
    """Resizes to a random size: images bicubic, masks nearest, both by Pillow (torch rounds ties elsewhere)."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        size = params["size"]
        if isinstance(inpt, tv_tensors.Mask):
            labels = F.resize(F.to_pil_image(inpt), size, InterpolationMode.NEAREST)
            return tv_tensors.Mask(F.pil_to_tensor(labels))
        return F.resize(inpt, size, InterpolationMode.BICUBIC)


class RandomLongSide(_RandomSize):
    """Scales so that the long side is a uniform random whole number, ``low`` to ``high``, both included."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size, (height, width), each at least 1."""
        height, width = v2.query_size(flat_inputs)
        long = int(torch.randint(self.low, self.high + 1, ()))
        return {"size": scaled(height, width, long / max(height, width))}


class RandomRescale(_RandomSize):
    """Scales both sides by a uniform random factor, ``low`` (above 0) to ``high``."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size, (height, width), each at least 1."""
        factor = self.low + (self.high - self.low) * float(torch.rand((), dtype=torch.float64))
        height, width = v2.query_size(flat_inputs)
        return {"size": scaled(height, width, factor)}


def scaled(height: int, width: int, factor: float) -> list[int]:
    """[height, width] times a factor, rounded, each at least 1 pixel."""
    return [max(1, round(height * factor)), max(1, round(width * factor))]


def normalise(mean: Sequence[float], std: Sequence[float]) -> v2.Compose:
    """From RGB in 0..255 to float32 ``(value / 255 - mean) / std``; masks pass through."""
    return v2.Compose([
        v2.ToImage(), v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        v2.Normalize(list(mean), list(std)),
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainTransform:
    """The augmentation of a training image, with its mask where there is one.

    Attributes:
        crop: side of the square result in pixels.
        mean: per channel of RGB in [0, 1].
        std: per channel.
        long_side: range of the random long side in pixels, ends included.
        rescale: range of the random factor; only without ``long_side``. Without either the image keeps its size.
        flip: probability of a horizontal flip.
    """

    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    long_side: tuple[int, int] | None = None
    rescale: tuple[float, float] | None = None
    flip: float = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.crop < 1:
            raise ConfigError(f"crop = {self.crop}: expected at least 1 pixel")
        if self.long_side and self.rescale:
            raise ConfigError("long_side and rescale are both set: one of them decides the size, set the other to null")
        for name, limits in (("long_side", self.long_side), ("rescale", self.rescale)):
            if limits and not 0 < limits[0] <= limits[1]:
                raise ConfigError(f"{name} = {list(limits)}: expected [smallest, largest], both above 0")

    def __call__(self, image: Image.Image, mask: NDArray[np.uint8] | None = None) -> tuple[Tensor, Tensor | None]:
        """Augment one image; call inside `seeded`.

        Args:
            image: RGB.
            mask: (H, W) label indices, of the image's size.

        Returns:
            The image, (3, crop, crop) float32, and the mask, (crop, crop) int64 with 255 where the image does not
            reach, or None without one.
        """
        steps = self._steps()
        if mask is None:
            return steps(image).as_subclass(Tensor).contiguous(), None
        labels = tv_tensors.Mask(torch.from_numpy(np.ascontiguousarray(mask))[None])
        pixels, labels = steps(image, labels)
        return pixels.as_subclass(Tensor).contiguous(), labels.as_subclass(Tensor)[0].long()

    def _steps(self) -> v2.Compose:
        size = []
        if self.long_side:
            size = [RandomLongSide(*self.long_side)]
        elif self.rescale:
            size = [RandomRescale(*self.rescale)]
        return v2.Compose([
            *size,
            normalise(self.mean, self.std),
            v2.RandomHorizontalFlip(self.flip),
            v2.RandomCrop(self.crop, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}),
        ])  # fmt: skip
