"""The forms in which Python code holds a photo, each as the picture that prediction reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.core.errors import DataError
from tag2mask.core.files import expanded
from tag2mask.data.images import to_rgb
from tag2mask.segmentation.photos import ArrayPhoto, open_photo
from tag2mask.segmentation.predict import check_photo
from tag2mask.segmentation.tiles import Picture

Photo = str | Path | Image.Image | NDArray[np.uint8] | Tensor
"""A file, an image of Pillow's, an array (H, W, 3) uint8, or a tensor (3, H, W) in [0, 1]."""


def picture_of(photo: Photo, max_pixels: int) -> Picture:
    """The picture of a photo in any form; a file is opened by its header alone.

    Raises:
        DataError: it cannot be read, or is of another shape, type or range, or a file of more than ``max_pixels``.
    """
    if isinstance(photo, str | Path):
        return open_photo(expanded(photo), max_pixels)
    if isinstance(photo, Image.Image):
        return ArrayPhoto(np.array(to_rgb(photo, Path("the image"))))
    if isinstance(photo, Tensor):
        return ArrayPhoto(_from_tensor(photo))
    if isinstance(photo, np.ndarray):
        return ArrayPhoto(check_photo(photo))
    raise DataError(
        f"a photo is of type {type(photo).__name__}: expected a path, an image of Pillow's, an array (H, W, 3) uint8 "
        "or a tensor (3, H, W) in [0, 1]"
    )


def _from_tensor(photo: Tensor) -> NDArray[np.uint8]:
    if photo.ndim != 3 or photo.shape[0] != 3 or not photo.is_floating_point() or not photo.numel():
        raise DataError(
            f"a photo is a tensor of shape {tuple(photo.shape)} and type {photo.dtype}: expected (3, H, W), floating, "
            "in [0, 1]; give several as a list"
        )
    values = photo.detach().float().cpu()
    if not bool(((values >= 0) & (values <= 1)).all()):  # false for NaN too
        raise DataError(
            f"a photo is a tensor with values {values.min():g}..{values.max():g}: expected [0, 1], not normalised"
        )
    pixels: NDArray[np.uint8] = (values * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels
