"""What the drawn kinds other than toys are made of: one picture's labels and pixels, strokes, leaves, textures.

Only the four basic operations and square roots, so a picture is the same on every platform.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tag2mask.data.scenes.backdrop import Canvas, smooth_noise
from tag2mask.data.scenes.layout import Difficulty
from tag2mask.data.scenes.toys import Colour, Mask

Size = tuple[int, int]
"""Height and width in pixels."""
Point = tuple[float, float]
"""Row and column in pixels; the centre of the first pixel is (0, 0)."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture.

    Attributes:
        labels: exact ground truth, (H, W) uint8: ``c + 1`` for class column ``c``, 0 for background.
        paint: the canvas (H, W, 3) in 0..255 before light and noise, from the generator that laid the picture out.
        noise: standard deviation of the pixel noise, in grey levels of 255.
    """

    labels: NDArray[np.uint8]
    paint: Callable[[np.random.Generator], Canvas]
    noise: float

    @property
    def tags(self) -> tuple[int, ...]:
        """Class columns that have pixels, ascending."""
        return tuple(int(label) - 1 for label in np.unique(self.labels) if label)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of drawn data.

    Attributes:
        classes: class names; their columns are those of `Drawing.labels`.
        lay_out: a picture of (height, width) with the given number from a generator.
    """

    classes: tuple[str, ...]
    lay_out: Callable[[np.random.Generator, Difficulty, Size, int], Drawing]


def texture(rng: np.random.Generator, size: Size, colour: Colour, grains: Sequence[tuple[int, float]]) -> Canvas:
    """A colour under smooth noise: (H, W, 3); ``grains`` are pairs of the lattice in pixels and the amplitude."""
    canvas = np.empty((*size, 3))
    canvas[:] = colour
    for cell, amplitude in grains:
        canvas += (smooth_noise(rng, size, cell) * amplitude)[:, :, None]
    return canvas


def tinted(rng: np.random.Generator, colour: Colour, by: float) -> Colour:
    """A colour whose channels are moved by up to ``by`` grey levels each."""
    red, green, blue = (round(c + by * (2 * float(rng.random()) - 1)) for c in colour)
    return red, green, blue


def heading(rng: np.random.Generator) -> Point:
    """A random direction of length 1."""
    while True:
        y, x = 2 * float(rng.random()) - 1, 2 * float(rng.random()) - 1
        if 0.01 < (length := y * y + x * x) <= 1:
            return y / math.sqrt(length), x / math.sqrt(length)


def distance(size: Size, points: Sequence[Point], reach: float) -> Canvas:
    """Pixels between each pixel's centre and a polyline, (H, W); at most ``reach``."""
    found = np.full(size, reach)
    for (top, left), (bottom, right) in pairwise(points):
        rows = span(top, bottom, reach, size[0])
        columns = span(left, right, reach, size[1])
        y, x = np.arange(*rows)[:, None] - top, np.arange(*columns)[None, :] - left
        down, across = bottom - top, right - left
        along = np.clip((y * down + x * across) / max(down * down + across * across, 1e-9), 0.0, 1.0)
        dy, dx = y - along * down, x - along * across
        part = found[slice(*rows), slice(*columns)]
        np.minimum(part, np.sqrt(dy * dy + dx * dx), out=part)
    return found


def crooked(rng: np.random.Generator, start: Point, end: Point, bend: float) -> list[Point]:
    """A way from start to end: each piece's middle is moved sideways by up to ``bend`` of its length, five times."""
    points = [start, end]
    for _ in range(5):
        moved = [points[0]]
        for (top, left), (bottom, right) in pairwise(points):
            by = bend * (2 * float(rng.random()) - 1)
            middle = ((top + bottom) / 2 + by * (right - left), (left + right) / 2 - by * (bottom - top))
            moved += [middle, (bottom, right)]
        points = moved
    return points


def oval(size: Size, centre: Point, half: Point, direction: Point) -> tuple[Canvas, Canvas]:
    """Coordinates of an oval: along and across it, (H, W) each; inside where the sum of their squares is at most 1.

    Args:
        size: of the picture.
        centre: of the oval.
        half: half its length and half its width, in pixels.
        direction: in which it is long, of length 1.
    """
    y, x = np.arange(size[0])[:, None] - centre[0], np.arange(size[1])[None, :] - centre[1]
    down, right = direction
    return (y * down + x * right) / half[0], (x * down - y * right) / half[1]


def inside(along: Canvas, across: Canvas) -> Mask:
    """Pixels inside an oval of these coordinates."""
    return np.asarray(along * along + across * across <= 1.0)


def span(first: float, second: float, reach: float, end: int) -> tuple[int, int]:
    """The first row or column within reach of a stretch and the one after the last, inside a picture of ``end``."""
    low, high = min(first, second) - reach, max(first, second) + reach
    start = min(max(math.floor(low), 0), end)
    return start, min(max(math.ceil(high) + 1, start), end)
