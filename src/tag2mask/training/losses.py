"""Losses that are ratios: their denominators are those of all processes together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.ranks import world_size


def global_ratio(numerator: Tensor, denominator: Tensor, epsilon: float = 0.0) -> Tensor:
    """The ratio of two sums over the images of all processes, as this process's share of it.

    Gradients of several processes are averaged after the backward pass. So the numerator stays this process's, times
    their number, and only the denominator is summed over them: the average of the shares is the ratio of the sums.

    Args:
        numerator: this process's sum, a scalar or several in a vector; carries the gradient.
        denominator: of the same shape, without gradient, this process's count or weight.
        epsilon: added once to the denominator's sum over the processes, which without it is not 0.
    """
    world = world_size()
    total = denominator.detach().clone()
    if world > 1:
        torch.distributed.all_reduce(total)
        numerator = numerator * world
    return numerator / (total + epsilon) if epsilon else numerator / total


def multilabel_soft_margin(logits: Tensor, tags: Tensor, class_mask: Tensor | None = None) -> Tensor:
    """Mean over images and classes of the cross-entropy of each class on its own.

    Args:
        logits: (N, C).
        tags: (N, C), 1 for a class that is present, else 0.
        class_mask: (C,) bool, the classes that count; None for all.

    Returns:
        -(y log s(z) + (1 - y) log(1 - s(z))) averaged, s the logistic function: a scalar in float32.
    """
    values = F.binary_cross_entropy_with_logits(logits.float(), tags.float(), reduction="none")
    if class_mask is not None:
        values = values[:, class_mask]
    return global_ratio(values.sum(), torch.tensor(float(values.numel()), device=values.device))


LOSSES: dict[str, Callable[..., Tensor]] = {"multilabel_soft_margin": multilabel_soft_margin}
"""Every loss that is a ratio, by name; a method adds its own. A test compares each on two processes with one."""
