"""Drawn kinds whose things are far smaller than the picture: thin lines, and tiny defects on a woven texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tag2mask.data.scenes.backdrop import Canvas, smooth_noise
from tag2mask.data.scenes.drawing import Drawing, Kind, Point, Size, crooked, distance, heading, inside, oval, texture
from tag2mask.data.scenes.layout import Difficulty, between

_WITH: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (), (0, 1), (0,), (1,), ())
"""Defects of eight pictures in a row: three have none."""


@dataclass(frozen=True, slots=True)
class LinesRule:
    """What a difficulty means for lines."""

    width: float  # of a line, in pixels
    contrast: float  # how much darker than the ground it is, in grey levels of 255
    stains: int  # largest number of dark stains, which are not the class
    noise: float  # standard deviation of the pixel noise, in grey levels


@dataclass(frozen=True, slots=True)
class DefectsRule:
    """What a difficulty means for defects."""

    size: float  # of a defect, as a share of the picture's long side
    contrast: float  # between it and the weave, in grey levels of 255
    weave: float  # how far the threads of the weave are from their mean, in grey levels
    noise: float  # standard deviation of the pixel noise, in grey levels


LINES: dict[Difficulty, LinesRule] = {
    "easy": LinesRule(3.0, 70, 2, 5),
    "medium": LinesRule(2.2, 52, 4, 8),
    "hard": LinesRule(1.6, 38, 8, 12),
}
DEFECTS: dict[Difficulty, DefectsRule] = {
    "easy": DefectsRule(0.09, 90, 6, 5),
    "medium": DefectsRule(0.06, 65, 10, 8),
    "hard": DefectsRule(0.04, 45, 14, 12),
}


def lay_out_lines(rng: np.random.Generator, difficulty: Difficulty, size: Size, number: int) -> Drawing:
    """Asphalt with a crack or two in every picture of an even number, and none in the others."""
    rule = LINES[difficulty]
    far = np.full(size, 4.0)
    for _ in range(0 if number % 2 else 1 + int(rng.integers(2))):
        far = np.minimum(far, distance(size, _crack(rng, size), 4.0))
    cracked = far <= rule.width / 2

    def paint(rng: np.random.Generator) -> Canvas:
        grey = round(between(rng, 118, 158))
        canvas = texture(rng, size, (grey, grey - 2, grey - 6), ((24, 8), (6, 8), (2, 10)))
        for _ in range(int(rng.integers(rule.stains + 1))):
            canvas -= _stain(rng, size)[:, :, None]
        if int(rng.integers(2)):  # a light seam, straight and in half of all pictures: no crack either
            ends = (0.0, between(rng, 0, size[1])), (float(size[0]), between(rng, 0, size[1]))
            canvas += (np.clip(2.5 - distance(size, ends, 4.0), 0.0, 1.0) * 26)[:, :, None]
        dark = np.clip(rule.width / 2 + 0.5 - far, 0.0, 1.0) * rule.contrast
        return np.asarray(canvas - dark[:, :, None] * (0.85 + 0.3 * rng.random()))

    return Drawing(cracked.astype(np.uint8), paint, rule.noise)


def lay_out_defects(rng: np.random.Generator, difficulty: Difficulty, size: Size, number: int) -> Drawing:
    """A woven texture; five of eight pictures have one to three holes, or scratches, or both."""
    rule, long = DEFECTS[difficulty], max(size)
    labels, shade = np.zeros(size, np.uint8), np.zeros(size)
    for kind in _WITH[number % len(_WITH)]:
        for _ in range(1 + int(rng.integers(3))):
            extent = long * rule.size * between(rng, 0.8, 1.2)
            centre = between(rng, 0.1, 0.9) * size[0], between(rng, 0.1, 0.9) * size[1]
            if kind == 0:
                along, across = oval(size, centre, (extent / 2, extent / 2.6), heading(rng))
                shape, depth = inside(along, across), -rule.contrast
            else:
                down, right = heading(rng)
                reach = extent * 0.9
                ends = [(centre[0] - down * reach, centre[1] - right * reach)]
                ends.append((centre[0] + down * reach, centre[1] + right * reach))
                shape, depth = distance(size, crooked(rng, ends[0], ends[1], 0.12), 4.0) <= 1.3, rule.contrast
            labels[shape], shade[shape] = kind + 1, depth

    def paint(rng: np.random.Generator) -> Canvas:
        canvas = texture(rng, size, (128, 120, 140), ((40, 14), (10, 6)))
        y, x = np.arange(size[0])[:, None], np.arange(size[1])[None, :]
        over = ((y // 3 + x // 3) % 2) * 2.0 - 1.0
        ridge = 1.0 - np.abs(np.where(over > 0, y % 3, x % 3) - 1.0)
        canvas += (over * rule.weave + ridge * rule.weave)[:, :, None]
        canvas += (smooth_noise(rng, size, 3) * rule.weave)[:, :, None]
        return np.asarray(canvas + shade[:, :, None])

    return Drawing(labels, paint, rule.noise)


def _crack(rng: np.random.Generator, size: Size) -> list[Point]:
    """A crooked way from one side to the opposite one, or the first part of it, at least half."""
    height, width = size
    if int(rng.integers(2)):
        start, end = (between(rng, 0, height), -2.0), (between(rng, 0, height), width + 1.0)
    else:
        start, end = (-2.0, between(rng, 0, width)), (height + 1.0, between(rng, 0, width))
    points = crooked(rng, start, end, 0.28)
    return points[: len(points) // 2 + int(rng.integers(len(points)))]


def _stain(rng: np.random.Generator, size: Size) -> Canvas:
    """A dark patch with a soft rim, far wider than a crack, (H, W) in grey levels."""
    long = max(size)
    half = long * between(rng, 0.05, 0.14), long * between(rng, 0.04, 0.08)
    centre = between(rng, 0, size[0]), between(rng, 0, size[1])
    along, across = oval(size, centre, half, heading(rng))
    return np.asarray(np.clip(1.4 - along * along - across * across, 0.0, 1.0) * between(rng, 12, 34))


LINES_KIND = Kind(("crack",), lay_out_lines)
DEFECTS_KIND = Kind(("hole", "scratch"), lay_out_defects)
