"""Architectures of segmentation-models-pytorch on any encoder of timm's that it can take apart."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from tag2mask.core.errors import ConfigError
from tag2mask.core.files import reason
from tag2mask.segmentation.encoder import encoder_colours, encoder_name, load_encoder, published
from tag2mask.segmentation.network import Segmenter
from tag2mask.segmentation.settings import NetworkSettings

_TRIED = 256
"""Side of the image that a decoder is tried with: enough for those that halve it eight times."""
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "always_partition": True},  # Swin; else its last stage, 7 x 7 at 224, has no shift
    {"strict_img_size": False},
    {"dynamic_img_size": True},
)
"""What timm's networks of one size take, in their different ways."""
_LEAST = {"pan": 128}
"""Smallest sides of an architecture in pixels: PAN halves its features at stride 16 three times."""


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
        self.least = _LEAST.get(settings.kind, 1)
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
    except Exception as error:  # the two libraries raise whatever they run into
        raise ConfigError(
            f"network.kind = '{settings.kind}' cannot stand on network.encoder = '{settings.encoder}' ({error}). "
            f"Choose a convolutional encoder, such as efficientnet_lite0 or resnet50"
            + (", or leave network.decoder out" if settings.decoder else "")
        ) from error


def check_decoder(settings: NetworkSettings) -> None:
    """Refuse what a decoder is told that it cannot be built or run with, by a network without memory.

    Raises:
        ConfigError: with the library's own words.
    """
    if not settings.decoder:
        return
    name = encoder_name(settings.encoder)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
            library_network(settings, name, 2).eval()(torch.zeros(1, 3, _TRIED, _TRIED))
    except ConfigError:
        raise
    except Exception as error:  # as above
        if "meta" in str(error).lower():  # it computes with numbers, which are not there: training will look
            return
        raise ConfigError(
            f"network.decoder = {settings.decoder}: the decoder of '{settings.kind}' does not run with it "
            f"({reason(error)}). Change it, or leave it out"
        ) from error


def _any_size(name: str) -> dict[str, Any]:
    """Arguments that make a network of timm's, published for one size, take all; none where it has no such."""
    for options in _ANY_SIZE:
        try:
            with torch.device("meta"):
                timm.create_model(name, features_only=True, **options)
        except Exception:  # as above
            continue
        return options
    return {}
