"""The loss of a segmentation network: cross-entropy of each output, over the pixels of a whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tag2mask.methods.amn.data import at_grid
from tag2mask.methods.amn.loss import pixel_counts, pixel_loss
from tag2mask.training.losses import LOSSES

_BOTH_SIDES = 2.0
"""`pixel_loss` balances by the mean of two means; DSRG and AdvCAM take their sum, for which their rate is meant."""


def output_counts(labels: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """Pixels of background and of foreground that each output is compared with.

    Args:
        labels: (N, H, W) uint8: 0 background, c + 1 class c, 255 unsure or padded.
        grids: rows and columns of each output.

    Returns:
        (number of outputs, 2) int64.
    """
    return torch.stack([pixel_counts(at_grid(labels, *grid)) for grid in grids])


def segmentation_loss(
    outputs: Sequence[tuple[float, Tensor]], labels: Tensor, balanced: bool = False, counts: Tensor | None = None
) -> Tensor:
    """The weighted sum of the outputs' cross-entropies; pixels of 255 take no part.

    Labels are brought to an output's size by Pillow's nearest. Pixels are counted over all processes, and over the
    whole batch where it is computed in parts: the parts' losses add up, they are not to be averaged.

    Args:
        outputs: weight and logits (N, C + 1, h, w) of each output, background first.
        labels: (N, H, W) uint8, as in `output_counts`.
        balanced: the mean over background pixels plus the mean over foreground pixels (DSRG, AdvCAM); else one mean.
        counts: `output_counts` of all parts of this process's batch; None where this part is all of it.

    Returns:
        A scalar in float32: this process's share, whose mean over the processes is the loss. 0 without a sure pixel.
    """
    if counts is None:
        counts = output_counts(labels, [(logits.shape[-2], logits.shape[-1]) for _, logits in outputs])
    factor = _BOTH_SIDES if balanced else 1.0
    terms = [
        factor * weight * pixel_loss(logits, at_grid(labels, *logits.shape[-2:]), 0.0, balanced, count)
        for (weight, logits), count in zip(outputs, counts, strict=True)
    ]
    return torch.stack(terms).sum()


LOSSES["segmentation"] = segmentation_loss
