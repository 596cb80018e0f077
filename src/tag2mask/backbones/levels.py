"""Features of every depth of a network, for methods that look at fine and coarse detail together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tag2mask.backbones.resnet_irn import ResNet50Irn
from tag2mask.backbones.tagnet import TagNet
from tag2mask.backbones.timm_body import TimmBody
from tag2mask.core.errors import ConfigError

_PROBE = 128


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
    found: list[Tensor] = body.net.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]  # timm's method
    return found


@torch.no_grad()
def level_channels(net: TagNet) -> tuple[int, ...]:
    """Number of channels D_k of each level of a network, from running zeros; leaves its body in evaluation mode.

    Raises:
        ConfigError: timm cannot take the network's levels apart.
    """
    net.body.eval()
    try:
        levels = level_features(net.body, torch.zeros(1, 3, _PROBE, _PROBE))
    except (AttributeError, NotImplementedError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"backbone.name = '{net.settings.name}': timm gives only its last features, but those of every level are "
            f"needed ({error}). Choose another network, such as efficientnet_lite0, resnet50 or resnet50_irn"
        ) from error
    return tuple(level.shape[1] for level in levels)
