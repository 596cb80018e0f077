"""Losses that are ratios: their denominators are those of all processes together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.ranks import world_size


def global_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The ratio of two sums over the images of all processes, as this process's share of it.

    Gradients of several processes are averaged after the backward pass. So the numerator stays this process's, times
    their number, and only the denominator is summed over them: the average of the shares is the ratio of the sums.

    Args:
        numerator: scalar, this process's sum; carries the gradient.
        denominator: scalar without gradient, this process's count or weight; its sum over the processes is not 0.
    """
    world = world_size()
    if world == 1:
        return numerator / denominator
    total = denominator.detach().clone()
    torch.distributed.all_reduce(total)
    return numerator * world / total


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
"""Every loss that is a ratio, by name; a test compares each on two processes with one."""
