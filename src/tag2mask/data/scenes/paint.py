"""From a scene to pixels: the picture with its noise, and the exact ground truth from the same shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tag2mask.data.scenes import backdrop, toys
from tag2mask.data.scenes.model import Box, Scene, Toy
from tag2mask.data.scenes.toys import Layers, Mask

_OUTLINE = 0.55


def picture(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The scene as (H, W, 3) uint8 RGB; sky, ground and noise come from ``rng``."""
    canvas = backdrop.sky_and_ground(rng, scene)
    for item in scene.props:
        _paint(canvas, item.box, backdrop.prop(item), outline=False)
    for toy in scene.toys:
        for box, layers in _parts(toy):
            _paint(canvas, box, layers, outline=True)
    return exposed(canvas, scene.noise, rng)


def exposed(canvas: NDArray[np.float64], noise: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A canvas (H, W, 3) in 0..255 under a random light, with noise of this standard deviation in grey levels."""
    light = 0.9 + 0.2 * float(rng.random())
    canvas = canvas * light + _noise(rng, canvas.shape) * noise
    return np.rint(np.clip(canvas, 0.0, 255.0)).astype(np.uint8)


def truth(scene: Scene) -> NDArray[np.uint8]:
    """The label image, (H, W) uint8: 0 background, ``c + 1`` for class column ``c``."""
    labels = np.zeros((scene.height, scene.width), np.uint8)
    for toy in scene.toys:
        for box, layers in _parts(toy):
            _window(labels, box)[layers[0][0]] = toy.kind + 1
    return labels


def heads(scene: Scene) -> NDArray[np.bool_]:
    """Where the discriminative parts are visible, (H, W)."""
    found = np.zeros((scene.height, scene.width), np.bool_)
    for toy in scene.toys:
        for index, (box, layers) in enumerate(_parts(toy)):
            _window(found, box)[layers[0][0]] = index == len(_parts(toy)) - 1
    return found


def _parts(toy: Toy) -> list[tuple[Box, Layers]]:
    """The parts in order of drawing: wheels, body, head."""
    return [
        *((box, toys.wheel(box)) for box in toy.wheels),
        (toy.body, toys.body(toy.body, toy.livery)),
        (toy.head, toys.head(toy.kind, toy.head, toy.mirrored)),
    ]


def _paint(canvas: NDArray[np.float64], box: Box, layers: Layers, outline: bool) -> None:
    """Paint layers into their box: shaded from above, with a darker rim for toys."""
    shape = layers[0][0]
    colours = np.zeros((*shape.shape, 3))
    for mask, colour in layers:
        colours[mask & shape] = colour
    colours *= (1.08 - 0.2 * toys.grid(box)[1])[:, :, None]
    if outline:
        colours[_rim(shape)] *= _OUTLINE
    rows, columns = _inside(box, canvas.shape[0], canvas.shape[1])
    _window(canvas, box)[shape[rows, columns]] = colours[rows, columns][shape[rows, columns]]


def _rim(shape: Mask) -> Mask:
    """Pixels of a shape with a neighbour (4-neighbourhood) outside of it."""
    wide = np.pad(shape, 1)
    return shape & ~(wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:])


def _inside(box: Box, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns of a part's own arrays that lie inside the image."""
    rows = slice(max(-box.top, 0), max(min(height - box.top, box.height), 0))
    return rows, slice(max(-box.left, 0), max(min(width - box.left, box.width), 0))


def _window(canvas: NDArray[np.generic], box: Box) -> NDArray[np.generic]:
    """The image's pixels under a box."""
    return canvas[max(box.top, 0) : max(box.top + box.height, 0), max(box.left, 0) : max(box.left + box.width, 0)]


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Nearly normal noise of variance 1: the sum of four uniform bytes (whole numbers, the same on any platform)."""
    total = rng.integers(0, 256, (4, *shape), dtype=np.uint8).sum(axis=0, dtype=np.int64)
    return np.asarray((total - 510) / np.sqrt((256**2 - 1) / 3))
