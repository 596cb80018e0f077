"""Reads image files upright, in RGB, 8 bits a channel: whole, in parts, or their size from the header alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLEFORMAT, SAMPLESPERPIXEL, ImageFileDirectory_v2

from tag2mask.core.errors import DataError
from tag2mask.core.files import need_regular, special_kind
from tag2mask.core.palette import FORMATS, open_image
from tag2mask.core.progress import LOG

_BIG, _SHORT = 43, 8  # version of a BigTIFF, whose header is twice as long
_MOST_BANDS, _MOST_BITS = 4, 16
_KIND = {1: "", 2: " with sign", 3: " floating"}


def unusual_tiff(path: Path) -> str | None:
    """Which bands and values a TIFF has that no photo has, and what to do; None for other files and damaged ones."""
    try:
        with need_regular(path).open("rb") as file:
            header = file.read(_SHORT)
            if header[2] == _BIG or header[3] == _BIG:
                header += file.read(_SHORT)
            tags = ImageFileDirectory_v2(header)
            file.seek(tags.next)
            tags.load(file)
        bands, bits, kind = (_first(tags, tag) for tag in (SAMPLESPERPIXEL, BITSPERSAMPLE, SAMPLEFORMAT))
    except Exception:  # no TIFF, or cut off within its header
        return None
    if bands <= _MOST_BANDS and bits <= (_MOST_BITS if bands == 1 else _MOST_BITS // 2) and kind == 1:
        return None
    return (
        f"{path} is a TIFF of {bands} band{'' if bands == 1 else 's'} of {bits} bits{_KIND.get(kind, '')}: expected 1 "
        "(grey), 3 (RGB) or 4 (RGB and transparency) of 8 bits, or 1 of 16. Store the bands for red, green and blue, "
        "in 8 bits, as a photo of their own"
    )


def _first(tags: ImageFileDirectory_v2, tag: int) -> int:
    value: Any = tags.get(tag, 1)
    return int(value[0] if isinstance(value, tuple) else value)


_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 0x0112, 0x0100, 0x0101
SIDEWAYS = 5
"""EXIF orientations from 5 on swap width and height."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FROM_RIGHT = {2, 3, 7, 8}  # orientations in which a side of the upright image, counted from its start,
_FROM_BOTTOM = {3, 4, 6, 7}  # is counted from the right or from the bottom of the stored one
_HIGHEST_16 = 65535
_DIM = 1 << 14
"""A photo of 16 bits whose values stay below it has a quarter of the grey levels at most, and looks nearly black."""


def read_image(path: Path) -> Image.Image:
    """Read an image in RGB, 8 bits a channel, upright.

    EXIF rotation is applied; transparency is laid over white; 16-bit grey 0..65535 is scaled to 0..255, never clipped;
    CMYK is converted without a colour profile; of several frames the first is taken.
    """
    with opened(path) as image:
        return turned(to_rgb(image, path), loaded(image))


def upright(image: Image.Image, name: str) -> Image.Image:
    """An image that is open already, decoded and turned as its EXIF says, in its own mode."""
    try:
        return turned(image, loaded(image))
    except Exception as error:  # as in `opened`
        raise DataError(f"cannot read {name}: {error}. Open it again from a file that is whole") from error


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image that is open already as `read_image` gives that of a file."""
    return to_rgb(upright(image, name), Path(name))


class StoredImage:
    """An image decoded once, as its file has it; its parts come out upright and in RGB, as of `read_image`."""

    def __init__(self, path: Path) -> None:
        with opened(path) as image:
            levels = _levels(image)
            self._turn = loaded(image)
        self._image, self._path = image, path
        if levels is not None:
            warn_few_levels(path, levels[1])

    def part(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the upright image, (h, w, 3) uint8 RGB."""
        width, height = self._image.size
        box = (left, top, right, bottom) if self._turn < SIDEWAYS else (top, left, bottom, right)
        if self._turn in _FROM_RIGHT:
            box = (width - box[2], box[1], width - box[0], box[3])
        if self._turn in _FROM_BOTTOM:
            box = (box[0], height - box[3], box[2], height - box[1])
        return np.array(turned(to_rgb(self._image.crop(box), self._path), self._turn))


def upright_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image as `read_image` gives it, from its header alone."""
    stored, orientation = stored_size(path)
    return stored[::-1] if orientation >= SIDEWAYS else stored


def stored_size(path: Path) -> tuple[tuple[int, int], int]:
    """(H, W) as the file holds them, and the EXIF orientation."""
    with opened(path) as image:
        tags = image.getexif()
        size = (image.height, image.width)
        if image.format == "TIFF":  # Pillow gives the upright size
            size = (tags[_TIFF_HEIGHT], tags[_TIFF_WIDTH])
        return size, tags.get(_ORIENTATION, 1)


def levels_range(path: Path) -> tuple[int, int] | None:
    """Lowest and highest value of a photo of 16 bits or more, grey or in colour; None for photos of all other kinds."""
    with opened(path) as image:
        return _levels(image)


def few_levels(highest: int) -> str | None:
    """What becomes of a photo that is read as 0..65535 and holds no value above ``highest``; None where that is enough.

    Cameras and microscopes of 10 or 12 bits write their numbers as they are into files of 16 bits.
    """
    if highest >= _DIM:
        return None
    levels = (highest + 128) // 257 + 1
    return f"holds values of up to {highest}, which read as 0..65535 leave {levels} of 256 grey levels"


def warn_few_levels(path: Path, highest: int) -> None:
    """Warn where a photo of 16 bits holds no value above ``highest``, and that leaves few grey levels."""
    if problem := few_levels(highest):
        LOG.warning("%s %s, nearly black: stretch its values to 0..65535, or store it with 8 bits", path, problem)


def _levels(image: Image.Image) -> tuple[int, int] | None:
    """What `levels_range` gives, of an image that is open and not yet decoded."""
    step = 256 if ";16" in raw_mode(image) and not image.mode.startswith("I") else 1
    if step == 1 and not image.mode.startswith("I"):
        return None
    values = np.asarray(image)
    if step > 1:  # in colour: Pillow keeps the upper byte of each channel
        values = values[..., : 1 if image.mode == "LA" else 3]
    return (int(values.min()) * step, int(values.max()) * step + step - 1) if values.size else (0, 0)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image that is open and not yet decoded; whatever goes wrong until it is closed becomes a DataError."""
    try:
        if kind := special_kind(path):
            raise DataError(f"cannot read {path}: it is {kind}, expected an image file. Take it out of the data set")
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty (0 bytes): copy it again. `tag2mask doctor` lists every broken file")
        with open_image(path) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist. `tag2mask doctor` lists every missing file") from error
    except Exception as error:  # Pillow's plugins raise anything for a damaged file: IndexError, struct.error, …
        if isinstance(error, UnidentifiedImageError) and (problem := unusual_tiff(path)):
            raise DataError(problem) from error
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"no image that can be read (of the formats {', '.join(FORMATS)})"
        raise DataError(
            f"cannot read {path}: {reason}. Copy it again or take it out of the data set; "
            f"`tag2mask doctor` lists every broken file"
        ) from error


def loaded(image: Image.Image) -> int:
    """Decode an open image, and give the EXIF orientation that is left to apply."""
    image.load()  # TIFF is turned while it loads, so the orientation is read afterwards
    orientation: int = image.getexif().get(_ORIENTATION, 1)
    return orientation


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """An image turned upright from an EXIF orientation; itself where that is 1 or unknown."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """An image of any mode as 8-bit RGB: transparency over white, 16 bits divided by 257 and rounded.

    It is decoded; a turn noted in its EXIF is not applied. Opaque 8-bit RGB comes back as is. The error names ``path``.
    """
    if image.mode.startswith("I"):
        values: NDArray[np.int64] = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > _HIGHEST_16):
            raise DataError(
                f"{path} has values {values.min()}..{values.max()}: expected 0..65535. Store it with 8 bits"
            )
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        low, high = image.getextrema()
        raise DataError(
            f"{path} has floating-point values, whose range is not known (here {low:g}..{high:g}): store it with 16 or "
            f"8 bits"
        )
    if image.mode == "La":
        image = image.convert("LA")  # the only one that Pillow has a way to from there
    try:
        return _converted(image)
    except ValueError as error:
        raise DataError(f"{path} has mode {image.mode}, which is not read: convert it to RGB first") from error


def _converted(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        solid = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(solid, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # Pillow would copy: a second large photo in memory


def raw_mode(image: Image.Image) -> str:
    """How a PNG or TIFF packs its values, such as ``L;4``; empty once it is decoded, and for other formats."""
    tile = getattr(image, "tile", None)
    args = tile[0].args if image.format in ("PNG", "TIFF") and tile else None
    return str(args[0] if isinstance(args, tuple) else args)
