"""Norms at a single value, where torch refuses to go on, and batch norms in several processes."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class SparingBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that takes its running statistics where a channel has a single value.

    That is so in the pooled branches of many decoders with one image; torch would refuse to train.
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


def spare_single_values(net: nn.Module) -> None:
    """Let the batch norms in ``net`` take their running statistics where a channel has a single value; weights kept.

    Torch's own are replaced by `SparingBatchNorm2d`. Those of other classes, such as timm's with their activation, are
    put into evaluation mode for such a pass.
    """
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                other = SparingBatchNorm2d(child.num_features, child.eps, child.momentum)
                other.load_state_dict(child.state_dict())
                setattr(module, name, other)
            elif isinstance(child, _BatchNorm) and not isinstance(child, SparingBatchNorm2d):
                child.register_forward_pre_hook(_rest)
                child.register_forward_hook(_resume, always_call=True)


def spare_single_groups(net: nn.Module) -> None:
    """Replace torch's group norms in ``net`` by `SparingGroupNorm`, weights kept."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm:
                other = SparingGroupNorm(child.num_groups, child.num_channels, child.eps, child.affine)
                other.load_state_dict(child.state_dict())
                setattr(module, name, other)


_RESTING = "_rests_for_this_pass"


def _rest(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.training = False
        setattr(norm, _RESTING, True)


def _resume(norm: nn.Module, _inputs: tuple[Any, ...], _output: object) -> None:
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
