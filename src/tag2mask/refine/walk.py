"""Random walk over the cells of an image: activation maps spread as far as an affinity carries them.

The walk's result is x T^n with n = 2^log2_steps, a mean of the cells around each cell. T comes from any affinity
(`tag2mask.refine.transition`) and is walked by `walk`; `random_walk` makes it from a boundary map (IRN).
Squaring a dense T, as the published code does, needs gigabytes; here T stays sparse, and fewer than n products do:

    x^n = sum over k of c_k T_k(x),   c_k = 2^(1-n) binomial(n, (n-k)/2) for k = n, n-2, ... (half of it for k = 0)

with Chebyshev's T_k (it is the Fourier series of cos^n). c_k is the probability that heads and tails of n throws of a
coin differ by k: all but 1e-12 lies below k = 7.2 sqrt(n), so 256 steps take 112 products, 2^12 take 456. T is similar
to a symmetric matrix with eigenvalues in [-1, 1] (T = A D^-1 with A symmetric, D its column sums), where |T_k| <= 1:
what is left out changes the result by less than 2e-12 of its length in the norm weighted by D. For maps of one sign
that is less than 2e-12 * (entries of T) of the maximum, 2e-6 on a VOC image, for the worst of all maps (a single cell
that spreads over the whole image), and 1e-10 or so for an ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, overload

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.forms import ROUNDING, tensor_of
from tag2mask.data.images import upright
from tag2mask.refine.transition import Transition, paths, transition

LEFT_OUT = 1e-12
"""Share of the Chebyshev coefficients that is left out."""
MOST_DOUBLINGS = 20
"""Largest ``log2_steps``: a million steps, 7000 products."""
_ONE = (Tensor, np.ndarray, PIL.Image.Image)
LANES = 4
"""Maps are walked in multiples of so many: with fewer, MKL's product does not fill its vectors and takes longer."""


Maps = Tensor | NDArray[Any]
Edge = Maps | PIL.Image.Image


@overload
def random_walk(maps: Maps, edge: Edge, radius: int = 5, beta: float = 10, log2_steps: int = 8) -> Tensor: ...
@overload
def random_walk(
    maps: Sequence[Maps], edge: Sequence[Edge], radius: int = 5, beta: float = 10, log2_steps: int = 8
) -> list[Tensor]: ...
def random_walk(
    maps: Maps | Sequence[Maps],
    edge: Edge | Sequence[Edge],
    radius: int = 5,
    beta: float = 10,
    log2_steps: int = 8,
) -> Tensor | list[Tensor]:
    """Spread activation maps over their image until boundaries stop them: (maps * (1 - edge)) T^(2^log2_steps).

    Computed in float64 on the CPU and in float32 on a CUDA device; tensors on other devices go over the CPU.

    Args:
        maps: (K, h, w) floating activation maps of one image, tensor or array, K may be 0; or a list of such, of any
            sizes.
        edge: (h, w) probability of a boundary at each cell; or one for each image. A tensor or array, floating in
            [0, 1], a grey image of Pillow's, or an array of uint8, in both of which 255 stands for 1; (h, w, 1) too.
        radius: neighbours have dx² + dy² < radius², in cells; a whole number of 2 or more.
        beta: exponent of the affinity, above 0: the higher, the harder boundaries are to cross.
        log2_steps: the walk takes 2^log2_steps steps; 0 to 20.

    Returns:
        (K, h, w) walked maps with the dtype and on the device of ``maps`` (of an array: a tensor on the CPU); for
        sequences, a list of them. Each is within the range of its ``maps * (1 - edge)``. Gradients do not flow through.

    Raises:
        DataError: sizes differ, ``maps`` is not finite, or ``edge`` is not in [0, 1].
        ConfigError: ``radius``, ``beta`` or ``log2_steps`` out of range.
    """
    if isinstance(maps, _ONE) and isinstance(edge, _ONE):
        given, boundary = tensor_of(maps, "maps"), _plane(edge)
        _check(given, boundary)
        device, dtype = (given.device, torch.float32) if given.is_cuda else (torch.device("cpu"), torch.float64)
        boundary = boundary.clamp(0, 1).to(device, dtype)  # rounding may have left the range
        start = given.detach().to(device, dtype) * (1 - boundary)
        return _walk(start, boundary, radius, beta, log2_steps).to(given)
    if not (isinstance(maps, list | tuple) and isinstance(edge, list | tuple) and len(maps) == len(edge)):
        raise DataError(
            f"maps has {_count(maps)}, edge has {_count(edge)}; expected a tensor or array each, or as many of both in "
            "two lists"
        )
    return [random_walk(m, e, radius, beta, log2_steps) for m, e in zip(maps, edge, strict=True)]


def _count(given: object) -> str:
    """How many images an argument holds, in words."""
    if isinstance(given, list | tuple):
        return f"{len(given)} images"
    return f"one {type(given).__name__.lower()}"


def _plane(edge: Edge) -> Tensor:
    """An edge in any form as numbers, those of 8 bits in [0, 1]."""
    if isinstance(edge, PIL.Image.Image) and not edge.mode.startswith(("F", "I")):
        edge = upright(edge, "edge (an image of Pillow's)").convert("L")  # a palette's indices are not probabilities
    plane = tensor_of(edge, "edge").detach()
    if plane.dim() == 3 and plane.shape[2] == 1 < plane.shape[0]:
        plane = plane[..., 0]
    return plane.float() / 255 if plane.dtype == torch.uint8 else plane


def _check(maps: Tensor, edge: Tensor) -> None:
    if maps.dim() != 3 or edge.dim() != 2 or maps.shape[1:] != edge.shape or not edge.numel():
        raise DataError(
            f"maps has shape {tuple(maps.shape)} and edge {tuple(edge.shape)}, expected (K, h, w) and (h, w) "
            "of one grid with a cell or more; edge is made at the grid of the maps, a quarter of the image"
        )
    if not (maps.is_floating_point() and edge.is_floating_point()):
        raise DataError(f"maps is {maps.dtype} and edge {edge.dtype}, expected floating tensors")
    missing = int(edge.isnan().sum())
    if missing:
        raise DataError(f"edge is NaN at {missing} of {edge.numel()} cells, expected probabilities in [0, 1]")
    low, high = (float(value) for value in edge.aminmax())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise DataError(f"edge has values from {low:g} to {high:g}, expected probabilities in [0, 1], not logits")
    bad = maps.numel() - int(maps.isfinite().sum())
    if bad:
        raise DataError(f"maps is NaN or infinite at {bad} of {maps.numel()} places, expected finite activations")


def _walk(start: Tensor, edge: Tensor, radius: int, beta: float, log2_steps: int) -> Tensor:
    """(K, h, w) ``start`` after the walk along a boundary map."""
    paths(radius)  # refuses a bad radius, also where there is nothing to walk
    if not 0 < beta < math.inf:
        raise ConfigError(f"beta is {beta}, expected a finite number above 0; IRN's is 10")
    _check_steps(log2_steps)
    return walk(start, transition(edge, radius, beta), log2_steps) if len(start) else start


def walk(maps: Tensor, step: Transition, log2_steps: int = 8) -> Tensor:
    """Maps (K, h, w) after 2^log2_steps steps over any affinity: maps T^(2^log2_steps), each within the map's range.

    A constant map stays as it is. Maps have the dtype and device of the matrix: float64 on the CPU for all precision.
    """
    _check_steps(log2_steps)
    grid = (step.frame.height, step.frame.width)
    if maps.dim() != 3 or maps.shape[1:] != grid:
        raise DataError(f"maps has shape {tuple(maps.shape)}, expected (K, h, w) on the affinity's grid {grid}")
    if not len(maps):
        return maps
    walked = _mix(step, maps, mixture(2**log2_steps))
    return torch.clamp(walked, maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True))


def _check_steps(log2_steps: int) -> None:
    if isinstance(log2_steps, bool) or not isinstance(log2_steps, int) or not 0 <= log2_steps <= MOST_DOUBLINGS:
        raise ConfigError(f"log2_steps is {log2_steps!r}, expected a whole number from 0 to {MOST_DOUBLINGS}")


def _mix(step: Transition, start: Tensor, weights: Sequence[float]) -> Tensor:
    """(K, h, w) sum over k of weights[k] T_k(step) start, by T_k+1(x) = 2 x T_k(x) - T_k-1(x)."""
    frame, matrix, count = step.frame, step.matrix, len(start)
    lanes = -(-count // LANES) * LANES
    before, now = frame.lines(lanes, start), frame.lines(lanes, start)
    frame.image(frame.rows(before))[..., :count] = start.permute(1, 2, 0)
    total = frame.rows(before) * weights[0]
    torch.mm(matrix, before, out=frame.rows(now))
    total.add_(frame.rows(now), alpha=weights[1])
    for weight in weights[2:]:
        rows = frame.rows(before)
        torch.addmm(rows, matrix, now, beta=-1, alpha=2, out=rows)
        before, now = now, before
        if weight:
            total.add_(rows, alpha=weight)
    return frame.image(total)[..., :count].permute(2, 0, 1).contiguous()


@cache
def mixture(steps: int) -> tuple[float, ...]:
    """Weights w, of sum 1, with x^steps = sum over k of w[k] T_k(x) on [-1, 1] up to twice `LEFT_OUT`."""
    terms = [0.0] * (steps % 2)
    term = 1.0  # binomial(steps, (steps - k) / 2), in units of the largest
    for k in range(steps % 2, steps + 1, 2):
        terms += [term / 2 if k == 0 else term, 0.0]
        term *= (steps - k) / (steps + k + 2)
        if term < 1e-30:
            break
    allowed = LEFT_OUT * math.fsum(terms)
    while terms[-1] <= allowed:
        allowed -= terms.pop()
    whole = math.fsum(terms)
    return tuple(term / whole for term in terms)
