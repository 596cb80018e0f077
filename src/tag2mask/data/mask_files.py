"""Mask files, images or arrays, as label indices in the upright frame of their image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.arrays import PARSING
from tag2mask.core.errors import DataError
from tag2mask.data.base import Labels
from tag2mask.data.images import SIDEWAYS, loaded, opened, raw_mode, stored_size, turned

V = TypeVar("V", bound=np.generic)
Palette = Mapping[tuple[int, int, int], int]
"""Label index of each colour (r, g, b), for masks stored in colour."""
_SHORT_GREY = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255: the step between two indices
_HIGHEST_8 = 255


def read_labels(path: Path, palette: Palette | None = None, values: Mapping[int, int] | None = None) -> Labels:
    """Read a mask as (H, W) uint8 label indices.

    Indexed (P), grey (L, 8 or 16 bits) and 1-bit masks hold the indices themselves, but for those ``values`` that stand
    for another, such as {255: 1}; masks in colour need a ``palette``.
    """
    with opened(path) as image:
        step = _SHORT_GREY.get(raw_mode(image), 1)
        whole = turned(image, loaded(image))
        if image.mode in ("RGB", "RGBA"):
            return _from_colours(np.asarray(_opaque(whole, path, "RGB")), path, palette)
        if image.mode not in ("P", "1", "L", "LA", "I") and not image.mode.startswith("I;16"):
            raise DataError(f"mask {path} has mode {image.mode}: expected P, L, 1, 16-bit grey, or RGB with a palette")
        stored = np.asarray(_opaque(whole, path, "L") if image.mode == "LA" else whole).astype(np.int64) // step
    return label_indices(stored, path, values)


def label_indices(stored: NDArray[np.int64], path: Path, values: Mapping[int, int] | None) -> Labels:
    """Label indices (H, W) uint8 of the whole numbers in a mask file, some of which stand for another by ``values``."""
    labels = stored.copy() if values else stored
    for value, label in (values or {}).items():
        labels[stored == value] = label
    if labels.size and not 0 <= labels.min() <= labels.max() <= _HIGHEST_8:
        strange = labels.max() if labels.max() > _HIGHEST_8 else labels.min()
        raise DataError(
            f"mask {path} holds index {strange}: expected 0..255 (0 background, 255 ignored). If a value stands for "
            f"another, say so: 'data.mask_values={{{strange}: 1}}'"
        )
    return labels.astype(np.uint8)


def align_labels(labels: NDArray[V], image: Path, what: str) -> NDArray[V]:
    """Bring a (H, W) mask or sidecar into the upright frame of its image; ``what`` names it in the error.

    A mask of the upright size is taken as it is; one of the stored size is turned as the image is. Where both sizes
    agree (a square image, or one turned by 180 degrees or mirrored) the mask counts as upright.
    """
    if check_size((labels.shape[0], labels.shape[1]), image, what):
        return labels
    return np.asarray(turned(Image.fromarray(labels), stored_size(image)[1]))


def check_size(size: tuple[int, int], image: Path, what: str) -> bool:
    """Compare the (H, W) of the mask or sidecar ``what`` with its image, by the image's header alone.

    True where it is the upright size, false where it is that of the stored pixels, which EXIF turns.
    """
    stored, orientation = stored_size(image)
    upright = stored[::-1] if orientation >= SIDEWAYS else stored
    if size not in (upright, stored):
        raise DataError(
            f"{what} is {size[1]} x {size[0]} pixels, its image {image} is {upright[1]} x {upright[0]}: "
            f"expected the size of its image. `tag2mask doctor` lists every such file"
        )
    return size == upright


def _opaque(image: Image.Image, path: Path, mode: str) -> Image.Image:
    if "A" in image.mode and image.getchannel("A").getextrema()[0] != _HIGHEST_8:
        raise DataError(f"mask {path} is partly transparent, so its labels are not clear: store it without alpha")
    return image.convert(mode)


def _from_colours(rgb: NDArray[np.uint8], path: Path, palette: Palette | None) -> Labels:
    if palette is None:
        raise DataError(
            f"mask {path} is stored in colour: set data.palette to the colour of each class "
            f"(reader 'folder'), or store class indices (PNG mode P or L)"
        )
    colours, which = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    table = np.zeros(len(colours), dtype=np.uint8)
    for row, colour in enumerate(colours.tolist()):
        if tuple(colour) not in palette:
            pixels = int((which == row).sum())
            known = ", ".join(str(list(c)) for c in palette)
            raise DataError(
                f"mask {path}: {pixels} pixels have colour {colour}, unknown to data.palette. Known: {known}"
            )
        table[row] = palette[tuple(colour)]
    return table[which].reshape(rgb.shape[:2])


ARRAY_SUFFIX = ".npy"


def is_array(path: Path) -> bool:
    """Whether a mask is one of numpy's files, by its name."""
    return path.suffix.lower() == ARRAY_SUFFIX


def read_array(path: Path, values: Mapping[int, int] | None = None) -> Labels:
    """Read a mask of whole numbers or booleans, (H, W), as (H, W) uint8.

    Args:
        path: of the mask.
        values: label index of those values that are not the index themselves, such as {255: 1}.
    """
    return label_indices(np.array(mapped_array(path), dtype=np.int64), path, values)


def array_size(path: Path) -> tuple[int, int]:
    """(H, W) of a mask, from its header alone."""
    height, width = mapped_array(path).shape
    return height, width


def mapped_array(path: Path, what: str = "mask", kinds: str = "bui") -> NDArray[Any]:
    """The array as it lies in the file: a header that promises more than the file holds is an error, not memory.

    Args:
        path: of the file.
        what: it is, for the error text.
        kinds: of numbers, in numpy's letters.
    """
    try:
        with PARSING:
            values = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy's parser of headers raises what Python's does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"cannot read {what} {path}: {reason}. Write it anew with numpy.save, or take it out of the folder"
        ) from error
    if len(values.shape) != len(("height", "width")) or values.dtype.kind not in kinds:
        numbers = "numbers" if "f" in kinds else "whole numbers"
        raise DataError(
            f"{what} {path} holds {values.dtype} of shape {values.shape}: expected {numbers} of shape (height, "
            "width). Write it anew: numpy.save(path, values.astype('uint8'))"
        )
    return values
