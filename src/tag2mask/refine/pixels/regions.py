"""How wide things are, and what stands out in a neighbourhood: measures of regions in the plane, without a network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tag2mask.refine.crf.presets import CRFPreset

Mask = NDArray[np.bool_]
Scores = NDArray[np.float32]
_NOWHERE: Final = np.float32(-np.inf)
_STRIDES = 10
"""Steps in which a neighbourhood is looked through: windows move by a tenth of their side."""
_LOWEST = 0.02
"""Quantile of a region's scores that what lies outside it gets."""
_NARROWEST = 1 / 16
"""Kernels are not made smaller than by this."""


def region_width(region: Mask) -> float:
    """Mean width of a region (H, W), in pixels: w of a strip w wide however long, two thirds of a disc's diameter.

    It is four times the mean distance of the region's pixels from its edge. 0 for an empty region.
    """
    if not region.any():
        return 0.0
    # A border of its own is an edge too: a strip along the image's side is as wide as it is seen.
    distance = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    return float(4 * (distance[region].mean() - 0.5))


def median_width(regions: Iterable[Mask]) -> float:
    """The median of the widths of those regions that are not empty; 0 where all are."""
    widths = [region_width(region) for region in regions if region.any()]
    return float(np.median(widths)) if widths else 0.0


def kernels_for(preset: CRFPreset, width: float, full_width: float) -> CRFPreset:
    """A preset for things of a width: the kernels' extents are as many times smaller as things are narrower.

    In steps of the square root of 2, so that few sizes of kernel serve all images, and at most 16 times.

    Args:
        preset: for things of ``full_width`` or more, which it is returned for unchanged.
        width: of the things, pixels; 0 (nothing there) changes nothing.
        full_width: pixels, above 0.
    """
    if not 0 < width < full_width:
        return preset
    factor = max(_NARROWEST, 2 ** (round(2 * math.log2(width / full_width)) / 2))
    return replace(
        preset, gaussian_sxy=max(1.0, preset.gaussian_sxy * factor) if preset.gaussian_sxy > 1 else preset.gaussian_sxy,
        bilateral_sxy=preset.bilateral_sxy * factor,
    )  # fmt: skip


def standing_out(scores: Scores, region: Mask, share: float, window: int, blur: float = 0) -> Mask:
    """Which pixels of a region are above the quantile ``1 - share`` of a window around them.

    Pixels of the window outside the region count as lower than all others.

    Args:
        scores: (n,) of the pixels of the region, in raster order.
        region: (H, W).
        share: of the window, in (0, 1).
        window: its side in pixels.
        blur: standard deviation, pixels, of a blur before the comparison. A thing and what borders on it differ from
            the rest alike, and the thing is what lies in the middle of both.

    Returns:
        (n,).
    """
    plane = np.full(region.shape, _NOWHERE)
    plane[region] = _blurred(scores, region, blur) if blur else scores
    step = max(1, window // _STRIDES)
    side = max(3, round(window / step))
    coarse = ndimage.percentile_filter(plane[::step, ::step], 100 * (1 - share), size=side, mode="nearest")
    rows, columns = (np.arange(n) // step for n in region.shape)
    found: Mask = plane[region] > coarse[rows[:, None], columns][region]
    return found


def _blurred(scores: Scores, region: Mask, blur: float) -> Scores:
    """What lies outside the region counts as its lowest pixels do."""
    plane = np.full(region.shape, np.quantile(scores, _LOWEST) if len(scores) else 0, dtype=np.float32)
    plane[region] = scores
    found: Scores = ndimage.gaussian_filter(plane, blur)[region]
    return found
