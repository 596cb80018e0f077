"""Batch norms folded into the convolutions before them: the same features with fewer passes over memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tag2mask.core.progress import LOG

Net = TypeVar("Net", bound=nn.Module)

_SIDE = 64
_AGREE = 1e-4
"""Largest difference of the folded features on noise, as a share of their largest value; rounding stays far below."""


def for_inference(net: Net, device: torch.device) -> Net:
    """A network made ready to compute maps: evaluation mode, on the device, channels-last, batch norms folded.

    Args:
        net: with a module ``body``, whose batch norms are folded where they can be; it is changed.
        device: where it computes.
    """
    net = net.eval()
    body: Any = net.body
    net.body = folded(body)
    return net.to(device).to(memory_format=torch.channels_last)


def folded(body: nn.Module) -> nn.Module:
    """A copy of ``body`` in evaluation mode with batch norms folded into convolutions; ``body`` where none can be.

    A batch norm of fixed statistics is a factor and a shift of each channel, which the weights and the bias of the
    convolution before it take over. Features stay the same up to rounding: the copy is tried on noise, and not used
    where it differs by more, as where a convolution changes its weights as it runs, or feeds something else too.

    Args:
        body: images (N, 3, H, W) to features.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in body.modules()):
        return body
    found = copy.deepcopy(body).eval()
    noise = torch.randn(2, 3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(body.parameters()).device)
    with torch.no_grad():
        pairs = norms_after(found, lambda: found(noise))
        names = {module: name for name, module in found.named_modules()}
        for conv, norm in pairs:
            _fold(conv, norm)
            parent, _, own = names[norm].rpartition(".")
            setattr(found.get_submodule(parent), own, getattr(norm, "act", nn.Identity()))
        difference = _difference(body, found, noise)
    if not difference <= _AGREE:  # NaN too
        LOG.info("batch norms stay as they are: folded, they change the features by %.2g", difference)
        return body
    return found


def norms_after(net: nn.Module, run: Callable[[], object]) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the batch norms that read what they give, each of which runs once when ``run`` runs ``net``."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    runs: dict[nn.Module, int] = {}

    def after(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = module, output  # held, so that no other tensor gets its id

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        runs[module] = runs.get(module, 0) + 1
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and id(inputs[0]) in outputs:
            found.append((outputs[id(inputs[0])][0], module))

    hooks = [
        m.register_forward_hook(after) if isinstance(m, nn.Conv2d) else m.register_forward_pre_hook(before)
        for m in net.modules()
        if isinstance(m, nn.Conv2d | nn.BatchNorm2d)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [(conv, norm) for conv, norm in found if runs[conv] == runs[norm] == 1]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _difference(body: nn.Module, other: nn.Module, images: Tensor) -> float:
    training = body.training
    expected, got = body.eval()(images), other(images)
    body.train(training)
    return float((expected - got).abs().max() / expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny))
