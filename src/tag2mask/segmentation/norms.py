"""Batch norms that are trained: at one value a channel, and in several processes."""

from __future__ import annotations

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


def spare_single_values(net: nn.Module) -> None:
    """Replace torch's batch norms in ``net`` by `SparingBatchNorm2d`, weights kept."""
    for module in net.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                other = SparingBatchNorm2d(child.num_features, child.eps, child.momentum)
                other.load_state_dict(child.state_dict())
                setattr(module, name, other)


def has_norms(net: nn.Module) -> bool:
    """Whether there is a batch norm in ``net``."""
    return any(isinstance(module, _BatchNorm) for module in net.modules())


def synchronise(net: nn.Module) -> None:
    """Let the batch norms in ``net`` count over the images of all processes; on GPUs only."""
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]  # timm's own
