"""What a pixel looks like beside its neighbours and its image: bands, ridges and colours, at 1 to 4 pixels.

Nothing says where in the image a pixel lies or which colour it has as such: both would tell images apart, not pixels.
Each feature is counted from its median over the image and divided by its spread there, so that a colour is how far a
pixel differs from most of its image, and images of low contrast count like others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tag2mask.core.errors import DataError

Features = NDArray[np.float32]
_BRIGHTNESS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_RIDGES = (1.0, 1.5, 2.5, 4.0)
"""Standard deviations, in pixels, at which ridges and spots are looked for in the brightness."""
_COLOUR_RIDGE = 2.0
_BANDS = (1.0, 2.0, 4.0)
"""Standard deviations between which bands are taken."""
REACH = 12
"""Pixels from which a feature takes anything in: three standard deviations of the widest."""
COUNT = 4 + 2 * len(_RIDGES) + 2 * (3 + 2 + 2)
"""Features of a pixel."""
_SPREAD, _FLOOR, _LIMIT = 75, 1e-4, 12.0
"""The percentile of absolute values that counts as an image's spread, its least value, and the largest feature."""
_ENOUGH = 20_000
"""Pixels of an image that its median and spread are taken of."""


def pixel_features(image: NDArray[np.uint8]) -> Features:
    """The features of each pixel.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (H W, `COUNT`) float32 in [-12, 12], in raster order. A plain image has 0 everywhere.

    Raises:
        DataError: another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(f"image has shape {image.shape} and type {image.dtype}: expected (height, width, 3) of uint8")
    red, green, blue = (np.asarray(image[..., k] / 255, dtype=np.float32) for k in range(3))
    brightness = np.asarray(np.stack([red, green, blue], axis=2) @ _BRIGHTNESS, dtype=np.float32)
    fine, middle, coarse = (_smooth(brightness, deviation)() for deviation in _BANDS)
    planes = [brightness - fine, fine - middle, fine - coarse, middle - coarse]
    for deviation in _RIDGES:
        planes += _curvatures(brightness, deviation)
    opposed: tuple[Features, ...] = (red - green, np.asarray(blue - (red + green) / 2, dtype=np.float32))
    for colour in opposed:
        fine, middle, coarse = (_smooth(colour, deviation)() for deviation in _BANDS)
        planes += [fine - middle, fine - coarse, middle - coarse, *_curvatures(colour, _COLOUR_RIDGE), fine, coarse]
    rows = np.stack([plane.ravel() for plane in planes])
    rows -= np.median(_some(rows, image.shape[1]), axis=1, keepdims=True)
    spread = np.percentile(np.abs(_some(rows, image.shape[1])), _SPREAD, axis=1, keepdims=True)
    rows /= spread.astype(np.float32) + _FLOOR
    return np.ascontiguousarray(np.clip(rows, -_LIMIT, _LIMIT).T)


def _some(rows: Features, width: int) -> Features:
    """Enough of an image's pixels for its median and spread, all over it."""
    step = max(1, rows.shape[1] // _ENOUGH)
    while step > 1 and not width % step:  # would take the same columns of all lines
        step -= 1
    return rows[:, ::step]


def _smooth(plane: Features, deviation: float) -> Callable[..., Features]:
    """A Gaussian's derivatives of an order (rows, columns)."""
    return partial(ndimage.gaussian_filter, plane, deviation, mode="nearest", truncate=3.0)


def _curvatures(plane: Features, deviation: float) -> list[Features]:
    """Both curvatures at a scale, the larger first: a dark line has one large one, a dark spot two."""
    filtered = _smooth(plane, deviation)
    down, right, both = (filtered(order=order) for order in ((2, 0), (0, 2), (1, 1)))
    scale = np.float32(deviation**2)
    mean = np.asarray((down + right) / 2 * scale, dtype=np.float32)
    apart = np.asarray(np.hypot((down - right) / 2, both) * scale, dtype=np.float32)
    return [mean + apart, mean - apart]
