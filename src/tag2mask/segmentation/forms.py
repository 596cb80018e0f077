"""The forms in which Python code holds a photo, each as the picture that prediction reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.core.files import expanded
from tag2mask.data.forms import rgb_of
from tag2mask.segmentation.photos import ArrayPhoto, open_photo
from tag2mask.segmentation.tiles import Picture

Photo = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, an image of Pillow's, an array (H, W, 3), (H, W) or (H, W, 1), or a tensor (3, H, W): see `rgb_of`."""


def picture_of(photo: Photo, max_pixels: int) -> Picture:
    """The picture of a photo in any form; a file is opened by its header alone.

    Raises:
        DataError: it cannot be read, or is of another shape, type or range, or a file of more than ``max_pixels``.
    """
    if isinstance(photo, str | Path):
        return open_photo(expanded(photo), max_pixels)
    return ArrayPhoto(rgb_of(photo))
