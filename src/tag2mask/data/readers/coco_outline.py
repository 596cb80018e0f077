"""Outlines of COCO's annotations as masks; looked over first, as pycocotools writes where wrong numbers lead it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.data.readers.coco_json import Annotation

_POINTS = 3  # pycocotools takes four numbers for a box
_FARTHEST = 1e6
"""Largest coordinate in pixels: pycocotools counts in fifths of a pixel, with 32 bits."""
_LONGEST = 4e6
"""Largest length of an outline in pixels: pycocotools holds each fifth of a pixel of it, 80 bytes a pixel."""

Points = NDArray[np.float64]
"""(n, 2) corners x, y of a polygon, pixels."""


@dataclass(frozen=True, slots=True)
class Outline:
    """The pixels of one annotation in pycocotools' run lengths; None where nothing encloses a pixel."""

    height: int
    width: int
    runs: Any

    @property
    def area(self) -> int:
        """Number of pixels."""
        from pycocotools import mask as coco_mask

        return 0 if self.runs is None else int(coco_mask.area(self.runs))

    def mask(self) -> NDArray[np.bool_]:
        """(H, W), true in the pixels of the annotation."""
        from pycocotools import mask as coco_mask

        if self.runs is None:
            return np.zeros((self.height, self.width), dtype=np.bool_)
        decoded: NDArray[np.uint8] = coco_mask.decode(self.runs)
        return decoded.astype(np.bool_)


def outline_of(annotation: Annotation, height: int, width: int, source: Path) -> Outline:
    """The pixels of an annotation, by pycocotools' rasteriser; polygons without area are left out, see `flat_polygons`.

    The size of the image file is to be compared before with what the annotations say; the error names their ``source``.
    """
    from pycocotools import mask as coco_mask

    outline = annotation.outline
    if isinstance(outline, list) and outline and all(_is_polygon(p) for p in outline):
        polygons = [_points(p) for p in outline]
        wrong = next((w for p in polygons if (w := _wrong(p))), None)
        if wrong is None:
            whole = [p.ravel().tolist() for p in polygons if _flat(p) is None]
            return Outline(
                height, width, coco_mask.merge(coco_mask.frPyObjects(whole, height, width)) if whole else None
            )
    else:
        wrong = _wrong_runs(outline, height, width)
        if wrong is None:
            listed = isinstance(outline["counts"], list)
            runs = coco_mask.frPyObjects(outline, height, width) if listed else {**outline, "size": [height, width]}
            return Outline(height, width, runs)
    raise DataError(
        f"{source}: annotation {annotation.id} has no valid outline for {width} x {height} pixels: {wrong}; "
        f"expected polygons [x, y, x, y, …] within the image, or a run-length code of that size. Correct it, or take "
        f"the annotation out"
    )


def flat_polygons(annotation: Annotation) -> tuple[str, ...]:
    """Why polygons of an annotation have no area, in words; empty where all have one, or where it has no polygons."""
    outline = annotation.outline
    if not isinstance(outline, list):
        return ()
    return tuple(why for p in outline if _is_polygon(p) and (why := _flat(_points(p))))


def _is_polygon(value: Any) -> bool:
    return isinstance(value, array) and len(value) % 2 == 0


def _points(polygon: Any) -> Points:
    return np.array(polygon, dtype=np.float64).reshape(-1, 2)


def _wrong(points: Points) -> str | None:
    """What keeps a polygon from being drawn, in words."""
    if not np.isfinite(points).all():
        return "a coordinate is NaN or infinite"
    if points.size and (largest := float(points.flat[np.abs(points).argmax()])) and abs(largest) > _FARTHEST:
        return f"the coordinate {largest:g} lies far out of the image"
    length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum() if points.size else 0
    return f"a polygon is {length:g} pixels long" if length > _LONGEST else None


def _flat(points: Points) -> str | None:
    """Why a polygon has no area, in words."""
    if _wrong(points):
        return None
    if len(points) < _POINTS:
        return f"a polygon of {len(points)} points, without area"
    away = points - points[0]
    farthest = away[np.abs(away).sum(axis=1).argmax()]
    beside = away[:, 0] * farthest[1] - away[:, 1] * farthest[0]
    return None if beside.any() else f"a polygon without area, whose {len(points)} points lie on one line"


def _wrong_runs(value: Any, height: int, width: int) -> str | None:
    """What keeps a run-length code from being read, in words."""
    if not isinstance(value, dict):
        return "it has no outline" if not value else "its polygons are not lists of an even count of numbers"
    size, counts = value.get("size"), value.get("counts")
    if size != [height, width]:
        return "its run-length code is of another size"
    if isinstance(counts, str):
        counts = _runs(counts)
    if not isinstance(counts, list) or not all(type(c) is int and c >= 0 for c in counts):
        return "the counts of its run-length code are damaged"
    return None if sum(counts) == height * width else "the counts of its run-length code do not sum up to that size"


def _runs(text: str) -> list[int] | None:
    """The counts of COCO's compressed code; None where it is damaged.

    A character holds five bits and whether more follow; from the fourth count on, what is held is the difference to
    the count before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for bits in (ord(character) - 48 for character in text):
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return None if shift else counts
