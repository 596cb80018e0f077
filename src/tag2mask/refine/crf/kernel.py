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
Size = tuple[int, int]


class Kernel:
    """compat D^-1/2 K D^-1/2, D the row sums of K as the lattice computes them.

    Args:
        lattice: K.
        compat: weight.
    """

    def __init__(self, lattice: Lattice, compat: float) -> None:
        self._lattice = lattice
        ones = torch.ones(len(lattice.corners), 1, device=lattice.weights.device)
        norm = lattice.filter(ones).double().add_(_TINY).rsqrt_().float()
        self._splat = lattice.pixel_weights * norm[:, 0].index_select(0, lattice.pixels)
        self._slice = lattice.weights * (norm * (compat * lattice.scale))

    def message(self, marginals: Tensor) -> Tensor:
        """What the pixels tell each other: (N, C) float32 to (N, C)."""
        return self._lattice.filter(marginals, self._splat, self._slice)


@lru_cache(maxsize=8)
def gaussian_kernel(sizes: tuple[Size, ...], preset: CRFPreset, device: torch.device) -> Kernel:
    """The kernel over positions; the same for every image of a size, so it is kept."""
    features = torch.cat([_positions(*size, preset.gaussian_sxy, device) for size in sizes], 1)
    return Kernel(build_lattice(features, _image_of(sizes, device)), preset.gaussian_compat)


def bilateral_kernel(images: Sequence[Tensor], preset: CRFPreset) -> Kernel:
    """The kernel over positions and colours of (H, W, 3) uint8 images."""
    sizes = [(int(image.shape[0]), int(image.shape[1])) for image in images]
    device = images[0].device
    positions = [_positions(*size, preset.bilateral_sxy, device) for size in sizes]
    colours = [image.reshape(-1, 3).t().float() / preset.bilateral_srgb for image in images]
    features = torch.cat([torch.cat(p) for p in zip(positions, colours, strict=True)], 1)
    return Kernel(build_lattice(features, _image_of(sizes, device)), preset.bilateral_compat)


def _positions(height: int, width: int, sxy: float, device: torch.device) -> Tensor:
    """(2, H W): column, then row, of each pixel in raster order, in standard deviations."""
    y = torch.arange(height, dtype=torch.float32, device=device) / sxy
    x = torch.arange(width, dtype=torch.float32, device=device) / sxy
    return torch.stack([x.repeat(height), y.repeat_interleave(width)])


def _image_of(sizes: Sequence[Size], device: torch.device) -> Tensor | None:
    if len(sizes) == 1:
        return None
    pixels = torch.tensor([h * w for h, w in sizes], device=device)
    return torch.arange(len(sizes), device=device).repeat_interleave(pixels)
