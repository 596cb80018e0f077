"""From AMN's logits to maps in [0, 1]: merge scales and mirror, softmax, normalise."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tag2mask.core.errors import WeightsError
from tag2mask.core.resize import bilinear
from tag2mask.inference.multiscale import add_mirror, pair_features
from tag2mask.methods.amn.settings import Normalise


def merged_logits(logits_per_scale: Iterable[Tensor], size: tuple[int, int]) -> Tensor:
    """The mean of logits over scales, and over the image and its mirror image.

    Args:
        logits_per_scale: (B, C + 1, h_s, w_s) for each scale, at least one; B is 1, or 2 for the image and its mirror
            image (not yet flipped back).
        size: (height, width) of the result.

    Returns:
        (C + 1, height, width) float32.
    """
    planes = [bilinear(add_mirror(logits.float()) / len(logits), *size) for logits in logits_per_scale]
    mean = torch.stack(planes).mean(0)
    if not torch.isfinite(mean).all():
        raise WeightsError(
            "AMN's logits are NaN or infinite: its weights are not finite. Train it again with smaller lr and head_lr"
        )
    return mean


def image_logits(
    net: Callable[[Tensor, Tensor], Tensor],
    images: Iterable[Tensor],
    tags: Tensor,
    size: tuple[int, int],
    *,
    mirror: bool,
    bfloat16: bool = False,
) -> Tensor:
    """The logits of one image under some tags, merged.

    Args:
        net: images (B, 3, H, W) and tags (B, C) to logits (B, C + 1, h, w).
        images: (3, H, W) for each scale, normalised.
        tags: (C,) 0 and 1 in float, on the network's device.
        size: (height, width) of the result.
        mirror: also the mirror image.
        bfloat16: compute in bfloat16.

    Returns:
        (C + 1, height, width) float32.
    """

    def conditioned(batch: Tensor) -> Tensor:
        return net(batch, tags.expand(len(batch), -1))

    return merged_logits(pair_features(conditioned, images, mirror=mirror, bfloat16=bfloat16), size)


def class_maps(
    logits: Tensor, classes: Tensor, how: Normalise, background: Tensor | None = None, competes: bool = True
) -> Tensor:
    """Maps of some classes.

    Args:
        logits: (C + 1, h, w), background first.
        classes: (K,) int64 class columns; K may be 0.
        how: ``minmax`` takes each class's softmax over all C + 1 from its least value to 0 and its largest to 1, a
            constant one to 0. ``background-prior`` is the same, but the softmax stays as it is where ``background``
            says so. ``learned`` is ``p_c / (p_c + p_0)``, p_0 the background's softmax: above 0.5 where the class is
            likelier than the background, so that maps cut at 0.5 give the arg max over background and classes.
        background: (h, w) bool, cells that are background in the refined seeds; for ``background-prior``.
        competes: the background is one of those that a cell may be of. Else ``learned`` is the softmax over these
            classes alone, so that the largest map is the most probable of them, and the others leave p_0 out.

    Returns:
        (K, h, w) float32 in [0, 1].
    """
    if not competes and how == "learned":
        return logits[classes + 1].softmax(0)
    if not competes:
        logits = torch.cat([torch.full_like(logits[:1], -torch.inf), logits[1:]])
    if how == "learned":
        return torch.sigmoid(logits[classes + 1] - logits[:1])
    softmax = logits.softmax(0)[classes + 1]
    low, high = softmax.amin((1, 2), keepdim=True), softmax.amax((1, 2), keepdim=True)
    maps = torch.where(high > low, (softmax - low) / (high - low), 0)
    if how == "background-prior":
        assert background is not None  # the caller has read the refined seeds
        return torch.where(background, softmax, maps)
    return maps
