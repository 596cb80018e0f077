"""UPerNet: pyramid pooling and a feature pyramid on a hierarchical encoder such as Swin, with an auxiliary head."""

from __future__ import annotations

from torch import Tensor, nn

from tag2mask.core.errors import ConfigError
from tag2mask.core.resize import bilinear
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.smp import encoder_colours, encoder_name, library_network, load_encoder
from tag2mask.segmentation.settings import NetworkSettings

_CHANNELS, _AUXILIARY_CHANNELS = 512, 256
_DROPOUT = 0.1
_AUXILIARY_WEIGHT = 0.4
_STAGE = 2
"""Which of the four levels, from 0, the auxiliary head looks at: stride 16."""
_LEVELS = 4
_HEAD_STD = 0.01


class UperNet(Segmenter):
    """UPerNet as published with Swin: layer norm on each of four levels, 512 channels, an auxiliary head."""

    def __init__(self, settings: NetworkSettings, n_labels: int) -> None:
        name = encoder_name(settings.encoder)
        super().__init__(settings, n_labels, *encoder_colours(name))
        net = library_network(settings, name, n_labels, decoder_channels=_CHANNELS)
        self.features, self.decoder = net.encoder, net.decoder  # its own head and upsampling are not the published
        load_encoder(self.features.model, settings)
        channels = list(self.features.out_channels)[-_LEVELS:]
        if len(self.decoder.feature_norms) != _LEVELS:
            raise ConfigError(
                f"network.encoder = '{settings.encoder}': upernet needs features at strides 4, 8, 16 and 32. Choose "
                f"another encoder, such as swin_tiny_patch4_window7_224 or resnet50"
            )
        self.head = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(_CHANNELS, self.n_labels, 1))
        self.auxiliary = nn.Sequential(
            nn.Conv2d(channels[_STAGE], _AUXILIARY_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(_AUXILIARY_CHANNELS),
            nn.ReLU(),
            nn.Dropout2d(_DROPOUT),
            nn.Conv2d(_AUXILIARY_CHANNELS, self.n_labels, 1),
        )
        for last in (self.head[-1], self.auxiliary[-1]):
            assert isinstance(last, nn.Conv2d)
            nn.init.normal_(last.weight, std=_HEAD_STD)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    @property
    def encoder(self) -> nn.Module:
        """The network of timm's."""
        part: nn.Module = self.features
        return part

    def parts(self) -> list[nn.Module]:
        """Decoder and both heads."""
        return [self.decoder, self.head, self.auxiliary]

    def logits(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), sides multiples of 32, to logits (N, C + 1, H, W)."""
        return self._main(self.features(images), images)

    def train_outputs(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """The logits, and those of the auxiliary head, which weigh 0.4; both (N, C + 1, H, W)."""
        height, width = images.shape[-2:]
        padded = self.padded(images)
        levels = self.features(padded)
        norm = self.decoder.feature_norms[_STAGE]
        second = bilinear(self.auxiliary(norm(levels[_STAGE - _LEVELS])), *padded.shape[-2:])
        outputs = ((1.0, self._main(levels, padded)), (_AUXILIARY_WEIGHT, second))
        return [(weight, logits[..., :height, :width]) for weight, logits in outputs]

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Both at the images' size."""
        return [(height, width)] * 2

    def _main(self, levels: list[Tensor], images: Tensor) -> Tensor:
        return bilinear(self.head(self.decoder(list(levels))), *images.shape[-2:])
