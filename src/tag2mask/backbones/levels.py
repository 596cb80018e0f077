"""Features of every depth of a network, for methods that look at fine and coarse detail together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tag2mask.backbones.resnets import ResNet50Irn
from tag2mask.backbones.tagnet import TagNet
from tag2mask.backbones.timm_body import TimmBody
from tag2mask.core.errors import ConfigError

_PROBE = 128
_STAGES = 4
_MAP = 4
"""Axes of a feature map."""


def level_features(body: nn.Module, images: Tensor) -> list[Tensor]:
    """Features of every level, from fine to coarse.

    Args:
        body: of a `TagNet`.
        images: (N, 3, H, W), normalised.

    Returns:
        (N, D_k, h_k, w_k) for each level k. Of ``resnet50_irn`` the five of IRN: after the first pooling (64 channels,
        stride 4) and after each stage (256, 512, 1024, 2048 at strides 4, 8, 16, 16). Of timm's networks those that
        ``features_only`` gives, which are at most five or six from stride 1, 2 or 4 on.
    """
    if isinstance(body, ResNet50Irn):
        levels = [body.maxpool(body.relu(body.bn1(body.conv1(images))))]
        for stage in body.stages():
            levels.append(stage(levels[-1]))
        return levels
    assert isinstance(body, TimmBody)  # there are two kinds of body
    whole = body.filled(images)
    found: list[Tensor] = body.net.forward_intermediates(whole, intermediates_only=True)  # type: ignore[operator]  # timm's method
    return found


@dataclass(frozen=True, slots=True)
class Level:
    """One of the maps that `level_features` gives.

    Attributes:
        channels: D_k.
        stride: input pixels per cell.
    """

    channels: int
    stride: int


@torch.no_grad()
def levels_of(net: TagNet) -> tuple[Level, ...]:
    """The levels of a network, from running zeros; leaves its body in evaluation mode."""
    net.body.eval()
    try:
        levels = level_features(net.body, torch.zeros(1, 3, _PROBE, _PROBE))
    except (AttributeError, NotImplementedError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"backbone.name = '{net.settings.name}': timm gives only its last features, but those of every level are "
            f"needed ({error}). Choose another network, such as efficientnet_lite0, resnet50 or resnet50_irn"
        ) from error
    return tuple(Level(level.shape[1], round(_PROBE / level.shape[2])) for level in levels)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage of a network ends.

    Attributes:
        stage: 1 to 3; the last one, 4, is the network's own output.
        module: dotted name, in the network's body, of the module whose output it is.
        channels: of that output.
    """

    stage: int
    module: str
    channels: int


def stage_places(net: TagNet, stages: Sequence[int]) -> tuple[Place, ...]:
    """Where stages end: of four, which are the ends of the last four resolutions or blocks of a network.

    For ``resnet50_irn`` these are its four stages. For timm's networks they are the last four entries of timm's own
    list of features, at strides 4, 8, 16 and 32 of the network as it was published; the last entry is taken at the
    network's output instead (behind EfficientNet's last convolution).

    Args:
        net: the network; its body is left in evaluation mode.
        stages: numbers of 1 to 3.
    """
    names = _stage_modules(net.body)
    places = []
    for stage in stages:
        channels = _output_channels(net.body, names[stage - 1]) if len(names) == _STAGES else None
        if channels is None:
            raise ConfigError(
                f"backbone.name = '{net.settings.name}': the end of its stage {stage} cannot be found, so its features "
                "cannot be conditioned there. Condition the last features (condition=[4]), or choose another network, "
                "such as efficientnet_lite0, resnet50 or resnet50_irn"
            )
        places.append(Place(stage, names[stage - 1], channels))
    return tuple(places)


def _stage_modules(body: nn.Module) -> list[str]:
    """Dotted names in a body of the modules that end its stages; fewer than four where there are no such."""
    if isinstance(body, ResNet50Irn):
        return [f"layer{number}" for number in range(1, _STAGES + 1)]
    assert isinstance(body, TimmBody)  # there are two kinds of body
    info: Any = [] if body.channels_last else getattr(body.net, "feature_info", [])
    names = [f"net.{entry['module']}" for entry in getattr(info, "info", info)]
    return names[-_STAGES:]


@torch.no_grad()
def _output_channels(body: nn.Module, name: str) -> int | None:
    """Channels of a module's output as the body runs; None where it is not there, or gives no one map of features."""
    module = dict(body.named_modules()).get(name)
    if module is None:
        return None
    seen: list[object] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        body.eval()(torch.zeros(1, 3, _PROBE, _PROBE))
    finally:
        handle.remove()
    (found,) = seen if len(seen) == 1 else (None,)
    return found.shape[1] if isinstance(found, Tensor) and found.dim() == _MAP else None
