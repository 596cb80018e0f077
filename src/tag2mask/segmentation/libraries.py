"""Architectures of segmentation-models-pytorch on any encoder of timm's that it can take apart."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from tag2mask.core.errors import ConfigError
from tag2mask.segmentation.encoder import encoder_colours, encoder_name, load_encoder, published
from tag2mask.segmentation.network import Segmenter
from tag2mask.segmentation.settings import NetworkSettings

_REFUSALS = (AssertionError, TypeError, ValueError, RuntimeError, NotImplementedError, KeyError, AttributeError)
"""What the two libraries raise where a network cannot be built in the way asked for."""
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "always_partition": True},  # Swin; else its last stage, 7 x 7 at 224, has no shift
    {"strict_img_size": False},
    {"dynamic_img_size": True},
)
"""What timm's networks of one size take, in their different ways."""


class LibrarySegmenter(Segmenter):
    """A network of segmentation-models-pytorch, its logits at the images' size.

    Args:
        settings: architecture, encoder, first weights.
        n_classes: C, without the background.

    Raises:
        ConfigError: an unknown encoder, or one that the architecture cannot stand on.
        WeightsError: the weights do not belong to the encoder.
    """

    def __init__(self, settings: NetworkSettings, n_classes: int) -> None:
        name = encoder_name(settings.encoder)
        super().__init__(settings, n_classes, *encoder_colours(name))
        self.net = library_network(settings, name, n_classes + 1)
        load_encoder(self.net.encoder.model, settings)

    @property
    def encoder(self) -> nn.Module:
        """The network of timm's."""
        part: nn.Module = self.net.encoder
        return part

    def parts(self) -> list[nn.Module]:
        """Decoder and head."""
        return [self.net.decoder, self.net.segmentation_head]

    def logits(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), sides multiples of 32, to logits (N, C + 1, H, W)."""
        result: Tensor = self.net(images)
        return result


def library_network(settings: NetworkSettings, name: str, n_labels: int, **options: Any) -> Any:
    """A network of segmentation-models-pytorch with random weights; the library has no static types.

    Args:
        settings: architecture, encoder, and what differs in the decoder.
        name: of the encoder in timm.
        n_labels: C + 1.
        options: of the architecture and of timm's encoder, beside those of the settings.

    Raises:
        ConfigError: the architecture cannot stand on this encoder, or its decoder cannot be as asked.
    """
    options = {**settings.decoder, **options}
    if settings.drop_path is not None:
        options["drop_path_rate"] = settings.drop_path
    if published(name).fixed_input_size:
        options |= _any_size(name)
    try:
        return smp.create_model(settings.kind, f"tu-{name}", encoder_weights=None, classes=n_labels, **options)
    except _REFUSALS as error:
        raise ConfigError(
            f"network.kind = '{settings.kind}' cannot stand on network.encoder = '{settings.encoder}' ({error}). "
            f"Choose a convolutional encoder, such as efficientnet_lite0 or resnet50"
            + (", or leave network.decoder out" if settings.decoder else "")
        ) from error


def _any_size(name: str) -> dict[str, Any]:
    """Arguments that make a network of timm's, published for one size, take all; none where it has no such."""
    for options in _ANY_SIZE:
        try:
            with torch.device("meta"):
                timm.create_model(name, features_only=True, **options)
        except _REFUSALS:
            continue
        return options
    return {}
