"""Pictures for pages and figures: heat maps and labels over an image, and images as data URIs."""

from __future__ import annotations

import base64
import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.arrays import beside_another
from tag2mask.core.errors import DataError
from tag2mask.core.palette import colour
from tag2mask.core.types import IGNORE

RGB = tuple[int, int, int]
_CREAM: RGB = (224, 224, 192)
_HATCH = 6


@cache
def heat_colours() -> NDArray[np.uint8]:
    """(256, 3) colours of increasing lightness, distinguished by colour-blind eyes and in grey print."""
    import matplotlib

    table = matplotlib.colormaps["inferno"](np.arange(256), bytes=True)
    return np.asarray(table, dtype=np.uint8)[:, :3]


def heat_overlay(image: Image.Image, values: NDArray[np.float32], strength: float = 0.75) -> Image.Image:
    """One activation map, (h, w) in [0, 1] of any size, over the grey image: dark where it is 0, bright where it is 1.

    ``strength`` 0 shows the grey image alone, 1 the map alone.
    """
    if values.ndim != 2 or not values.size or not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):
        span = f", {values.min()}..{values.max()}" if values.size else ""
        raise DataError(f"a heat map has shape {values.shape}{span}; expected (h, w) with values in 0..1")
    # resized as float: 8 bits before the resize would show as bands
    small = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    full = np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))
    colours = heat_colours()[np.rint(full.clip(0, 1) * 255).astype(np.uint8)].astype(np.float32)
    grey = np.asarray(image.convert("L"), dtype=np.float32)[..., None]
    return Image.fromarray(np.rint(grey * (1 - strength) + colours * strength).astype(np.uint8))


def label_overlay(image: Image.Image, labels: NDArray[np.uint8], strength: float = 0.55) -> Image.Image:
    """An (H, W) label image over the image: a tint in the palette's colour, a white outline, ignored pixels hatched.

    ``strength`` 0 shows the image alone, 1 the colours alone; background is left as it is.
    """
    if labels.shape != (image.height, image.width):
        raise DataError(
            f"labels have shape {labels.shape}, the image {(image.height, image.width)}; resize the labels (nearest)"
        )
    result = np.asarray(image.convert("RGB"), dtype=np.float32).copy()
    for label in np.unique(labels[(labels != 0) & (labels != IGNORE)]):
        inside = labels == label
        result[inside] = result[inside] * (1 - strength) + np.asarray(colour(int(label))) * strength
    rows, columns = np.indices(labels.shape)
    result[(labels == IGNORE) & ((rows + columns) % _HATCH < _HATCH // 2)] = _CREAM
    result[(labels != 0) & (labels != IGNORE) & beside_another(labels)] = 255
    return Image.fromarray(np.rint(result).astype(np.uint8))


def fit_within(image: Image.Image, longest: int) -> Image.Image:
    """The image, shrunk so that its longer side is at most ``longest`` pixels; never enlarged."""
    ratio = longest / max(image.size)
    if ratio >= 1:
        return image
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.LANCZOS)


def data_uri(image: Image.Image, longest: int = 360) -> str:
    """The image as a JPEG in a ``data:`` URI for a page without other files, at most ``longest`` pixels a side."""
    stream = io.BytesIO()
    fit_within(image.convert("RGB"), longest).save(stream, "JPEG", quality=85, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
