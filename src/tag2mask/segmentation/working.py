"""Photos at the size that a network was trained for, and its labels at theirs."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tag2mask.segmentation.tiles import Picture

_BAND = 4_000_000
"""Pixels of a photo, or values of its probabilities for each label, that are held at a time."""
_SUPPORT = 2
"""Pixels of the small image that the bicubic filter reaches to each side."""


def shrunk_photo(picture: Picture, height: int, width: int) -> NDArray[np.uint8]:
    """A photo at a smaller size, as ``Image.resize`` (bicubic) gives it of the whole, from bands of rows.

    Args:
        picture: the photo.
        height: new height.
        width: new width.

    Returns:
        (height, width, 3) uint8.
    """
    rows, columns = picture.size
    scale = rows / height
    step = max(1, int(_BAND / (columns * scale)))
    margin = math.ceil(_SUPPORT * max(scale, 1.0)) + 1
    bands = []
    for first in range(0, height, step):
        last = min(first + step, height)
        top, bottom = max(0, math.floor(first * scale) - margin), min(rows, math.ceil(last * scale) + margin)
        band = Image.fromarray(picture.window(top, 0, bottom, columns))
        box = (0.0, first * scale - top, float(columns), min(last * scale - top, float(bottom - top)))
        bands.append(np.asarray(band.resize((width, last - first), Image.Resampling.BICUBIC, box)))
    return np.concatenate(bands)


def enlarged_labels(probabilities: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """The most probable label of each pixel of a larger image, probabilities bilinear between those of the small one.

    Args:
        probabilities: (C + 1, h, w).
        height: new height H.
        width: new width W.

    Returns:
        (H, W) uint8, the lowest of equally probable labels.
    """
    small = probabilities.shape[1]
    labels = np.empty((height, width), dtype=np.uint8)
    step = max(1, _BAND // width)
    for first in range(0, height, step):
        last = min(first + step, height)
        place = ((torch.arange(first, last, dtype=torch.float64) + 0.5) * (small / height) - 0.5).clamp(0, small - 1)
        above = place.floor().long()
        share = (place - above).to(probabilities)[:, None]
        below = (above + 1).clamp(max=small - 1)
        above, below = above.to(probabilities.device), below.to(probabilities.device)
        band = torch.lerp(probabilities[:, above], probabilities[:, below], share)
        found = F.interpolate(band, width, mode="linear", align_corners=False).argmax(dim=0)
        labels[first:last] = found.to(torch.uint8).cpu().numpy()
    return labels
