"""AMN's per-pixel classification loss: balanced cross-entropy with smoothed targets (section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.types import IGNORE
from tag2mask.training.losses import LOSSES, global_ratio

_EPSILON = 1e-5
"""Keeps a ratio finite where there are no pixels; beside a count of some it is rounded away, or nearly."""


def pixel_counts(labels: Tensor) -> Tensor:
    """How many cells are background and how many foreground.

    Args:
        labels: (N, h, w) uint8: 0 background, 1 and more classes, 255 unsure.

    Returns:
        (2,) int64.
    """
    background = (labels == 0).count_nonzero()
    return torch.stack([background, (labels != IGNORE).count_nonzero() - background])


def pixel_loss(
    logits: Tensor, labels: Tensor, smoothing: float = 0.4, balanced: bool = True, counts: Tensor | None = None
) -> Tensor:
    """Half the mean over background cells plus half the mean over foreground cells of the smoothed cross-entropy.

    The target is ``1 - smoothing`` for the cell's label and ``smoothing / C`` for each of the C others. A side without
    cells counts as 0. Cells are counted over all processes, and over the whole batch where it is computed in parts: the
    parts' losses add up, they are not to be averaged.

    Args:
        logits: (N, C + 1, h, w) of this part, background first.
        labels: (N, h, w) uint8: 0 background, c + 1 class c, 255 unsure.
        smoothing: below C / (C + 1), so that the label keeps the largest share.
        balanced: else one mean over all cells that are not unsure.
        counts: (2,) int64, `pixel_counts` of all parts of this process's batch; None where this part is all of it.

    Returns:
        A scalar in float32: this process's share, whose mean over the processes is the loss.
    """
    if counts is None:
        counts = pixel_counts(labels)
    shares = torch.full((2,), 0.5 if balanced else 1.0, device=logits.device)
    weights = global_ratio(shares, counts if balanced else counts.sum().repeat(2), _EPSILON)
    n_labels = logits.shape[1]
    # torch's smoothing gives a share to the label too: the same target is 1 - s + s / n with s = smoothing n / (n - 1).
    everywhere = smoothing * n_labels / (n_labels - 1)
    terms = F.cross_entropy(
        logits.float(), labels.long(), ignore_index=IGNORE, reduction="none", label_smoothing=everywhere
    )
    return (terms * torch.where(labels == 0, weights[0], weights[1])).sum()


LOSSES["pixel"] = pixel_loss
