"""Drawn kinds of things on a ground: one beetle on plain paper, and crops and weeds that look alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tag2mask.data.scenes.backdrop import Canvas
from tag2mask.data.scenes.drawing import Drawing, Kind, Point, Size, heading, inside, oval, span, texture, tinted
from tag2mask.data.scenes.layout import Difficulty, between
from tag2mask.data.scenes.toys import LIVERIES, Colour, Mask

Window = tuple[slice, slice]
BEETLES = ("striped", "banded", "dotted", "eyed")
_PAPERS: tuple[Colour, ...] = ((226, 224, 218), (206, 214, 222), (222, 208, 186))
_MARKS: tuple[Colour, ...] = ((48, 34, 30), (232, 196, 60), (176, 44, 40), (240, 240, 236))
_PLANTS: tuple[tuple[int, ...], ...] = (
    (0, 1), (0,), (0, 1), (1,), (0, 1), (), (0, 1), (0,), (0, 1), (1,),
)  # fmt: skip
"""Classes of ten pictures in a row: half have both, one none."""
_TRIES = 30


@dataclass(frozen=True, slots=True)
class BlobsRule:
    """What a difficulty means for beetles."""

    marked: float  # share of the beetle's length, from its tail, that shows its kind
    noise: float  # standard deviation of the pixel noise, in grey levels of 255


@dataclass(frozen=True, slots=True)
class AlikeRule:
    """What a difficulty means for crops and weeds."""

    leaves: tuple[int, int]  # of a crop and of a weed
    slimness: tuple[float, float]  # width of a leaf as a share of its length, likewise
    colours: tuple[Colour, Colour]
    noise: float  # standard deviation of the pixel noise, in grey levels of 255


BLOBS: dict[Difficulty, BlobsRule] = {
    "easy": BlobsRule(1.0, 4),
    "medium": BlobsRule(0.6, 7),
    "hard": BlobsRule(0.3, 12),
}
ALIKE: dict[Difficulty, AlikeRule] = {
    "easy": AlikeRule((4, 8), (0.62, 0.2), ((74, 142, 72), (142, 156, 58)), 5),
    "medium": AlikeRule((4, 7), (0.54, 0.24), ((80, 138, 66), (118, 148, 56)), 8),
    "hard": AlikeRule((5, 7), (0.44, 0.28), ((86, 138, 62), (104, 144, 58)), 12),
}


def lay_out_blobs(rng: np.random.Generator, difficulty: Difficulty, size: Size, number: int) -> Drawing:
    """One beetle on plain paper; only the pattern on its back shows which of four kinds it is."""
    rule, kind = BLOBS[difficulty], number % len(BEETLES)
    length = min(size) * between(rng, 0.5, 0.72)
    half = length / 2, length * between(rng, 0.26, 0.31)
    room = half[0] * 0.92 + half[1] * 0.5 + 2
    centre = between(rng, room, size[0] - room), between(rng, room, size[1] - room)
    towards = heading(rng)
    along, across = oval(size, centre, half, towards)
    back = inside(along, across)
    ahead = centre[0] + towards[0] * half[0] * 0.92, centre[1] + towards[1] * half[0] * 0.92
    head = inside(*oval(size, ahead, (half[1] * 0.5, half[1] * 0.6), towards))
    livery = LIVERIES[int(rng.integers(len(LIVERIES)))]
    marks = _pattern(kind, along, across) & back & (along <= 2 * rule.marked - 1)

    def paint(rng: np.random.Generator) -> Canvas:
        canvas = texture(rng, size, _PAPERS[int(rng.integers(len(_PAPERS)))], ((60, 7), (3, 3)))
        low = oval(size, (centre[0] + 4, centre[1] + 3), (half[0] * 1.04, half[1] * 1.08), towards)
        canvas -= (np.clip(1.6 - 1.2 * (low[0] * low[0] + low[1] * low[1]), 0.0, 1.0) * 34)[:, :, None]
        canvas[head] = (52, 46, 48)
        canvas[back] = livery
        canvas[marks] = _MARKS[kind]
        shade = 1.08 - 0.34 * (along * along + across * across)
        canvas[back] *= shade[back][:, None]
        return canvas

    return Drawing(np.where(back | head, kind + 1, 0).astype(np.uint8), paint, rule.noise)


def lay_out_alike(rng: np.random.Generator, difficulty: Difficulty, size: Size, number: int) -> Drawing:
    """Plants on soil: crops with few broad leaves, weeds with more and slimmer ones of nearly the same green."""
    rule = ALIKE[difficulty]
    labels = np.zeros(size, np.uint8)
    leaves: list[tuple[Window, Mask, Canvas, Colour]] = []
    plants: list[tuple[Point, float]] = []
    for kind in _PLANTS[number % len(_PLANTS)]:
        for _ in range(1 + int(rng.integers(3))):
            plant = _place(rng, size, plants)
            plants.append(plant)
            colour = tinted(rng, rule.colours[kind], 8)
            for direction in _around(rng, rule.leaves[kind]):
                window, leaf, rib = _leaf(size, plant, direction, rule.slimness[kind])
                labels[window][leaf] = kind + 1
                leaves.append((window, leaf, rib, tinted(rng, colour, 6)))

    def paint(rng: np.random.Generator) -> Canvas:
        canvas = texture(rng, size, tinted(rng, (118, 92, 68), 10), ((30, 10), (7, 12), (2, 12)))
        for window, leaf, rib, colour in leaves:
            canvas[window][leaf] = np.asarray(colour) * (0.82 + 0.3 * np.abs(rib[leaf]))[:, None]
        return canvas

    return Drawing(labels, paint, rule.noise)


def _pattern(kind: int, along: Canvas, across: Canvas) -> Mask:
    """Where the back of a beetle of this kind is marked, by the coordinates of its oval."""
    if kind == 0:
        return np.asarray(np.floor((across + 1) * 4.5) % 2 == 1)
    if kind == 1:
        return np.asarray(np.floor((along + 1) * 4) % 2 == 0)
    if kind == 2:
        u, v = ((along + 1) * 3) % 1.0 - 0.5, ((across + 1) * 2) % 1.0 - 0.5
        return np.asarray(u * u + v * v <= 0.11)
    u, v = ((along + 1) * 1.7) % 1.0 - 0.5, np.abs(across) - 0.45
    ring = u * u * 0.35 + v * v
    return np.asarray((ring <= 0.075) & ((ring >= 0.03) | (ring <= 0.008)))


def _place(rng: np.random.Generator, size: Size, plants: list[tuple[Point, float]]) -> tuple[Point, float]:
    """Centre and leaf length of a plant that covers no other one's centre, where thirty tries find such a place."""
    for _ in range(_TRIES):
        length = min(size) * between(rng, 0.14, 0.24)
        centre = between(rng, length, size[0] - length), between(rng, length, size[1] - length)
        apart = [(centre[0] - p[0]) * (centre[0] - p[0]) + (centre[1] - p[1]) * (centre[1] - p[1]) for p, _ in plants]
        if all(
            d >= (0.8 * (length + other)) * (0.8 * (length + other))
            for d, (_, other) in zip(apart, plants, strict=True)
        ):
            break
    return centre, length


def _around(rng: np.random.Generator, count: int) -> list[Point]:
    """Directions spread around a circle, each a little off its place."""
    down, right = heading(rng)
    found = []
    for index in range(count):
        turn = _TURNS[(index * len(_TURNS)) // count]
        y, x = down * turn[1] + right * turn[0], right * turn[1] - down * turn[0]
        y, x = y + between(rng, -0.16, 0.16), x + between(rng, -0.16, 0.16)
        long = math.sqrt(y * y + x * x)
        found.append((y / long, x / long))
    return found


def _leaf(size: Size, plant: tuple[Point, float], direction: Point, slimness: float) -> tuple[Window, Mask, Canvas]:
    """A leaf from the plant's centre in a direction: where it lies, its shape, and how far pixels are from its rib."""
    centre, length = plant
    rows, columns = (span(at, at, length, end) for at, end in zip(centre, size, strict=True))
    top, left = (at + way * length / 2 for at, way in zip(centre, direction, strict=True))
    here = (rows[1] - rows[0], columns[1] - columns[0])
    half = (length / 2, length * slimness / 2)
    along, across = oval(here, (top - rows[0], left - columns[0]), half, direction)
    return (slice(*rows), slice(*columns)), inside(along, across), across


def _turns() -> list[Point]:
    """56 directions around a circle as sine and cosine, nearly even, from the tangent of half the angle."""
    steps = [(2 * t / (1 + t * t), (1 - t * t) / (1 + t * t)) for t in (i / 14 for i in range(14))]
    found = list[Point]()
    sine, cosine = 0.0, 1.0
    for _ in range(4):
        found += [(s * cosine + c * sine, c * cosine - s * sine) for s, c in steps]
        sine, cosine = cosine, -sine
    return found


_TURNS = _turns()
BLOBS_KIND = Kind(BEETLES, lay_out_blobs)
ALIKE_KIND = Kind(("crop", "weed"), lay_out_alike)
