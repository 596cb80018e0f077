"""Photos that are read in parts: TIFFs in windows, other files decoded as a whole, arrays, images of a data set.

Whatever a decoder raises for a broken photo names the photo, so that it costs its own mask and no other's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.core.errors import DataError, Tag2MaskError
from tag2mask.core.files import expanded, need_regular, reason
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.forms import rgb_of
from tag2mask.data.images import StoredImage, to_rgb, upright_size, warn_few_levels
from tag2mask.segmentation.predict.tiles import Picture

if TYPE_CHECKING:
    from tifffile import TiffPage


Photo = str | Path | Image.Image | NDArray[Any] | Tensor
"""A file, an image of Pillow's, an array (H, W, 3), (H, W) or (H, W, 1), or a tensor (3, H, W): see `rgb_of`."""
MAX_PIXELS = 200_000_000
"""Pixels that a photo may have unless more are allowed: some 0.8 GB when decoded."""
_TIFF = {".tif", ".tiff"}
_KEPT = 128 << 20
"""Bytes of decoded tiles that are kept for the next window."""
_LARGEST = 64 << 20
"""Bytes of a tile or strip from which on windows save nothing."""
_LOOKED_AT = 16
"""Tiles or strips of a photo of 16 bits whose grey levels are looked at before it is read."""
_GREY, _RGB, _YCBCR = 1, 2, 6
_FORMS = {(_GREY, "uint8", 1), (_GREY, "uint16", 1), (_RGB, "uint8", 3), (_RGB, "uint8", 4), (_YCBCR, "uint8", 3)}
"""What (photometric, type, samples) are read in windows; everything else is for Pillow, whole."""
_CONTIGUOUS, _STRAIGHT_ALPHA = 1, 2
_JPEG, _OTHER_JPEG = 7, {6, 33007, 34892}  # compressions: of today's files, and forms that Pillow is left to


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever is raised inside, while a photo is opened or a part of it decoded, names the photo."""
    try:
        yield
    except Tag2MaskError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} does not fit into memory: make it smaller, or store it as a tiled TIFF") from error
    except Exception as error:  # zlib, struct, tifffile, imagecodecs, Pillow: each codec has kinds of its own
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of a decoder
            raise DataError(f"{path} cannot be read: {reason(error)}") from error
        raise DataError(f"cannot read {path}: {reason(error)}. Copy it again, or store it as PNG") from error


class TiffPhoto:
    """A photo of ``size`` = (H, W) in a TIFF, read in windows from its tiles or strips of ``chunk`` = (h, w)."""

    def __init__(self, path: Path, size: tuple[int, int], chunk: tuple[int, int]) -> None:
        self.path, self.size, self._chunk = path, size, chunk
        self._kept: dict[int, NDArray[Any]] = {}

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the photo as (h, w, 3) RGB; transparency, grey and 16 bits as `tag2mask.data.images` reads them."""
        with reading(self.path):
            part = self._part(top, left, bottom, right)
            if part.shape[:2] != (bottom - top, right - left):
                raise ValueError("its tiles are not of the size that it says")
            pixels = np.ascontiguousarray(part[..., 0] if part.shape[2] == 1 else part)
            return np.array(to_rgb(Image.fromarray(pixels), self.path))

    def _part(self, top: int, left: int, bottom: int, right: int) -> NDArray[Any]:
        """The part as stored, (h, w, samples)."""
        height, width = self._chunk
        across = -(-self.size[1] // width)
        rows, columns = range(top // height, -(-bottom // height)), range(left // width, -(-right // width))
        self._read([r * across + c for r in rows for c in columns])
        joined = [np.concatenate([self._kept[r * across + c] for c in columns], axis=1) for r in rows]
        part: NDArray[Any] = np.concatenate(joined)[
            top - rows[0] * height : bottom - rows[0] * height, left - columns[0] * width : right - columns[0] * width
        ]
        return part

    def _read(self, needed: Sequence[int]) -> None:
        """Have the decoded tiles of these numbers among those kept, and forget the ones used longest ago."""
        from tifffile import TiffFile

        found = {i: self._kept.pop(i) for i in needed if i in self._kept}
        with TiffFile(self.path) as file:
            found |= {i: _decoded(file.pages.first, i) for i in needed if i not in found}
        self._kept |= found
        size = sum(tile.nbytes for tile in self._kept.values())
        for i in list(self._kept)[: -len(found)]:
            if size <= _KEPT:
                break
            size -= self._kept.pop(i).nbytes


def open_tiff(path: Path) -> TiffPhoto | None:
    """A TIFF to be read in windows, or None where it must be read whole (or cannot be read at all)."""
    if util.find_spec("tifffile") is None:
        return None
    from tifffile import TiffFile

    # what it finds wrong is reported by us, or by Pillow
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        with TiffFile(need_regular(path)) as file:
            page: TiffPage = file.pages.first
            chunk = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
            chunk = (min(chunk[0], page.imagelength), chunk[1])
            if not _readable(page) or min(chunk) < 1 or chunk[0] * chunk[1] * page.samplesperpixel > _LARGEST:
                return None
            _decoded(page, 0)
            if str(page.dtype) == "uint16":
                _look_at_levels(page, path)
    except Exception as error:  # tifffile and each codec have kinds of their own; Pillow says what is wrong, if it is
        LOG.info("%s is read as a whole: %s", path, reason(error))
        return None
    return TiffPhoto(path, (page.imagelength, page.imagewidth), chunk)


def _look_at_levels(page: TiffPage, path: Path) -> None:
    """Warn where tiles or strips from all over a photo of 16 bits use few of its grey levels."""
    places = {int(i) for i in np.linspace(0, len(page.dataoffsets) - 1, _LOOKED_AT)}
    warn_few_levels(path, max(int(_decoded(page, i).max(initial=0)) for i in places))


def _readable(page: TiffPage) -> bool:
    """Whether a page is of a form that is read in windows as Pillow would read it whole."""
    upright = "Orientation" not in page.tags or page.tags["Orientation"].value == 1
    straight = page.samplesperpixel < len("RGBA") or tuple(page.extrasamples) == (_STRAIGHT_ALPHA,)
    known = (int(page.photometric), str(page.dtype), page.samplesperpixel) in _FORMS
    if page.photometric == _YCBCR:
        known = known and page.compression == _JPEG  # its decoder gives RGB
    return (
        known and upright and straight and page.planarconfig == _CONTIGUOUS and page.compression not in _OTHER_JPEG
        and page.imagedepth == 1
    )  # fmt: skip


def _decoded(page: Any, number: int) -> NDArray[Any]:
    """One tile or strip, (h, w, samples), cut at the photo's edge; zeros where the file leaves it out."""
    count = page.databytecounts[number]
    page.parent.filehandle.seek(page.dataoffsets[number])
    data = page.parent.filehandle.read(count) if count else None
    if data is not None and len(data) < count:
        raise ValueError("the file is cut off")
    decoded, _, shape = page.decode(data, number, jpegtables=page.jpegtables)
    tile: NDArray[Any] = np.zeros(shape[1:], page.dtype) if decoded is None else decoded[0]
    return tile


class WholePhoto:
    """A photo that is decoded as a whole when it is first looked at, and turned window by window.

    ``size`` = (H, W) is that of the upright photo, as its header says.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.path, self.size = path, size

    @cached_property
    def image(self) -> StoredImage:
        """The photo as stored: upright and in RGB it would be a second large photo in memory."""
        return StoredImage(self.path)

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the photo, see `Picture`."""
        with reading(self.path):
            return self.image.part(top, left, bottom, right)


class ArrayPhoto:
    """A photo that is in memory, (H, W, 3) uint8 RGB."""

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.image, self.size = image, (int(image.shape[0]), int(image.shape[1]))

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the photo, see `Picture`."""
        return self.image[top:bottom, left:right]


class DatasetPhoto:
    """The image of a sample before it is brought to the working size, decoded when it is first looked at."""

    def __init__(self, dataset: Dataset, sample: Sample) -> None:
        self._dataset, self._sample = dataset, sample
        height, width = self.pixels.shape[:2] if sample.image is None else upright_size(sample.image)
        self.size = height, width

    @cached_property
    def pixels(self) -> NDArray[np.uint8]:
        """The photo, (H, W, 3) RGB; a drawn one at its working size, as it has no other."""
        draw = self._dataset.image if self._sample.image is None else self._dataset.photo
        return np.array(draw(self._sample))

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """A part of the photo, see `Picture`."""
        return self.pixels[top:bottom, left:right]


def open_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Open a photo by its header alone; inside `own_bound`.

    A TIFF in tiles or strips of ordinary modes is read in windows, where tifffile (extra ``geo``) is installed and can
    decode it.
    """
    with reading(path):
        windows = open_tiff(path) if path.suffix.lower() in _TIFF else None
        photo = windows or WholePhoto(path, upright_size(path))
        height, width = photo.size
        if height * width > max_pixels:
            raise DataError(
                f"{path} is {width} x {height}, {height * width} pixels, more than the {max_pixels} allowed: if that "
                f"is intended, allow it with --max-pixels {height * width}"
            )
        return photo


def picture_of(photo: Photo, max_pixels: int) -> Picture:
    """The picture of a photo in any form; a file is opened by its header alone."""
    if isinstance(photo, str | Path):
        return open_photo(expanded(photo), max_pixels)
    return ArrayPhoto(rgb_of(photo))
