"""Photos at the size that a network was trained for, and its labels at theirs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tag2mask.segmentation.predict.tiles import Picture

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
    return _in_bands(height, width, lambda rows: _enlarged(probabilities, rows, height, width))


def labels_of_views(logits: Sequence[Tensor], height: int, width: int) -> NDArray[np.uint8]:
    """The labels of the mean over views of the softmax of logits brought to a larger size, as `predict_batch` has them.

    Args:
        logits: of each view, (C + 1, h, w).
        height: of the photo, H.
        width: of the photo, W.

    Returns:
        (H, W) uint8, the lowest of equally probable labels.
    """

    def summed(rows: range) -> Tensor:
        return torch.stack([_enlarged(view, rows, height, width).softmax(dim=0) for view in logits]).sum(dim=0)

    return _in_bands(height, width, summed)


def _in_bands(height: int, width: int, scores: Callable[[range], Tensor]) -> NDArray[np.uint8]:
    """Labels (H, W) of scores (C + 1, rows, W), of which one band is held at a time."""
    labels = np.empty((height, width), dtype=np.uint8)
    step = max(1, _BAND // width)
    for first in range(0, height, step):
        rows = range(first, min(first + step, height))
        labels[first : rows.stop] = scores(rows).argmax(dim=0).to(torch.uint8).cpu().numpy()
    return labels


def _enlarged(maps: Tensor, rows: range, height: int, width: int) -> Tensor:
    """Some rows of ``maps`` (C + 1, h, w) brought bilinearly to (C + 1, height, width)."""
    small = maps.shape[1]
    places = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    place = ((places + 0.5) * (small / height) - 0.5).clamp(0, small - 1)
    above = place.floor().long()
    share = (place - above).to(maps)[:, None]
    below = (above + 1).clamp(max=small - 1)
    above, below = above.to(maps.device), below.to(maps.device)
    return F.interpolate(torch.lerp(maps[:, above], maps[:, below], share), width, mode="linear", align_corners=False)
