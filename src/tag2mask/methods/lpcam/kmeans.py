"""Spherical k-means (cosine similarity) for many vectors, in bounded memory, with raw means at the end.

Rows are never normalised: the nearest direction of a row does not depend on its length, and a row enters
the sum of unit vectors with weight 1 / length. One pass over the data assigns a chunk and corrects the sums by the
rows that changed cluster, while they are in the cache; after a few passes these are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError
from tag2mask.core.progress import LOG
from tag2mask.methods.lpcam.vectors import Rows

SAME = 1e-6
"""Cosine distances up to this are rounding: the two directions count as one."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """What spherical k-means found.

    Attributes:
        centres: (K, D) float32 mean of the RAW vectors of each cluster: F_i or B_i of LPCAM's eqs. 3 to 5.
        directions: (K, D) float32 unit vectors that the rows were assigned to.
        sizes: (K,) int64, all positive; zero vectors belong to no cluster.
        labels: (N,) int64 cluster of each row, -1 for a zero vector.
        costs: sum over rows of 1 - cosine, before each update and at the end; never rises.
        converged: whether it stopped before the cap on iterations.
    """

    centres: Tensor
    directions: Tensor
    sizes: Tensor
    labels: Tensor
    costs: tuple[float, ...]
    converged: bool


@dataclass(frozen=True, slots=True)
class _Pass:
    """One assignment of all rows.

    Attributes:
        sums: (K, D) float64 sums of the weighted rows.
        sizes: (K,) float64.
        cost: sum of 1 - cosine.
        labels: (N,) int64 for each row.
        served: (N,) float32 cosine of each row and its direction.
    """

    sums: Tensor
    sizes: Tensor
    cost: float
    labels: Tensor
    served: Tensor


def spherical_kmeans(
    vectors: Tensor | NDArray[Any],
    k: int,
    *,
    seed: int = 0,
    start: Tensor | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    memory_mb: int = 1024,
) -> Clusters:
    """Cluster the directions of ``vectors``; the same input and seed give the same result.

    Args:
        vectors: (N, D), a floating tensor or a numpy array or memory map; zero vectors take no part.
        k: number of clusters wanted; fewer are found where there are fewer distinct directions (logged).
        seed: of k-means++, which draws rows in proportion to 1 - cosine.
        start: (k, D) centres to start from instead.
        max_iterations: cap, at least 1.
        tolerance: stop when the cost falls by no more than this share of itself.
        memory_mb: most megabytes for a float32 copy of the vectors; above it they are read anew at each pass.
            Beside it: 4 MB chunks, and 16 bytes a row.
    """
    rows = Rows(vectors, memory_mb)
    _check(k, start, max_iterations, rows.dim)
    inverse = rows.inverse_lengths()
    if start is not None:
        directions = F.normalize(start.to(inverse.device, torch.float32), dim=1)
    else:
        directions = _plus_plus(rows, inverse, k, seed)
    costs: list[float] = []
    converged = not len(directions)
    step = None
    for _ in range(0 if converged else max_iterations):
        step = _assign(rows, inverse, directions, inverse, step)
        costs.append(step.cost)
        directions, moved = _update(rows, inverse, directions, step)
        if len(costs) > 1 and not moved and costs[-2] - costs[-1] <= tolerance * costs[-2]:
            converged = True
            break
    return _finish(rows, inverse, directions, k, costs, converged)


def _check(k: int, start: Tensor | None, max_iterations: int, dim: int) -> None:
    if k < 1 or max_iterations < 1:
        raise ConfigError(f"k = {k} and max_iterations = {max_iterations} must both be 1 or more")
    if start is not None and tuple(start.shape) != (k, dim):
        raise ConfigError(f"start has shape {tuple(start.shape)}, expected (k, D) = ({k}, {dim})")


def _plus_plus(rows: Rows, inverse: Tensor, k: int, seed: int) -> Tensor:
    """Up to ``k`` unit rows, each drawn in proportion to its distance from those drawn before; none twice."""
    generator = torch.Generator().manual_seed(seed)
    distance = (inverse > 0).double()
    found: list[Tensor] = []
    while len(found) < k and bool(distance.any()):
        candidates = distance.nonzero()[:, 0]
        reach = distance[candidates].cumsum(0)
        aim = torch.rand((), dtype=torch.float64, generator=generator).to(reach.device) * reach[-1]
        drawn = int(candidates[int(torch.searchsorted(reach, aim, right=True).clamp(max=len(reach) - 1))])
        found.append(rows.row(drawn) * inverse[drawn])
        similar = torch.cat([chunk @ found[-1] for _, chunk in rows.chunks()]) * inverse
        gap = 1 - similar.double()
        distance = torch.where(gap > SAME, torch.minimum(gap, distance if len(found) > 1 else gap), 0)
        distance[inverse == 0] = 0
    return torch.stack(found) if found else inverse.new_zeros(0, rows.dim)


def _assign(rows: Rows, inverse: Tensor, directions: Tensor, weights: Tensor, before: _Pass | None = None) -> _Pass:
    """Assign every row to its most similar direction and sum the rows times ``weights`` by cluster.

    With the pass ``before``, whose weights were the same, only the rows that change cluster are added and taken away.
    """
    k = len(directions)
    columns = directions.T.contiguous()
    served = torch.empty_like(inverse)
    if before is None:  # label k means that a row is in no cluster's sum yet
        labels = torch.full((rows.count,), k, device=inverse.device)
        own = directions.new_zeros(k, rows.dim, dtype=torch.float64)
    else:
        labels, own = before.labels.clone(), before.sums.clone()
    for first, chunk in rows.chunks():
        part = slice(first, first + len(chunk))
        served[part], nearest = (chunk @ columns).max(1)
        moved = (nearest != labels[part]).nonzero()[:, 0]
        if len(moved):
            weight = weights[part][moved, None]
            members = weight.new_zeros(len(moved), k + 1)
            members.scatter_(1, nearest[moved, None], weight).scatter_(1, labels[part][moved, None], -weight)
            own += members[:, :k].T @ (chunk if len(moved) == len(chunk) else chunk[moved])
        labels[part] = nearest
    served *= inverse
    alive = inverse > 0
    sizes = torch.bincount(labels[alive], minlength=k).double()
    cost = (1 - served[alive].double()).sum().clamp_min(0)
    return _Pass(own, sizes, float(cost), labels, served)


def _update(rows: Rows, inverse: Tensor, directions: Tensor, step: _Pass) -> tuple[Tensor, bool]:
    """Each direction becomes its cluster's mean; an empty cluster goes to the worst-served row, if any is badly so.

    Returns:
        The directions, and whether an empty cluster moved. Neither can raise the cost.
    """
    lengths = step.sums.norm(dim=1, keepdim=True)
    filled = (step.sizes > 0)[:, None] & (lengths > 0)
    updated = torch.where(filled, step.sums / lengths, directions).float()
    empty = (step.sizes == 0).nonzero()[:, 0]
    moved = False
    if len(empty):
        gaps = torch.where(inverse > 0, 1 - step.served, 0)
        worst = gaps.topk(min(len(empty), rows.count))
        for cluster, gap, row in zip(empty.tolist(), worst.values.tolist(), worst.indices.tolist(), strict=False):
            if gap > SAME:
                updated[cluster] = rows.row(row) * inverse[row]
                moved = True
    return updated, moved


def _finish(rows: Rows, inverse: Tensor, directions: Tensor, k: int, costs: list[float], converged: bool) -> Clusters:
    """One more pass for the raw means; clusters without rows are left out."""
    if not len(directions):
        LOG.warning("k-means: no vectors to cluster, so no centres (%d were wanted)", k)
        sizes, labels = torch.zeros(0, dtype=torch.int64), torch.full((rows.count,), -1)
        return Clusters(directions, directions, sizes, labels, (), True)
    final = _assign(rows, inverse, directions, torch.ones_like(inverse))
    filled = final.sizes > 0
    if int(filled.sum()) < k:
        LOG.warning("k-means: %d distinct directions instead of the %d clusters wanted", int(filled.sum()), k)
    sizes = final.sizes[filled].long()
    centres = (final.sums[filled] / sizes[:, None]).float()
    renumbered = (filled.cumsum(0) - 1)[final.labels]
    labels = torch.where(inverse > 0, renumbered, -1)
    return Clusters(centres, directions[filled], sizes, labels, (*costs, final.cost), converged)
