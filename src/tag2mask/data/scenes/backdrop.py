"""What is background in a drawn scene: sky, ground, distractors, and the contexts of some classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tag2mask.data.scenes.model import Box, Prop, Scene
from tag2mask.data.scenes.toys import Colour, Layers, ellipse, grid

Canvas = NDArray[np.float64]

_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((120, 176, 232), (214, 232, 244)),
    ((150, 130, 190), (248, 196, 168)),
    ((168, 178, 190), (222, 224, 222)),
)
_GROUNDS: tuple[Colour, ...] = ((134, 168, 92), (214, 192, 140), (168, 160, 152), (176, 150, 120))


def sky_and_ground(rng: np.random.Generator, scene: Scene) -> Canvas:
    """A graded sky over a textured ground, (H, W, 3) in 0..255."""
    above, below = (np.array(c, np.float64) for c in _SKIES[int(rng.integers(len(_SKIES)))])
    ground = np.array(_GROUNDS[int(rng.integers(len(_GROUNDS)))], np.float64)
    rows = np.arange(scene.height, dtype=np.float64)[:, None, None]
    down = np.minimum(rows / scene.horizon, 1.0)
    near = np.maximum(rows - scene.horizon, 0.0) / (scene.height - scene.horizon)
    canvas = np.where(rows < scene.horizon, above + (below - above) * down, ground * (0.86 + 0.2 * near))
    size = (scene.height, scene.width)
    texture = smooth_noise(rng, size, 12) * 10.0 + smooth_noise(rng, size, 4) * 14.0
    depth = np.where(rows < scene.horizon, 0.35, 1.0)
    return np.asarray(canvas + texture[:, :, None] * depth)


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], cell: int) -> Canvas:
    """Random values in [-1, 1] on a lattice of ``cell`` pixels, linear in between: (H, W)."""
    rows, columns = size[0] // cell + 2, size[1] // cell + 2
    lattice = rng.random((rows, columns)) * 2.0 - 1.0
    y, x = np.arange(size[0]) / cell, np.arange(size[1]) / cell
    top, left = y.astype(np.int64), x.astype(np.int64)
    v, u = (y - top)[:, None], (x - left)[None, :]
    upper = lattice[top][:, left] * (1 - u) + lattice[top][:, left + 1] * u
    lower = lattice[top + 1][:, left] * (1 - u) + lattice[top + 1][:, left + 1] * u
    return np.asarray(upper * (1 - v) + lower * v)


def prop(item: Prop) -> Layers:
    """A distractor or context; masks (box.height, box.width)."""
    u, v = grid(item.box)
    if item.name == "rails":
        return _rails(item.box)
    if item.name == "water":
        return _water(item.box)
    if item.name == "bush":
        shape = ellipse(u, v, (0.3, 0.6), (0.3, 0.4)) | ellipse(u, v, (0.68, 0.55), (0.32, 0.45))
        return [(shape, (84, 128, 66)), (ellipse(u, v, (0.6, 0.36), (0.2, 0.2)), (110, 154, 84))]
    if item.name == "stone":
        return [
            (ellipse(u, v, (0.5, 0.6), (0.5, 0.4)), (146, 142, 138)),
            (ellipse(u, v, (0.4, 0.46), (0.24, 0.16)), (178, 174, 168)),
        ]
    if item.name == "flower":
        return _flower(item.box)
    puffs = ellipse(u, v, (0.28, 0.66), (0.28, 0.32)) | ellipse(u, v, (0.52, 0.46), (0.28, 0.44))
    return [(puffs | ellipse(u, v, (0.76, 0.66), (0.24, 0.3)), (244, 244, 248))]


def _flower(box: Box) -> Layers:
    u, v = grid(box)
    petals = ellipse(u, v, (0.5, 0.14), (0.16, 0.14)) | ellipse(u, v, (0.5, 0.5), (0.16, 0.14))
    petals |= ellipse(u, v, (0.3, 0.32), (0.16, 0.14)) | ellipse(u, v, (0.7, 0.32), (0.16, 0.14))
    stem = np.asarray((np.abs(u - 0.5) < 0.06) & (v > 0.5))
    heart = ellipse(u, v, (0.5, 0.32), (0.12, 0.1))
    return [(petals | stem, (88, 140, 70)), (petals, (236, 236, 214)), (heart, (222, 160, 60))]


def _rails(box: Box) -> Layers:
    """Sleepers at even distances under two steel rails, over the whole width."""
    u, v = grid(box)
    bed = np.broadcast_to(v >= 0.0, (box.height, box.width))
    pitch = max(6, box.height)
    sleepers = np.floor(u * box.width) % pitch < pitch * 0.45
    steel = (np.abs(v - 0.28) < 0.1) | (np.abs(v - 0.72) < 0.1)
    return [(bed, (150, 138, 126)), (sleepers & bed, (96, 68, 50)), (steel & bed, (196, 204, 214))]


def _water(box: Box) -> Layers:
    """A band of water with rows of wave crests, over the whole width."""
    u, v = grid(box)
    whole = np.broadcast_to(v >= 0.0, (box.height, box.width))
    x, y = np.floor(u * box.width), np.floor(v * box.height)
    row = np.floor(y / 5)
    wave = np.abs((x + 5 * row) % 12 - 6)
    crests = np.floor(wave / 2) == y % 5
    return [(whole, (52, 118, 168)), (np.asarray(crests & (row % 2 == 0)), (150, 202, 226))]
