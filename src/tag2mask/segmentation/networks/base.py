"""What all networks of the second stage share: padding, outputs, groups of parameters; norms of single values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from tag2mask.backbones.tagnet import RGB
from tag2mask.segmentation.settings import NetworkSettings
from tag2mask.training.settings import HeadScheduleSettings


class SparingBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that takes its running statistics where a channel has a single value, where torch's would not train.

    That is so in the pooled branches of many decoders with one image.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, D, h, w) to the same shape."""
        if not self.training or input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class SparingGroupNorm(nn.GroupNorm):
    """A group norm that gives its shift where a group has a single value, which is its own mean.

    That is so at one cell and one channel a group, as in narrow decoders on the smallest images; torch's module refuses
    it even when nothing is trained, its operator does not.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, D, h, w) to the same shape."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def spare_single_groups(net: nn.Module) -> None:
    """Let torch's group norms in ``net`` take groups of a single value."""
    for module in net.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = SparingGroupNorm  # the same parameters, in their places


def spare_single_values(net: nn.Module) -> None:
    """Let the batch norms in ``net`` take their running statistics where a channel has a single value.

    Those of other classes than torch's own, such as timm's with their activation, are put into evaluation mode for such
    a pass.
    """
    for module in net.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SparingBatchNorm2d
        elif isinstance(module, _BatchNorm) and not isinstance(module, SparingBatchNorm2d):
            module.register_forward_pre_hook(_rest)
            module.register_forward_hook(_train_again, always_call=True)


_RESTING = "_rests_for_this_pass"


def _rest(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.training = False
        setattr(norm, _RESTING, True)


def _train_again(norm: nn.Module, _inputs: tuple[Any, ...], _output: object) -> None:
    if getattr(norm, _RESTING, False):
        setattr(norm, _RESTING, False)
        norm.training = True


def has_norms(net: nn.Module) -> bool:
    """Whether there is a batch norm in ``net``."""
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def synchronise(net: nn.Module) -> None:
    """Let the batch norms in ``net`` count over the images of all processes; on GPUs only."""
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]  # timm's own


_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_TABLES = ("relative_position_bias_table", "absolute_pos_embed", "pos_embed")
"""Learned tables of positions, which are not decayed."""


class Segmenter(nn.Module, ABC):
    """A network that gives each pixel a score for background and every class.

    An image in [0, 1] goes in as ``(image - mean) / std``, both per channel of RGB. Saved weights travel with
    ``settings`` and ``initial``, see `NetworkSettings.initial`. ``max_side`` and ``min_side`` bound the longest side of
    the images that it was trained on, where larger ones were shrunk and smaller ones enlarged to it. Without
    ``background`` its scores are of the classes alone, C where C + 1 are written below. Input sides are padded to a
    multiple of ``multiple``, and to ``least`` at least.
    """

    multiple: ClassVar[int] = 32
    least: int = 1

    def __init__(self, settings: NetworkSettings, n_labels: int, mean: RGB, std: RGB) -> None:
        super().__init__()
        self.settings, self.mean, self.std, self.n_labels = settings, mean, std, n_labels
        self.initial, self.background = settings.initial, True
        self.max_side: int | None = None
        self.min_side: int | None = None

    def sides(self) -> dict[str, int | None]:
        """What travels with its weights of the sizes of its images: the smallest only where there is one."""
        return {"max_side": self.max_side} | ({} if self.min_side is None else {"min_side": self.min_side})

    @property
    @abstractmethod
    def encoder(self) -> nn.Module:
        """The part that begins with pretrained weights."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Normalised images whose sides are multiples of ``multiple``, to logits at the images' size."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, C + 1, h, w), background first, of normalised RGB images (N, 3, H, W) of any size.

        Resized bilinearly to (H, W), they are those of the pixels.
        """
        height, width = images.shape[-2:]
        return self.logits(self.padded(images))[..., :height, :width]

    def padded(self, images: Tensor) -> Tensor:
        """Images filled up with 0, on the right and below, to multiples of ``multiple`` and at least to ``least``."""
        height, width = (max(-side % self.multiple, self.least - side) for side in images.shape[-2:])
        return F.pad(images, (0, width, 0, height))

    @abstractmethod
    def parts(self) -> list[nn.Module]:
        """All but the encoder."""

    def trained_norms(self) -> list[nn.Module]:
        """Parts whose batch norms learn statistics: all but an encoder that begins with pretrained ones."""
        return [*self.parts(), *([self.encoder] if self.settings.weights == "none" else [])]

    def train_outputs(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Weight and logits (N, C + 1, h, w) of every output that the loss sees, of the sizes that `grids` gives."""
        return [(1.0, self(images))]

    def grids(self, height: int, width: int) -> list[tuple[int, int]]:
        """Rows and columns (h, w) of each of the `train_outputs` of images of this size."""
        return [(height, width)]

    def parameter_groups(self, schedule: HeadScheduleSettings) -> list[dict[str, Any]]:
        """Encoder and the rest at their rates; scales and shifts of norms and tables of positions do not decay."""
        undecayed = {id(p) for m in self.modules() if isinstance(m, _NORMS) for p in m.parameters()}
        undecayed |= {id(p) for name, p in self.named_parameters() if name.endswith(_TABLES)}
        own = {id(p) for p in self.encoder.parameters()}
        rest = [p for p in self.parameters() if id(p) not in own]
        groups = []
        for parameters, rate in ((list(self.encoder.parameters()), schedule.lr), (rest, schedule.head_lr)):
            trained = [p for p in parameters if p.requires_grad]
            groups += [
                group([p for p in trained if id(p) not in undecayed], rate, schedule.weight_decay),
                group([p for p in trained if id(p) in undecayed], rate, 0.0),
            ]
        return [g for g in groups if g["params"]]


def group(parameters: Sequence[nn.Parameter], rate: float, decay: float) -> dict[str, Any]:
    """Parameters with their rate and weight decay, as torch's optimisers take them."""
    return {"params": list(parameters), "lr": rate, "weight_decay": decay}
