"""Where a feature vector lies in the permutohedral lattice: its simplex, and its weights for the simplex's corners."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def elevate(features: Tensor) -> Tensor:
    """Features (d, N) to d + 1 coordinates that sum to 0: (d + 1, N)."""
    d = len(features)
    elevated = features.new_empty(d + 1, features.shape[1])
    total = torch.zeros_like(features[0])
    deviation = float(np.float32(np.sqrt(2 / 3) * (d + 1)))  # rounded here too, or other lattice points are touched
    for k in range(d, 0, -1):
        scaled = features[k - 1] * float(np.float32(deviation / np.sqrt(k * (k + 1))))
        torch.sub(total, scaled * k, out=elevated[k])
        total += scaled
    elevated[0] = total
    return elevated


def simplex(elevated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point.

    Returns:
        The first d coordinates of its corner of remainder 0 divided by d + 1, (d, N) float32, whole numbers; the
        coordinates by residual, largest first, (d + 1, N) int8; the weights of the corners by remainder, (N, d + 1).
    """
    n_corners, n = elevated.shape
    d = n_corners - 1
    base = (elevated * float(np.float32(1) / np.float32(n_corners))).round_()  # half to even
    residual = torch.addcmul(elevated, base, torch.tensor(-float(n_corners), device=base.device))
    rank = base.sum(0).to(torch.int8).expand(n_corners, -1).clone()
    for i in range(n_corners):
        for j in range(i + 1, n_corners):
            smaller = residual[i] < residual[j]
            rank[i] += smaller
            rank[j] += ~smaller
    wrap = (rank < 0).to(torch.int8).sub_((rank > d).to(torch.int8))
    base += wrap
    rank += wrap.mul_(n_corners)
    order, y = torch.empty_like(rank), torch.empty_like(residual)
    for j in range(n_corners):
        place = rank[j].long()[None]
        order.scatter_(0, place, j)
        y.scatter_(0, place, (elevated[j] - base[j] * n_corners).div_(n_corners)[None])
    weights = elevated.new_empty(n, n_corners)
    torch.sub(y[d], y[0] - 1, out=weights[:, 0])
    for p in range(1, n_corners):
        torch.sub(y[d - p], y[d - p + 1], out=weights[:, p])
    return base[:d], order, weights
