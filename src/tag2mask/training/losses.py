"""Losses that are ratios: their denominators are those of all processes together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.processes.ranks import world_size
from tag2mask.core.types import IGNORE

_EPSILON = 1e-5
"""Keeps a ratio finite where there are no pixels; beside a count of some it is rounded away, or nearly."""


def global_ratio(numerator: Tensor, denominator: Tensor, epsilon: float = 0.0) -> Tensor:
    """The ratio of two sums over the images of all processes, as this process's share of it.

    Gradients of several processes are averaged after the backward pass. So the numerator stays this process's, times
    their number, and only the denominator is summed over them: the average of the shares is the ratio of the sums.

    Args:
        numerator: this process's sum, a scalar or several in a vector; carries the gradient.
        denominator: of the same shape, without gradient, this process's count or weight.
        epsilon: added once to the denominator's sum over the processes, which without it is not 0.
    """
    total = _over_processes(denominator)
    if world_size() > 1:
        numerator = numerator * world_size()
    return numerator / (total + epsilon) if epsilon else numerator / total


def _over_processes(counts: Tensor) -> Tensor:
    """The sum of each process's counts or weights, without gradient."""
    total = counts.detach().clone()
    if world_size() > 1:
        torch.distributed.all_reduce(total)
    return total


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


def pixel_counts(labels: Tensor) -> Tensor:
    """How many cells are background and how many foreground.

    Args:
        labels: (N, h, w) uint8: 0 background, 1 and more classes, 255 ignored.

    Returns:
        (2,) int64.
    """
    background = (labels == 0).count_nonzero()
    return torch.stack([background, (labels != IGNORE).count_nonzero() - background])


def pixel_loss(
    logits: Tensor,
    labels: Tensor,
    smoothing: float = 0.4,
    balanced: bool = True,
    counts: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Half the mean over background cells plus half the mean over foreground cells of the smoothed cross-entropy.

    The target is ``1 - smoothing`` for the cell's label and ``smoothing / C`` for each of the C others. A side without
    cells counts as 0. Cells are counted over all processes, and over the whole batch where it is computed in parts: the
    parts' losses add up, they are not to be averaged.

    Args:
        logits: (N, C + 1, h, w) of this part, background first.
        labels: (N, h, w) uint8: 0 background, c + 1 class c, 255 ignored.
        smoothing: below C / (C + 1), so that the label keeps the largest share.
        balanced: else one mean over all cells that are not ignored.
        counts: (2,) int64, `pixel_counts` of all parts of this process's batch; None where this part is all of it.
        first: label of the first logit: 0, or 1 where there is no background. Then logits are (N, C, h, w), no label is
            0, one mean is taken over all cells, and C - 1 others share the smoothing.

    Returns:
        A scalar in float32: this process's share, whose mean over the processes is the loss.
    """
    if counts is None:
        counts = pixel_counts(labels)
    balanced = balanced and not first
    shares = torch.full((2,), 0.5 if balanced else 1.0, device=logits.device)
    weights = global_ratio(shares, counts if balanced else counts.sum().repeat(2), _EPSILON)
    terms = _smoothed(logits, labels, smoothing, first)
    return (terms * torch.where(labels == 0, weights[0], weights[1])).sum()


def code_counts(labels: Tensor, tags: Tensor) -> Tensor:
    """How many cells each label has, and how many are background where the tags leave the choice between the two.

    Args:
        labels: (N, h, w) uint8: 0 background, c + 1 class c, 255 ignored.
        tags: (N, C), above 0 for a class that the network reckons with in that image.

    Returns:
        (2, C + 1) int64, background first: cells of each label; cells of background in the images tagged with it, in
        all images for the background itself.
    """
    own = torch.stack([(labels == label).count_nonzero() for label in range(tags.shape[1] + 1)])
    background = (labels == 0).flatten(1).count_nonzero(1)
    under = torch.cat([background.sum()[None], background @ (tags > 0).to(background.dtype)])
    return torch.stack([own, under])


def label_weights(counts: Tensor, power: float) -> Tensor:
    """How much a cell of each label weighs: 1 of background, (background / own)^power of a class.

    With power 1 a class weighs as much as the background of its images, however small it is, and the arg max gives it
    each cell that looks more like it than like background: right for things that fill their images, far too much of
    things that cover 2 % of them. With power 0 all cells weigh the same, and a class gets only the cells that are more
    often it than not.

    Args:
        counts: (2, C + 1), `code_counts`.
        power: 0 to 1.

    Returns:
        (C + 1,) float32, background first; 1 for a class without cells, or without background beside it.
    """
    own, background = counts.float()
    return torch.where((own > 0) & (background > 0), background / own.clamp(min=1), 1.0) ** power


def weighted_pixel_loss(
    logits: Tensor, labels: Tensor, tags: Tensor, smoothing: float, power: float, counts: Tensor | None = None
) -> Tensor:
    """The mean over cells of the smoothed cross-entropy, weighted as in `label_weights`.

    With one class, in every image, and power 1 it is `pixel_loss`, balanced; with power 0 always that without balance.

    Args:
        logits: (N, C + 1, h, w) of this part, background first.
        labels: (N, h, w) uint8: 0 background, c + 1 class c, 255 ignored.
        tags: (N, C) that the network was given.
        smoothing: as for `pixel_loss`.
        power: of the weights.
        counts: (2, C + 1), `code_counts` of all parts of this process's batch; None where this part is all of it.

    Returns:
        A scalar in float32: this process's share, whose mean over the processes is the loss.
    """
    if counts is None:
        counts = code_counts(labels, tags)
    weights = label_weights(_over_processes(counts), power)
    terms = _smoothed(logits, labels, smoothing)
    summed = (terms * weights[torch.where(labels == IGNORE, 0, labels.long())]).sum()
    return global_ratio(summed, (weights * counts[0]).sum(), _EPSILON)


def _smoothed(logits: Tensor, labels: Tensor, smoothing: float, first: int = 0) -> Tensor:
    """The cross-entropy of each cell, in float32, 0 where ignored; targets as in `pixel_loss`."""
    n_labels = logits.shape[1]
    # torch's smoothing gives a share to the label too: the same target is 1 - s + s / n with s = smoothing n / (n - 1).
    everywhere = smoothing * n_labels / (n_labels - 1)
    places = torch.where((labels == IGNORE) | (labels < first), IGNORE, labels.long() - first)
    return F.cross_entropy(logits.float(), places, ignore_index=IGNORE, reduction="none", label_smoothing=everywhere)
