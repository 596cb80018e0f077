"""Photos as they are read for prediction: whole, or in windows from a TIFF, never more pixels than allowed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.data.images import StoredImage, upright_size
from tag2mask.segmentation.reading import reading
from tag2mask.segmentation.tiles import Picture

MAX_PIXELS = 200_000_000
"""Pixels that a photo may have unless told otherwise: some 0.8 GB when decoded."""
_TIFF = {".tif", ".tiff"}


class WholePhoto:
    """A photo that is decoded as a whole when it is first looked at, and turned window by window.

    Args:
        path: the file.
        size: (H, W), upright, as its header says.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.path, self.size = path, size

    @cached_property
    def image(self) -> StoredImage:
        """The photo as stored: upright and in RGB it would be a second large photo in memory.

        Raises:
            DataError: it cannot be read.
        """
        return StoredImage(self.path)

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the photo, see `Picture`.

        Raises:
            DataError: it cannot be read.
        """
        with reading(self.path):
            return self.image.part(top, left, bottom, right)


class ArrayPhoto:
    """A photo that is in memory.

    Args:
        image: (H, W, 3) uint8 RGB.
    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.image, self.size = image, (int(image.shape[0]), int(image.shape[1]))

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the photo, see `Picture`."""
        return self.image[top:bottom, left:right]


def open_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Open a photo by its header alone; inside `own_bound`.

    A TIFF in tiles or strips of ordinary modes is read in windows, where tifffile (extra ``geo``) is installed and can
    decode it.

    Raises:
        DataError: it is missing, a pipe or a device, no image, or of more than ``max_pixels``.
    """
    with reading(path):
        if path.suffix.lower() in _TIFF:
            from tag2mask.segmentation.tiff import open_tiff

            windows = open_tiff(path)
            if windows is not None:
                _check_pixels(path, windows.size, max_pixels)
                return windows
        size = upright_size(path)
        _check_pixels(path, size, max_pixels)
        return WholePhoto(path, size)


def _check_pixels(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    pixels = size[0] * size[1]
    if pixels > max_pixels:
        raise DataError(
            f"{path} is {size[1]} x {size[0]}, {pixels} pixels, more than the {max_pixels} allowed: if that is no "
            f"mistake, allow it with --max-pixels {pixels}"
        )
