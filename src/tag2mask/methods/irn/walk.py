"""Maps spread along the boundaries of one image (IRN, semantic segmentation)."""

from __future__ import annotations

import torch
from torch import Tensor

from tag2mask.core.types import ActivationMaps
from tag2mask.methods.irn.settings import WalkSettings
from tag2mask.refine.walk import random_walk


def walked(maps: ActivationMaps, edge: Tensor, settings: WalkSettings) -> ActivationMaps:
    """Maps after the random walk, divided by the largest value of them all.

    Published maps are divided after they were resized to the image, whose largest value is a little smaller.

    Args:
        maps: (K, h, w) in [0, 1] at stride 4.
        edge: (h, w) in [0, 1], boundary probability, on the same device.
        settings: of the walk.

    Returns:
        The same classes, (K, h, w) float32. The largest value of all maps together is 1; maps that are zero
        everywhere stay zero.

    Raises:
        DataError: the sizes differ, or ``edge`` is not in [0, 1].
    """
    if not len(maps.maps):
        return maps
    values = random_walk(maps.maps**settings.power, edge, settings.radius, settings.beta, settings.log2_steps)
    peak = values.amax()
    return ActivationMaps(maps.classes, torch.where(peak > 0, values / peak, 0).cpu())
