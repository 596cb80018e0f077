"""What toys look like: heads that show the class, a body and wheels that all classes share.

Shapes are tests on pixel centres in the unit square of a part (u to the right, v down) and need only the four basic
operations, so a picture is the same on every platform.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tag2mask.data.scenes.model import Box

Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]
Colour = tuple[int, int, int]
Layers = list[tuple[Mask, Colour]]
"""Masks with their colours, painted in order; the first is the whole shape and clips the others."""

DARK, WHITE = (38, 34, 44), (246, 244, 238)
LIVERIES: tuple[Colour, ...] = ((186, 140, 92), (96, 148, 152), (122, 126, 154), (196, 134, 128), (206, 184, 140))
ATTACH = (0.74, 0.5, 0.8, 0.8, 0.74, 0.5)
"""Where along the body each class's head stands, as a share of the body's width."""


def grid(box: Box, mirrored: bool = False) -> tuple[Grid, Grid]:
    """Pixel centres of a part in its unit square: u and v, each broadcastable to (height, width)."""
    u = (np.arange(box.width) + 0.5)[None, :] / box.width
    v = (np.arange(box.height) + 0.5)[:, None] / box.height
    return (1.0 - u if mirrored else u), v


def ellipse(u: Grid, v: Grid, centre: tuple[float, float], radius: tuple[float, float]) -> Mask:
    """Pixel centres inside an ellipse with the given centre and half axes, all (u, v)."""
    x, y = (u - centre[0]) / radius[0], (v - centre[1]) / radius[1]
    return np.asarray(x * x + y * y <= 1.0)


def block(u: Grid, v: Grid, left: float, top: float, right: float, bottom: float) -> Mask:
    """Pixel centres inside an upright rectangle."""
    return np.asarray((u >= left) & (u < right) & (v >= top) & (v < bottom))


def triangle(u: Grid, v: Grid, apex: tuple[float, float], left: float, right: float, base: float) -> Mask:
    """Pixel centres inside a triangle with its apex above a level base."""
    down = (v - apex[1]) / (base - apex[1])
    inside = (u >= apex[0] + (left - apex[0]) * down) & (u <= apex[0] + (right - apex[0]) * down)
    return np.asarray(inside & (down >= 0) & (down <= 1))


def _stripes(along: Grid, count: int) -> Mask:
    return np.asarray(np.floor(along * count) % 2 == 1)


def _train(u: Grid, v: Grid) -> Layers:
    chimney = block(u, v, 0.62, 0.0, 0.86, 0.3)
    cab = block(u, v, 0.0, 0.26, 1.0, 1.0)
    windows = block(u, v, 0.12, 0.42, 0.44, 0.7) | block(u, v, 0.56, 0.42, 0.88, 0.7)
    return [
        (chimney | cab, (206, 40, 44)),
        (block(u, v, 0.0, 0.26, 1.0, 0.36) | block(u, v, 0.62, 0.0, 0.86, 0.1), DARK),
        (windows, (255, 226, 96)),
        (block(u, v, 0.0, 0.84, 1.0, 0.92), (255, 226, 96)),
    ]


def _boat(u: Grid, v: Grid) -> Layers:
    sail = triangle(u, v, (0.45, 0.0), 0.0, 1.0, 0.9)
    mast = block(u, v, 0.41, 0.05, 0.5, 1.0)
    return [
        (sail | mast, WHITE),
        (sail & _stripes(np.broadcast_to(v, sail.shape), 7), (36, 84, 190)),
        (mast, (92, 62, 44)),
    ]


def _cat(u: Grid, v: Grid) -> Layers:
    face = ellipse(u, v, (0.5, 0.6), (0.5, 0.4))
    ears = triangle(u, v, (0.12, 0.0), 0.03, 0.44, 0.5) | triangle(u, v, (0.88, 0.0), 0.56, 0.97, 0.5)
    eyes = ellipse(u, v, (0.3, 0.56), (0.1, 0.12)) | ellipse(u, v, (0.7, 0.56), (0.1, 0.12))
    pupils = ellipse(u, v, (0.3, 0.56), (0.04, 0.1)) | ellipse(u, v, (0.7, 0.56), (0.04, 0.1))
    return [
        (face | ears, (238, 142, 44)),
        ((v < 0.42) & _stripes(np.broadcast_to(u, face.shape), 9), (128, 66, 24)),
        (eyes, (190, 232, 96)),
        (pupils, DARK),
        (ellipse(u, v, (0.5, 0.78), (0.09, 0.06)), (240, 130, 150)),
    ]


def _bird(u: Grid, v: Grid) -> Layers:
    head = ellipse(u, v, (0.42, 0.58), (0.42, 0.42))
    beak = (u >= 0.7) & (np.abs(v - 0.6) <= 0.24 * (1.0 - u) / 0.3)
    crest = triangle(u, v, (0.2, 0.0), 0.1, 0.46, 0.4) | triangle(u, v, (0.44, 0.0), 0.3, 0.6, 0.4)
    return [
        (head | beak | crest, (120, 60, 176)),
        (crest & ~head, (232, 70, 150)),
        (beak & ~head, (255, 176, 40)),
        (ellipse(u, v, (0.3, 0.76), (0.26, 0.2)), (236, 214, 250)),
        (ellipse(u, v, (0.56, 0.48), (0.12, 0.12)), WHITE),
        (ellipse(u, v, (0.6, 0.48), (0.06, 0.06)), DARK),
    ]


def _frog(u: Grid, v: Grid) -> Layers:
    face = ellipse(u, v, (0.5, 0.64), (0.5, 0.36))
    bumps = ellipse(u, v, (0.24, 0.26), (0.2, 0.24)) | ellipse(u, v, (0.76, 0.26), (0.2, 0.24))
    whites = ellipse(u, v, (0.24, 0.24), (0.12, 0.14)) | ellipse(u, v, (0.76, 0.24), (0.12, 0.14))
    pupils = ellipse(u, v, (0.26, 0.24), (0.06, 0.09)) | ellipse(u, v, (0.78, 0.24), (0.06, 0.09))
    spots = ellipse(u, v, (0.5, 0.46), (0.09, 0.07)) | ellipse(u, v, (0.14, 0.58), (0.07, 0.07))
    return [
        (face | bumps, (70, 176, 60)),
        (spots | ellipse(u, v, (0.86, 0.58), (0.07, 0.07)), (24, 104, 44)),
        (whites, WHITE),
        (pupils, DARK),
        (ellipse(u, v, (0.5, 0.78), (0.3, 0.09)), (224, 92, 88)),
    ]


def _robot(u: Grid, v: Grid) -> Layers:
    case = block(u, v, 0.04, 0.24, 0.96, 1.0)
    antenna = block(u, v, 0.46, 0.06, 0.54, 0.3) | ellipse(u, v, (0.5, 0.08), (0.1, 0.08))
    eyes = ellipse(u, v, (0.3, 0.5), (0.13, 0.13)) | ellipse(u, v, (0.7, 0.5), (0.13, 0.13))
    mouth = block(u, v, 0.22, 0.76, 0.78, 0.9)
    teeth = mouth & _stripes(np.broadcast_to(u, case.shape), 12)
    return [
        (case | antenna, (60, 206, 214)),
        (block(u, v, 0.04, 0.24, 0.96, 0.32) | antenna, (28, 110, 128)),
        (eyes, DARK),
        (ellipse(u, v, (0.3, 0.5), (0.06, 0.06)) | ellipse(u, v, (0.7, 0.5), (0.06, 0.06)), (255, 80, 70)),
        (mouth, DARK),
        (teeth, WHITE),
    ]


_HEADS: tuple[Callable[[Grid, Grid], Layers], ...] = (_train, _boat, _cat, _bird, _frog, _robot)


def head(kind: int, box: Box, mirrored: bool) -> Layers:
    """The head of class column ``kind``: the part that shows the class; masks (box.height, box.width)."""
    return _HEADS[kind](*grid(box, mirrored))


def body(box: Box, livery: int) -> Layers:
    """The body all classes share, in one of `LIVERIES` (``livery`` is taken modulo their number)."""
    u, v = grid(box)
    x, y = np.abs(u - 0.5) * box.width / box.height, np.abs(v - 0.5)
    far = box.width / box.height / 2 - 0.22
    dx, dy = np.maximum(x - far, 0.0), np.maximum(y - 0.28, 0.0)
    shape = np.asarray(dx * dx + dy * dy <= 0.22 * 0.22)
    colour = LIVERIES[livery % len(LIVERIES)]
    lines = np.broadcast_to((np.abs(v - 0.36) < 0.045) | (np.abs(v - 0.68) < 0.045), shape.shape)
    pegs = ellipse(u, v, (0.12, 0.52), (0.035, 0.06)) | ellipse(u, v, (0.88, 0.52), (0.035, 0.06))
    dark = (colour[0] * 7 // 10, colour[1] * 7 // 10, colour[2] * 7 // 10)
    return [(shape, colour), (lines, dark), (pegs, dark)]


def wheel(box: Box) -> Layers:
    """One of the two wheels all classes share."""
    u, v = grid(box)
    return [
        (ellipse(u, v, (0.5, 0.5), (0.5, 0.5)), (58, 50, 50)),
        (ellipse(u, v, (0.5, 0.5), (0.22, 0.22)), (196, 178, 150)),
    ]


@cache
def fill(kind: int) -> float:
    """The share of its square that the head of class column ``kind`` covers, in (0, 1)."""
    return float(np.count_nonzero(head(kind, Box(0, 0, 64, 64), False)[0][0])) / 64**2
