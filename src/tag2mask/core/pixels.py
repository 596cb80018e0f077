"""Opening image files: of the formats that are read and no others, and of how many pixels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from tag2mask.core.regular import need_regular

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
"""What is read, by Pillow's names: PPM stands for PGM and PBM too. A file is what its bytes say, not its ending: Pillow
left to itself would start Ghostscript for an EPS that is named ``photo.jpg``."""


def open_image(path: Path) -> Image.Image:
    """Open an image file of one of `FORMATS` by its header; the only place where files are given to Pillow to read.

    Raises:
        OSError: it cannot be read, is no regular file, or of none of these formats (`PIL.UnidentifiedImageError`). A
            damaged file may bring about anything else that Pillow's plugins raise, here and when it is decoded.
    """
    return Image.open(need_regular(path), formats=FORMATS)


class _Bound:
    """Pillow's own bound on pixels, lifted while anyone reads in `own_bound`."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    Image.MAX_IMAGE_PIXELS = self._before


own_bound = _Bound().lifted
"""Context in which images of any size are read: photos whose pixels the caller counts, and masks made from them."""
