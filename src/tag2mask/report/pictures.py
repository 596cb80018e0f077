"""Pictures for pages and figures: heat maps and labels over an image, and the layers that a page lays over a photo.

In layers a class is distinguished by its hue, its pattern and its name beside it, never by the hue alone. Each layer is
a small PNG of its own, so that the photo is stored once and a switch can hide one class.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.arrays import beside_another
from tag2mask.core.errors import DataError
from tag2mask.core.palette import colour
from tag2mask.core.types import IGNORE
from tag2mask.data.split_views import shrunk_size

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
    height, width = shrunk_size(image.height, image.width, longest)
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)


def data_uri(image: Image.Image, longest: int = 360) -> str:
    """The image as a JPEG in a ``data:`` URI for a page without other files, at most ``longest`` pixels a side."""
    return _uri(fit_within(image.convert("RGB"), longest), "jpeg", quality=85)


HUES = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#cc79a7")
"""Six of the colours of Okabe and Ito, distinguished by colour-blind eyes."""

TILE = 8
_TILE_Y, _TILE_X = np.indices((TILE, TILE))
PATTERNS = {
    "plain": np.ones((TILE, TILE), dtype=bool),
    "rising stripes": (_TILE_X + _TILE_Y) % TILE < TILE // 2,
    "dots": (_TILE_X - 3.5) ** 2 + (_TILE_Y - 3.5) ** 2 < 8,
    "level stripes": _TILE_Y < TILE // 2,
    "falling stripes": (_TILE_X - _TILE_Y) % TILE < TILE // 2,
}
"""Name and (8, 8) tile of each pattern: where the tint is strong."""

STRONG, WEAK = 165, 70
"""Opacity, 0..255, of a tint on and beside its pattern."""

Rgba = tuple[int, int, int, int]
EDGE: Rgba = (255, 255, 255, 255)
RIM: Rgba = (0, 0, 0, 220)
"""The last pixels of a class, and those of the background beside them: an outline on bright and on dark photos."""
_IGNORED: Rgba = (224, 224, 192, 255)
_IGNORED_BESIDE: Rgba = (40, 40, 40, 140)


@dataclass(frozen=True, slots=True)
class ClassStyle:
    """How the pixels of a class are drawn: one of `HUES` and one of `PATTERNS`."""

    colour: str
    pattern: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as numbers."""
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)


def class_style(column: int) -> ClassStyle:
    """The style of a class column; the first thirty have one each."""
    names = tuple(PATTERNS)
    return ClassStyle(HUES[column % len(HUES)], names[(column + column // len(HUES)) % len(names)])


def map_uri(values: NDArray[np.uint8]) -> str:
    """One (h, w) map, 255 where it is 1, as a PNG of these pixel values in the colours of a heat map."""
    image = Image.fromarray(values, mode="P")
    image.putpalette(heat_colours().reshape(-1).tolist())
    return png_uri(image)


def quantised(values: NDArray[np.float32], longest: int) -> NDArray[np.uint8]:
    """(K, h, w) maps in [0, 1] as a page carries them: 8 bits, made smaller to at most ``longest`` cells a side."""
    if values.ndim != 3 or (values.size and not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6)):
        raise DataError(f"maps for a page have shape {values.shape}; expected (K, h, w) with values in 0..1")
    height, width = shrunk_size(values.shape[1], values.shape[2], longest)
    if (height, width) != values.shape[1:]:
        small = [np.asarray(Image.fromarray(v).resize((width, height), Image.Resampling.BOX)) for v in values]
        values = np.stack(small) if small else np.zeros((0, height, width), np.float32)
    in_bytes: NDArray[np.uint8] = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return in_bytes


def class_uri(labels: NDArray[np.uint8], label: int) -> str:
    """The pixels of one label, a class column + 1, of an (H, W) label image as a layer."""
    style = class_style(label - 1)
    inside = labels == label
    strong = _tiled(PATTERNS[style.pattern], labels.shape)
    rim = (labels == 0) & beside_another(inside)  # background beside the class
    place = np.select([inside & beside_another(labels), inside & strong, inside, rim], [3, 2, 1, 4], 0)
    return _layer(place, ((*style.rgb, WEAK), (*style.rgb, STRONG), EDGE, RIM))


def ignored_uri(labels: NDArray[np.uint8]) -> str:
    """The ignored pixels of a label image as a hatched layer."""
    hatched = _tiled(PATTERNS["rising stripes"], labels.shape)
    ignored = labels == IGNORE
    return _layer(np.select([ignored & hatched, ignored], [1, 2], 0), (_IGNORED, _IGNORED_BESIDE))


def swatch_uri(column: int) -> str:
    """A 24 x 24 sample of a class's tint on grey, for the legend."""
    labels = np.zeros((3 * TILE, 3 * TILE), np.uint8)
    labels[1:-1, 1:-1] = column + 1
    return class_uri(labels, column + 1)


def png_uri(image: Image.Image) -> str:
    """A picture as a PNG in a ``data:`` URI."""
    return _uri(image, "png")


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _layer(place: NDArray[np.intp], colours: tuple[Rgba, ...]) -> str:
    """A PNG of few colours: 0 is transparent, ``i`` is ``colours[i - 1]``."""
    image = Image.fromarray(place.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, *(v for colour in colours for v in colour[:3])])
    image.info["transparency"] = bytes([0, *(colour[3] for colour in colours)])
    return png_uri(image)


def _tiled(tile: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A pattern over a whole picture, beginning at its upper left corner."""
    height, width = shape
    repeated: NDArray[np.bool_] = np.tile(tile, (-(-height // TILE), -(-width // TILE)))
    return repeated[:height, :width]
