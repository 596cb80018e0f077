"""What a TIFF holds, by its header, where Pillow has no mode for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLEFORMAT, SAMPLESPERPIXEL, ImageFileDirectory_v2

from tag2mask.core.files import need_regular

_BIG, _SHORT = 43, 8  # version of a BigTIFF, whose header is twice as long
_MOST_BANDS, _MOST_BITS = 4, 16
_KINDS = {1: "", 2: " with sign", 3: " floating"}


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
        f"{path} is a TIFF of {bands} band{'' if bands == 1 else 's'} of {bits} bits{_KINDS.get(kind, '')}: expected 1 "
        "(grey), 3 (RGB) or 4 (RGB and transparency) of 8 bits, or 1 of 16. Store the bands for red, green and blue, "
        "in 8 bits, as a photo of their own"
    )


def _first(tags: ImageFileDirectory_v2, tag: int) -> int:
    value: Any = tags.get(tag, 1)
    return int(value[0] if isinstance(value, tuple) else value)
