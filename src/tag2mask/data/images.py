"""Image and mask files as arrays: upright, 8-bit, and an error with a remedy where a file is broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tag2mask.core.errors import DataError
from tag2mask.core.pixels import FORMATS, open_image
from tag2mask.core.progress import LOG
from tag2mask.core.regular import special_kind
from tag2mask.data.base import Labels
from tag2mask.data.tiff_header import unusual_tiff

Palette = Mapping[tuple[int, int, int], int]
"""Label index of each colour (r, g, b), for masks stored in colour."""

_ORIENTATION, _TIFF_WIDTH, _TIFF_HEIGHT = 0x0112, 0x0100, 0x0101
_SIDEWAYS = 5  # EXIF orientations from 5 on swap width and height
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
_SHORT_GREY = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255: the step between two indices
_HIGHEST_16 = 65535
_DIM = 1 << 14
"""A photo of 16 bits whose values stay below it has a quarter of the grey levels at most, and looks nearly black."""
_HIGHEST_8 = 255


def read_image(path: Path) -> Image.Image:
    """Read an image in RGB, 8 bits a channel, upright.

    EXIF rotation is applied; transparency is laid over white; 16-bit grey 0..65535 is scaled to 0..255, never clipped;
    CMYK is converted without a colour profile; of several frames the first is taken.

    Raises:
        DataError: the file is missing, empty, truncated, no image, or of a mode without a known range.
    """
    with _opened(path) as image:
        return _turned(to_rgb(image, path), _loaded(image))


def upright(image: Image.Image, name: str) -> Image.Image:
    """An image that is open already, decoded and turned as its EXIF says, in its own mode.

    Raises:
        DataError: it is truncated, closed or damaged.
    """
    try:
        return _turned(image, _loaded(image))
    except Exception as error:  # as in `_opened`
        raise DataError(f"cannot read {name}: {error}. Open it again from a file that is whole") from error


def upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image that is open already as `read_image` gives that of a file.

    Raises:
        DataError: it is truncated, closed or damaged, or of a mode without a known range.
    """
    return to_rgb(upright(image, name), Path(name))


class StoredImage:
    """An image held once, as its file has it; parts of it come out upright and in RGB, as `read_image` gives the whole.

    Args:
        path: of the file, which is decoded here.

    Raises:
        DataError: the file is missing, empty, truncated or no image.
    """

    def __init__(self, path: Path) -> None:
        with _opened(path) as image:
            levels = _levels(image)
            self._turn = _loaded(image)
        self._image, self._path = image, path
        if levels is not None:
            warn_few_levels(path, levels[1])

    def part(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Rows ``top`` to ``bottom`` and columns ``left`` to ``right`` of the upright image.

        Returns:
            (bottom - top, right - left, 3) uint8 RGB, its own memory.

        Raises:
            DataError: values without a known range.
        """
        width, height = self._image.size
        box = (left, top, right, bottom) if self._turn < _SIDEWAYS else (top, left, bottom, right)
        if self._turn in _FROM_RIGHT:
            box = (width - box[2], box[1], width - box[0], box[3])
        if self._turn in _FROM_BOTTOM:
            box = (box[0], height - box[3], box[2], height - box[1])
        return np.array(_turned(to_rgb(self._image.crop(box), self._path), self._turn))


def read_labels(path: Path, palette: Palette | None = None, values: Mapping[int, int] | None = None) -> Labels:
    """Read a mask as (H, W) uint8 label indices.

    Indexed (P), grey (L, 8 or 16 bits) and 1-bit masks hold the indices themselves; masks in colour need ``palette``.

    Args:
        path: of the mask.
        palette: label index of each colour.
        values: label index of those values that are not the index themselves, such as {255: 1}; not of colours.

    Raises:
        DataError: the file is broken, a colour is not in ``palette``, an index is above 255, or the mode has no labels.
    """
    with _opened(path) as image:
        step = _SHORT_GREY.get(_raw_mode(image), 1)
        turned = _turned(image, _loaded(image))
        if image.mode in ("RGB", "RGBA"):
            return _from_colours(np.asarray(_opaque(turned, path, "RGB")), path, palette)
        if image.mode not in ("P", "1", "L", "LA", "I") and not image.mode.startswith("I;16"):
            raise DataError(f"mask {path} has mode {image.mode}: expected P, L, 1, 16-bit grey, or RGB with a palette")
        stored = np.asarray(_opaque(turned, path, "L") if image.mode == "LA" else turned).astype(np.int64) // step
    return label_indices(stored, path, values)


def label_indices(stored: NDArray[np.int64], path: Path, values: Mapping[int, int] | None) -> Labels:
    """Label indices (H, W) uint8 of the values that a mask file holds.

    Args:
        stored: (H, W) whole numbers.
        path: of the mask, for the error text.
        values: label index of those values that are not the index themselves, such as {255: 1}.

    Raises:
        DataError: an index is outside 0..255.
    """
    labels = stored.copy() if values else stored
    for value, label in (values or {}).items():
        labels[stored == value] = label
    if labels.size and not 0 <= labels.min() <= labels.max() <= _HIGHEST_8:
        strange = labels.max() if labels.max() > _HIGHEST_8 else labels.min()
        raise DataError(
            f"mask {path} holds index {strange}: expected 0..255 (0 background, 255 void). If a value stands for "
            f"another, say so: 'data.mask_values={{{strange}: 1}}'"
        )
    return labels.astype(np.uint8)


def align_labels(labels: Labels, image: Path, what: str) -> Labels:
    """Bring a mask into the upright frame of its image.

    A mask of the upright size is taken as it is; one of the stored size is turned as the image is. Where both sizes
    agree (a square image, or one turned by 180 degrees or mirrored) the mask counts as upright.

    Args:
        labels: (H, W) uint8.
        image: the image file.
        what: name of the mask for the error text.

    Raises:
        DataError: the mask has another size than its image, or the image is broken.
    """
    if check_size((labels.shape[0], labels.shape[1]), image, what):
        return labels
    return np.asarray(_turned(Image.fromarray(labels), _stored(image)[1]))


def check_size(size: tuple[int, int], image: Path, what: str) -> bool:
    """Compare the size of a mask with that of its image, by the image's header alone.

    Args:
        size: (H, W) of the mask.
        image: the image file.
        what: name of the mask for the error text.

    Returns:
        True where it is the upright size, false where it is that of the stored pixels, which EXIF turns.

    Raises:
        DataError: it is neither, or the image is broken.
    """
    stored, orientation = _stored(image)
    upright = stored[::-1] if orientation >= _SIDEWAYS else stored
    if size not in (upright, stored):
        raise DataError(
            f"{what} is {size[1]} x {size[0]} pixels, its image {image} is {upright[1]} x {upright[0]}: "
            f"a mask must have the size of its image. `tag2mask doctor` lists every such mask"
        )
    return size == upright


def upright_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image as `read_image` gives it, from its header alone.

    Raises:
        DataError: the file is missing, empty or no image.
    """
    stored, orientation = _stored(path)
    return stored[::-1] if orientation >= _SIDEWAYS else stored


def _stored(path: Path) -> tuple[tuple[int, int], int]:
    """(H, W) as the file holds them, and the EXIF orientation."""
    with _opened(path) as opened:
        tags = opened.getexif()
        size = (opened.height, opened.width)
        if opened.format == "TIFF":  # Pillow gives the upright size
            size = (tags[_TIFF_HEIGHT], tags[_TIFF_WIDTH])
        return size, tags.get(_ORIENTATION, 1)


def levels_range(path: Path) -> tuple[int, int] | None:
    """Lowest and highest value of a photo of 16 bits or more, grey or in colour; None for photos of all other kinds.

    Raises:
        DataError: the file is missing, empty, truncated or no image.
    """
    with _opened(path) as image:
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
    """Say it where a photo of 16 bits holds no value above ``highest``, and that leaves few grey levels."""
    if problem := few_levels(highest):
        LOG.warning("%s %s, nearly black: stretch its values to 0..65535, or store it with 8 bits", path, problem)


def _levels(image: Image.Image) -> tuple[int, int] | None:
    """What `levels_range` gives, of an image that is open and not yet decoded."""
    step = 256 if ";16" in _raw_mode(image) and not image.mode.startswith("I") else 1
    if step == 1 and not image.mode.startswith("I"):
        return None
    values = np.asarray(image)
    if step > 1:  # in colour: Pillow keeps the upper byte of each channel
        values = values[..., : 1 if image.mode == "LA" else 3]
    return (int(values.min()) * step, int(values.max()) * step + step - 1) if values.size else (0, 0)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
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


def _loaded(image: Image.Image) -> int:
    """Decode, and give the EXIF orientation that is left to apply."""
    image.load()  # TIFF is turned while it loads, so the orientation is asked for afterwards
    orientation: int = image.getexif().get(_ORIENTATION, 1)
    return orientation


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image.Image, path: Path) -> Image.Image:
    """An image of any mode as 8-bit RGB: transparency over white, 16 bits divided by 257 and rounded.

    Args:
        image: decoded; a turn noted in its EXIF is not applied. Where it is opaque 8-bit RGB, it is what comes back.
        path: names it in the error.

    Raises:
        DataError: floating-point values, values outside 0..65535, or a mode that Pillow cannot bring to RGB.
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


def _raw_mode(image: Image.Image) -> str:
    """How a PNG or TIFF packs its values, such as ``L;4``; empty once it is decoded, and for other formats."""
    tile = getattr(image, "tile", None)
    args = tile[0].args if image.format in ("PNG", "TIFF") and tile else None
    return str(args[0] if isinstance(args, tuple) else args)


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
