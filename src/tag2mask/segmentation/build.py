"""From settings to a segmentation network with its first weights."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tag2mask.backbones.tagnet import freeze_statistics
from tag2mask.core.errors import ConfigError
from tag2mask.segmentation.deeplab import DeepLabV2
from tag2mask.segmentation.libraries import LibrarySegmenter
from tag2mask.segmentation.network import Segmenter
from tag2mask.segmentation.norms import spare_single_groups, spare_single_values
from tag2mask.segmentation.settings import DEEPLAB, UPERNET, NetworkSettings
from tag2mask.segmentation.upernet import UperNet

_NETWORKS: dict[str, Callable[[NetworkSettings, int], Segmenter]] = {DEEPLAB: DeepLabV2, UPERNET: UperNet}
"""Networks of our own; the others are the library's."""


def build_segmenter(settings: NetworkSettings, n_classes: int) -> Segmenter:
    """Build a network with its first weights, laid out channels-last.

    The head, and all else under ``weights: none``, is drawn from torch's global generator. Batch norms of an encoder
    that begins with pretrained weights keep its statistics.

    Args:
        settings: architecture, encoder, weights.
        n_classes: C, without the background, at least 1.

    Raises:
        ConfigError: the network cannot be had.
        WeightsError: the weights do not belong to the network.
    """
    if n_classes < 1:
        raise ConfigError(f"a network needs at least one class, got {n_classes}")
    net = _NETWORKS.get(settings.kind, LibrarySegmenter)(settings, n_classes)
    spare_single_groups(net)
    for part in net.trained_norms():
        spare_single_values(part)
    if settings.weights != "none":
        freeze_statistics(net.encoder)
    return net.to(memory_format=torch.channels_last)
