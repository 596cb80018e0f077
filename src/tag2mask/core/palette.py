"""Label images as palette PNG, in PASCAL VOC's colours: readable by eye and by index."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.files import atomic_path


@cache
def voc_palette() -> tuple[int, ...]:
    """The 256 colours of VOC's label images as 768 numbers r, g, b; index 255 is the cream of "unsure"."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    for index in range(256):
        rest, bit = index, 7
        while rest:
            for channel in range(3):
                colours[index, channel] |= ((rest >> channel) & 1) << bit
            rest, bit = rest >> 3, bit - 1
    return tuple(int(v) for v in colours.reshape(-1))


def colour(index: int) -> tuple[int, int, int]:
    """The (r, g, b) of one label index, 0..255."""
    palette = voc_palette()
    return palette[3 * index], palette[3 * index + 1], palette[3 * index + 2]


def write_labels(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write a (H, W) uint8 label image as a palette PNG, under a temporary name first."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette(voc_palette())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
