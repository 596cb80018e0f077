"""One kernel of a dense CRF: a lattice, symmetrically normalised and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from tag2mask.refine.crf.lattice import Lattice, build_lattice
from tag2mask.refine.crf.presets import CRFPreset

_TINY = 1e-20
"""Added to each row sum, as in the reference."""
_KEPT = 1 << 20
"""Pixels up to which a Gaussian kernel is kept for the next image of its size: some 50 MB each."""
Size = tuple[int, int]


def _normalised(lattice: Lattice, compat: float) -> Lattice:
    """The lattice of K as that of compat D^-1/2 K D^-1/2, D the row sums of K as it computes them.

    `Lattice.spread` is the first half of the product, `Lattice.collect` the second.
    """
    ones = torch.ones(len(lattice.corners), 1, device=lattice.weights.device)
    norm = lattice.filter(ones)[:, 0].double().add_(_TINY).rsqrt_().float()
    lattice.scale(norm, norm * (compat * lattice.alpha))
    return lattice


def gaussian_kernel(sizes: tuple[Size, ...], preset: CRFPreset, device: torch.device) -> Lattice:
    """The kernel over positions; the same for every image of a size, so those of ordinary photos are kept."""
    small = sum(height * width for height, width in sizes) <= _KEPT
    return (_kept_gaussian if small else _gaussian)(sizes, preset, device)


def _gaussian(sizes: tuple[Size, ...], preset: CRFPreset, device: torch.device) -> Lattice:
    lattice = build_lattice(_features(sizes, preset.gaussian_sxy, device), _image_of(sizes, device))
    return _normalised(lattice, preset.gaussian_compat)


_kept_gaussian = lru_cache(maxsize=8)(_gaussian)


def bilateral_kernel(images: Sequence[Tensor], preset: CRFPreset) -> Lattice:
    """The kernel over positions and colours of (H, W, 3) uint8 images."""
    sizes = [(int(image.shape[0]), int(image.shape[1])) for image in images]
    device = images[0].device
    features = [_features(sizes, preset.bilateral_sxy, device, images, preset.bilateral_srgb)]
    lattice = build_lattice(features.pop(), _image_of(sizes, device))  # popped, so that it can be freed on the way
    return _normalised(lattice, preset.bilateral_compat)


def _features(
    sizes: Sequence[Size], sxy: float, device: torch.device, images: Sequence[Tensor] = (), srgb: float = 1.0
) -> Tensor:
    """Column, row, and R, G, B where images are given, of each pixel in raster order: (2 or 5, N) float32."""
    features = torch.empty(5 if images else 2, sum(h * w for h, w in sizes), device=device)
    start = 0
    for number, (height, width) in enumerate(sizes):
        own = features[:, start : start + height * width].view(-1, height, width)
        own[0] = torch.arange(width, dtype=torch.float32, device=device) / sxy
        own[1] = (torch.arange(height, dtype=torch.float32, device=device) / sxy)[:, None]
        if images:
            torch.div(images[number].permute(2, 0, 1), srgb, out=own[2:])
        start += height * width
    return features


def _image_of(sizes: Sequence[Size], device: torch.device) -> Tensor | None:
    if len(sizes) == 1:
        return None
    pixels = torch.tensor([h * w for h, w in sizes], device=device)
    return torch.arange(len(sizes), device=device).repeat_interleave(pixels)
