"""A drawn kind without background: each pixel is forest, field or water, as seen from above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.data.scenes.backdrop import Canvas, smooth_noise
from tag2mask.data.scenes.drawing import Drawing, Kind, Size, heading, texture, tinted
from tag2mask.data.scenes.layout import Difficulty, between
from tag2mask.data.scenes.toys import Colour

_WITH: tuple[tuple[int, ...], ...] = ((0,), (0, 1), (1, 2), (1,), (0, 1, 2), (0, 2), (2,), (0, 1, 2))
"""Classes of eight pictures in a row: three are of one class everywhere, and each class is missing in three."""
_COLOURS: tuple[Colour, ...] = ((58, 92, 54), (168, 150, 92), (62, 98, 128))
_MEAN = tuple(sum(colour[i] for colour in _COLOURS) / len(_COLOURS) for i in range(3))
_SMALLEST = 0.08
"""Of the picture, that each of its classes has at least, where twenty tries find such a partition."""
_TRIES = 20


@dataclass(frozen=True, slots=True)
class PatchworkRule:
    """What a difficulty means."""

    patches: int  # largest number in a picture
    likeness: float  # how far the classes' colours are moved to their mean, in [0, 1]; their textures stay
    noise: float  # standard deviation of the pixel noise, in grey levels of 255


RULES: dict[Difficulty, PatchworkRule] = {
    "easy": PatchworkRule(4, 0.0, 5),
    "medium": PatchworkRule(6, 0.3, 8),
    "hard": PatchworkRule(10, 0.6, 12),
}


def lay_out(rng: np.random.Generator, difficulty: Difficulty, size: Size, number: int) -> Drawing:
    """Patches with crooked borders, as many classes as the number says; no pixel is background."""
    rule, kinds = RULES[difficulty], _WITH[number % len(_WITH)]
    for _ in range(_TRIES):
        labels = _patches(rng, size, kinds, rule.patches)
        shares = [np.count_nonzero(labels == kind + 1) / labels.size for kind in kinds]
        if min(shares) >= _SMALLEST:
            break

    def paint(rng: np.random.Generator) -> Canvas:
        canvas = np.zeros((*size, 3))
        for kind in kinds:
            mixed = (round(c + (m - c) * rule.likeness) for c, m in zip(_COLOURS[kind], _MEAN, strict=True))
            red, green, blue = mixed
            there = labels == kind + 1
            canvas[there] = _TEXTURES[kind](rng, size, tinted(rng, (red, green, blue), 8))[there]
        return canvas

    return Drawing(labels, paint, rule.noise)


def _patches(rng: np.random.Generator, size: Size, kinds: tuple[int, ...], most: int) -> NDArray[np.uint8]:
    """Each pixel's class is that of the nearest of some points, seen through a bent glass."""
    height, width = size
    count = len(kinds) if len(kinds) == 1 else len(kinds) + int(rng.integers(max(most - len(kinds), 0) + 1))
    y = np.arange(height)[:, None] + smooth_noise(rng, size, 20) * 9 + smooth_noise(rng, size, 6) * 2
    x = np.arange(width)[None, :] + smooth_noise(rng, size, 20) * 9 + smooth_noise(rng, size, 6) * 2
    nearest = np.full(size, np.inf)
    labels = np.zeros(size, np.uint8)
    for index in range(count):
        dy, dx = y - between(rng, 0, height), x - between(rng, 0, width)
        far = dy * dy + dx * dx
        labels[far < nearest] = kinds[index % len(kinds)] + 1
        nearest = np.minimum(nearest, far)
    return labels


def _forest(rng: np.random.Generator, size: Size, colour: Colour) -> Canvas:
    """Crowns of a few pixels, dark between them."""
    canvas = texture(rng, size, colour, ((26, 8),))
    crowns = smooth_noise(rng, size, 5)
    return np.asarray(canvas + (np.abs(crowns) * 52 - 22)[:, :, None])


def _field(rng: np.random.Generator, size: Size, colour: Colour) -> Canvas:
    """Furrows in one direction."""
    down, right = heading(rng)
    across = np.arange(size[0])[:, None] * down + np.arange(size[1])[None, :] * right
    furrows = np.abs((across / between(rng, 5, 8)) % 1.0 - 0.5) * 4 - 1
    return np.asarray(texture(rng, size, colour, ((30, 8), (4, 5))) + (furrows * 14)[:, :, None])


def _water(rng: np.random.Generator, size: Size, colour: Colour) -> Canvas:
    """Almost smooth."""
    return texture(rng, size, colour, ((36, 9), (9, 4)))


_TEXTURES: tuple[Callable[[np.random.Generator, Size, Colour], Canvas], ...] = (_forest, _field, _water)
KIND = Kind(("forest", "field", "water"), lay_out)
