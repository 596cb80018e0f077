"""Unary energies of a dense CRF: negative logarithms of each pixel's label probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.types import IGNORE
from tag2mask.data.forms import ROUNDING

CLIP = 1e-5
"""Smallest probability that a score counts as."""


def unary_from_scores(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """-ln of probabilities (..., L, H, W), or of scores that need not sum to 1; below `CLIP` they count as that.

    Returns (P, L, H, W), P the product of the leading sides.
    """
    if scores.ndim < 3 or tuple(scores.shape[-2:]) != size or scores.shape[-3] < 1:
        raise DataError(
            f"probabilities of shape {tuple(scores.shape)} do not fit the image: expected (..., labels, "
            f"{size[0]}, {size[1]})"
        )
    if not scores.is_floating_point():
        raise DataError(f"probabilities are {scores.dtype}: expected floating-point numbers in [0, 1]")
    values = scores.float().reshape(-1, *scores.shape[-3:])
    if values.numel() and not bool((values >= -ROUNDING).all()):  # false for NaN too
        raise DataError("probabilities hold a NaN or a negative number: expected 0 to 1 everywhere")
    if values.numel() and not bool((values <= 1 + ROUNDING).all()):
        raise DataError(
            f"probabilities go up to {float(values.max()):g}: expected 0 to 1 everywhere. Give logits through "
            "softmax over the labels, and divide scores of another range by their maximum"
        )
    return values.clamp(CLIP, 1).log_().neg_()


def unary_from_labels(labels: Tensor, size: tuple[int, int], n_labels: int, gt_prob: float) -> Tensor:
    """Energies (P, L, H, W) of hard labels (..., H, W) below L, 2 or more, or 255 where ignored: all labels alike.

    The label has probability ``gt_prob``, each other an equal share of the rest.
    """
    values = check_labels(labels, size, n_labels)
    if not 0 < gt_prob < 1:
        raise ConfigError(f"gt_prob = {gt_prob}: expected a number between 0 and 1, ends excluded")
    table = torch.full((n_labels + 1, n_labels), -math.log((1 - gt_prob) / (n_labels - 1)), device=values.device)
    table.fill_diagonal_(-math.log(gt_prob))
    table[n_labels] = math.log(n_labels)
    return table[torch.where(values == IGNORE, n_labels, values)].movedim(-1, 1)


def check_labels(labels: Tensor, size: tuple[int, int], n_labels: int) -> Tensor:
    """Labels as (P, H, W) int64, each below ``n_labels``, which is 1 to 255, or 255."""
    if not 1 <= n_labels <= IGNORE:
        raise ConfigError(f"n_labels = {n_labels}: expected 1 to {IGNORE}, background included")
    if labels.ndim < 2 or tuple(labels.shape[-2:]) != size:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} do not fit the image: expected (..., {size[0]}, {size[1]})"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise DataError(f"labels are {labels.dtype}: expected whole numbers")
    values = labels.reshape(-1, *size).long()
    wrong = values[((values < 0) | (values >= n_labels)) & (values != IGNORE)]
    if len(wrong):
        raise DataError(
            f"label {int(wrong[0])} with n_labels = {n_labels}: expected 0 to {n_labels - 1}, or 255 (ignored)"
        )
    return values
