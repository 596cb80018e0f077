"""DeepLabV2: four dilated 3 x 3 convolutions, summed, on features of stride 8, over three scales of the image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.build import build_network
from tag2mask.backbones.dilated import dilated_convs, dilated_sum, each
from tag2mask.backbones.official_checkpoints import official_deeplab
from tag2mask.backbones.resnets import CAFFE_STRIDE, caffe_body, freeze_norms
from tag2mask.backbones.settings import BackboneSettings, local_file
from tag2mask.backbones.state_dict import State, check_strict, load_strict, read_state
from tag2mask.backbones.tagnet import Body
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.resize import bilinear
from tag2mask.segmentation.networks.base import Segmenter, group
from tag2mask.segmentation.networks.smp import check_bundled, encoder_name
from tag2mask.segmentation.settings import CAFFE, DEEPLAB, NetworkSettings
from tag2mask.training.settings import HeadScheduleSettings

_SCALES = ((1, 2), (3, 4))
"""Of the image beside itself, as fractions: whole numbers give the published sizes without rounding errors."""


class DeepLabV2(Segmenter):
    """DeepLabV2 with its wrapper over scales 1, 0.5 and 0.75 of the image, whose logits' maximum is its output.

    Batch norms keep statistics, scales and shifts of the first weights.
    """

    multiple = 1

    def __init__(self, settings: NetworkSettings, n_labels: int) -> None:
        body = _body(settings)
        super().__init__(settings, n_labels, body.mean, body.std)
        self.body = body.module
        freeze_norms(self.body)
        self.head = dilated_convs(body.channels, n_labels)
        self._grids: dict[tuple[int, int], list[tuple[int, int]]] = {}

    @property
    def encoder(self) -> nn.Module:
        """The network below the head."""
        return self.body

    def parts(self) -> list[nn.Module]:
        """The head."""
        return [self.head]

    def trained_norms(self) -> list[nn.Module]:
        """None: the batch norms stay as they are, whatever the first weights."""
        return []

    def logits(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to the maximum over scales, (N, C + 1, h, w), h about H / 8."""
        return self._outputs(images)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """As `logits`: any size is taken as it is."""
        return self.logits(images)

    def train_outputs(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Logits at scales 1, 0.5, 0.75, each of its own size, and the maximum at the first one's; all weigh 1."""
        return [(1.0, output) for output in self._outputs(images)]

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sizes of the `train_outputs`, from running zeros once: 321 gives 41, 21, 31, 41."""
        size = height, width
        if size not in self._grids:
            device = each(self.head)[0].weight.device
            with torch.no_grad():
                outputs = self._outputs(torch.zeros(1, 3, *size, device=device))
            self._grids[size] = [(output.shape[-2], output.shape[-1]) for output in outputs]
        return self._grids[size]

    def parameter_groups(self, schedule: HeadScheduleSettings) -> list[dict[str, Any]]:
        """Encoder at ``lr``, the head's weights at ``head_lr``, its biases at twice that without decay."""
        encoder = [p for p in self.body.parameters() if p.requires_grad]
        named = list(self.head.named_parameters())
        weights, biases = ([p for name, p in named if name.endswith(end)] for end in ("weight", "bias"))
        return [
            group(encoder, schedule.lr, schedule.weight_decay),
            group(weights, schedule.head_lr, schedule.weight_decay),
            group(biases, 2 * schedule.head_lr, 0.0),
        ]

    def _outputs(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        outputs = [self._single(images)]
        for above, below in _SCALES:
            size = max(1, height * above // below), max(1, width * above // below)
            outputs.append(self._single(F.interpolate(images, size, mode="bilinear", align_corners=False)))
        rows, columns = outputs[0].shape[-2:]
        largest = outputs[0]
        for output in outputs[1:]:
            largest = torch.maximum(largest, bilinear(output, rows, columns))
        return [*outputs, largest]

    def _single(self, images: Tensor) -> Tensor:
        return dilated_sum(each(self.head), self.body(images))


def check_caffe(settings: NetworkSettings) -> None:
    """Refuse weights that `CAFFE` cannot begin with, by their names and shapes."""
    if settings.weights != "none":
        with torch.device("meta"):
            body = caffe_body().module
        check_strict(body, *_caffe_state(settings), f"'{CAFFE}'")


def _caffe_state(settings: NetworkSettings) -> tuple[State, str]:
    """Tensors of the first weights, and the file that they are from."""
    if not settings.is_file:
        raise WeightsError(
            f"network.weights = '{settings.weights}': {CAFFE} has no weights but its own files. Give one of "
            f"deeplab-pytorch's (network.weights=deeplabv1_resnet101-imagenet.pth network.pretrained=imagenet), or "
            f"take encoder=resnet101 with weights=timm, which is another network"
        )
    path = local_file(settings.weights)
    assert settings.pretrained is not None  # a file has it
    return official_deeplab(read_state(path), settings.pretrained, str(path)), str(path)


def _body(settings: NetworkSettings) -> Body:
    """The encoder with its first weights."""
    if settings.encoder != CAFFE:
        encoder_name(settings.encoder)
        check_bundled(settings)
        about = BackboneSettings(name=settings.encoder, stride=CAFFE_STRIDE, weights=settings.weights)
        try:
            net = build_network(about, 1)  # its head for a class is not used
        except ConfigError as error:
            raise ConfigError(
                f"network.kind = '{DEEPLAB}' cannot stand on network.encoder = '{settings.encoder}': {error}"
            ) from error
        return Body(net.body, net.head.in_channels, CAFFE_STRIDE, net.mean, net.std)
    body = caffe_body()
    if settings.weights != "none":
        load_strict(body.module, *_caffe_state(settings), f"'{CAFFE}'")
    return body
