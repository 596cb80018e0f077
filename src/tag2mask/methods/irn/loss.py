"""The loss of the class-boundary branch, over the pairs of a whole batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from tag2mask.methods.irn.affinity import EPSILON, pair_counts, pair_sum
from tag2mask.training.losses import LOSSES, global_ratio

_SHARES = (0.25, 0.25, 0.5)
"""Of background, foreground and different pairs: half of ``(bg + fg) / 2 + different``, the other half of IRN's loss
being that of its displacement branch. Without the half the published learning rate would mean another one."""


def boundary_loss(edge: Tensor, labels: Tensor, radius: int = 10, counts: Tensor | None = None) -> Tensor:
    """``bg / 4 + fg / 4 + different / 2``, each the sum of its pairs' terms over their number + 1e-5.

    Pairs are counted over all processes. Where a batch is computed in parts, they are counted over the whole batch, so
    the parts' losses add up to that of the batch; they are not to be averaged.

    Args:
        edge: (N, h, w) in [0, 1], boundary probability of this part.
        labels: (N, h, w) uint8: 0 background, 1 and more classes, 255 unsure.
        radius: pairs nearer than this many cells.
        counts: (3,) int64, `pair_counts` of all parts of this process's batch; None where this part is all of it.

    Returns:
        A scalar in float32: this process's share, whose mean over the processes is the loss. 0 without pairs.

    Raises:
        ConfigError: the grid is smaller than a neighbourhood.
    """
    if counts is None:
        counts = pair_counts(labels, radius)
    shares = torch.tensor(_SHARES, device=edge.device)
    return pair_sum(edge.float(), labels, global_ratio(shares, counts, EPSILON), radius)


LOSSES["boundary"] = boundary_loss
