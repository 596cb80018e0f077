"""Pillow's bound on the pixels of an image, lifted where another one, or none, is wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image


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
