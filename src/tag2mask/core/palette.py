"""Image files: the formats that are opened, VOC's palette, and label images as PNGs that carry a key and a checksum."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tag2mask.core.errors import DamagedError, StageError
from tag2mask.core.files import atomic_path, need_regular, reason

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""What is read, by Pillow's names: PPM stands for PGM and PBM too. A file is what its bytes say, not its ending: Pillow
left to itself would start Ghostscript for an EPS that is named ``photo.jpg``."""


def open_image(path: Path) -> Image.Image:
    """Open an image file of one of `FORMATS` by its header; the only place where files are given to Pillow to read."""
    return Image.open(need_regular(path), formats=FORMATS)


_LOCK = threading.Lock()
_bounds: list[int | None] = []
"""Pillow's own bound on pixels, once for each reader in `own_bound`."""


@contextmanager
def own_bound() -> Iterator[None]:
    """Context in which images of any size are read: photos whose pixels the caller counts, and masks made from them."""
    with _LOCK:
        _bounds.append(_bounds[0] if _bounds else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _LOCK:
            before = _bounds.pop()
            if not _bounds:
                Image.MAX_IMAGE_PIXELS = before


_KEY, _CHECK = "tag2mask-key", "tag2mask-check"
_DEFLATE = 1032
"""Bytes that one byte of deflate, which PNG uses, stands for at most."""


@cache
def voc_palette() -> tuple[int, ...]:
    """The 256 colours of VOC's label images as 768 numbers r, g, b; index 255, ignored, is cream."""
    rest, channel = np.arange(256)[:, None], np.arange(3)
    colours = sum(((rest >> (3 * step + channel)) & 1) << (7 - step) for step in range(3))  # three bits each
    return tuple(np.ravel(colours).tolist())


def colour(index: int) -> tuple[int, int, int]:
    """The (r, g, b) of one label index, 0..255."""
    palette = voc_palette()
    return palette[3 * index], palette[3 * index + 1], palette[3 * index + 2]


def palette_image(labels: NDArray[np.uint8]) -> Image.Image:
    """(H, W) uint8 labels as an image in VOC's colours; its pixels are the indices."""
    image = Image.fromarray(labels, mode="P")
    image.putpalette(voc_palette())
    return image


def write_labels(path: Path, labels: NDArray[np.uint8], key: str = "") -> None:
    """Write (H, W) uint8 labels, 255 ignored, as a palette PNG, whole or not at all.

    A text chunk before the pixels carries the sample key, if there is one, another a checksum of labels and key.
    """
    text = PngInfo()
    if key:
        text.add_text(_KEY, key)
    text.add_text(_CHECK, _checksum(labels, key))
    with atomic_path(path, settled=False) as temporary:  # one of many
        palette_image(labels).save(temporary, format="PNG", pnginfo=text)


def labels_key(path: Path) -> str | None:
    """The sample key of a label image; None where the file is absent, foreign, has none, or is not what was written."""
    try:
        return read_keyed(path)[1]
    except StageError:  # absent, cut off or foreign: all mean "not made yet"
        return None


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read a (H, W) uint8 label image that `write_labels` wrote."""
    return read_keyed(path)[0]


def read_keyed(path: Path) -> tuple[NDArray[np.uint8], str | None]:
    """A (H, W) uint8 label image that `write_labels` wrote, and the sample key that it carries, None without one.

    PNG's own checksums are not looked at by Pillow where the pixels are; files of others, and of older versions of
    tag2mask, have no further one, and pass without.
    """
    try:
        with own_bound(), open_image(path) as image:
            if image.mode != "P":
                raise DamagedError(f"{path} has mode {image.mode}; expected a palette PNG. Remove it and run again")
            if image.height * (1 + image.width // 8) > _DEFLATE * path.stat().st_size:  # even at a bit a pixel
                raise ValueError(f"so few bytes cannot hold the {image.width} x {image.height} pixels that it claims")
            labels: NDArray[np.uint8] = np.array(image)
            key, check = image.info.get(_KEY), image.info.get(_CHECK)
    except DamagedError:
        raise
    except Exception as error:  # Pillow and zlib have many kinds for files that are cut off or foreign
        raise DamagedError(f"cannot read {path}: {reason(error)}. Remove it and run again") from error
    if check is not None and check != _checksum(labels, str(key or "")):
        raise DamagedError(
            f"cannot read {path}: its labels do not fit the checksum in it (labels changed on purpose have to be saved "
            f"without its text '{_CHECK}'). Remove it and run again"
        )
    return labels, key if isinstance(key, str) else None


def _checksum(labels: NDArray[np.uint8], key: str) -> str:
    """CRC-32 of size, labels and key, as 8 hex digits."""
    about = f"{labels.shape[0]} {labels.shape[1]} {key}".encode(errors="replace")
    return f"{zlib.crc32(labels.tobytes(), zlib.crc32(about)):08x}"
