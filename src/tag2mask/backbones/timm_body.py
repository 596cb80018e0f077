"""Any timm network: with a spatial feature map, checked by a dry run, or a transformer whose patches make up a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import RGB, Body
from tag2mask.core.errors import ConfigError, WeightsError, nearest

ALIASES = {"efficientnet_lite0": "tf_efficientnet_lite0"}
"""Our name -> timm's, where they differ."""
_STRIDES = (4, 8, 16, 32)
_ODD, _EVEN = (101, 133), (128, 192)
_SMALL = (1, 2, 4, 8, 16, 32, 64)
_REFUSALS = (AssertionError, TypeError, ValueError, RuntimeError, NotImplementedError, KeyError, AttributeError)
"""What timm raises where a network cannot be built or run as requested."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What a transformer makes of some images.

    Attributes:
        patches: (N, h w, D), in raster order.
        grid: (h, w), rows and columns of patches.
        prefix: (N, P, D), the tokens that belong to no patch, in the network's order: class tokens, registers.
    """

    patches: Tensor
    grid: tuple[int, int]
    prefix: Tensor

    def as_map(self) -> Tensor:
        """The patches as features (N, D, h, w)."""
        n, _, channels = self.patches.shape
        return self.patches.transpose(1, 2).reshape(n, channels, *self.grid)


class TokenBody(nn.Module):
    """A timm vision transformer without head, for images of any size; `forward` gives the map of its patches.

    Images are filled up to whole patches with 0, the mean colour, on the right and below.

    Args:
        net: made with ``dynamic_img_size=True``, which resizes its table of positions to the image.

    Attributes:
        net: the same; whoever needs class tokens of its own, or attention, goes through ``net.blocks``.
        patch: (height, width) of a patch in pixels.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.patch: tuple[int, int] = tuple(net.patch_embed.patch_size)
        self._n_prefix = int(net.num_prefix_tokens)

    def tokens(self, images: Tensor) -> Tokens:
        """Normalised images (N, 3, H, W) to their tokens after the last norm, ceil(H / patch) rows of them."""
        height, width = (-(-side // patch) for side, patch in zip(images.shape[-2:], self.patch, strict=True))
        rest = (width * self.patch[1] - images.shape[-1], height * self.patch[0] - images.shape[-2])
        found = self.net.forward_features(F.pad(images, (0, rest[0], 0, rest[1])))
        return Tokens(found[:, self._n_prefix :], (height, width), found[:, : self._n_prefix])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to the features of their patches, (N, D, h, w)."""
        return self.tokens(images).as_map()


class TimmBody(nn.Module):
    """A timm network without head, as images (N, 3, H, W) to features (N, D, h, w).

    Attributes:
        least: smallest sides that the network takes; smaller images are filled up to it.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        self.least = 1

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to the last features before pooling, (N, D, h, w)."""
        features: Tensor = self.net.forward_features(self.filled(images))  # type: ignore[operator]  # timm's method, unknown to nn.Module
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    def filled(self, images: Tensor) -> Tensor:
        """Images filled up to ``least`` with 0, the mean colour, on the right and below; large enough ones as they are.

        Networks that begin with patches, such as ConvNeXt, have nothing left of an image smaller than their stride.
        """
        height, width = (max(0, self.least - side) for side in images.shape[-2:])
        return F.pad(images, (0, width, 0, height)) if height or width else images


def timm_name(name: str, setting: str = "backbone.name", what: str = "network", own: str = "resnet50_irn") -> str:
    """Name of a network in timm's own lists.

    Names with a source (``hf-hub:…``, ``local-dir:…``) and paths, which timm would look for elsewhere, are not there.

    Args:
        name: as given.
        setting: that gives it, for the error text.
        what: the name stands for, for the error text.
        own: network of ours that the setting knows beside timm's.
    """
    known = ALIASES.get(name, name)
    if not timm.is_model(known):
        near = nearest(name, [*timm.list_models(), *ALIASES, own])
        hint = f"did you mean '{near}'? " if near else ""
        raise ConfigError(
            f"{setting} = '{name}': unknown {what}; {hint}"
            f'Known: efficientnet_lite0, {own} and timm\'s: python -c "import timm; print(timm.list_models())"'
        )
    if "." in known:
        try:
            timm.get_pretrained_cfg(known, allow_unregistered=False)
        except RuntimeError as error:
            raise ConfigError(
                f"{setting} = '{name}', {what} '{known}': {error} Leave out what is behind the dot"
            ) from error
    return known


def timm_body(settings: BackboneSettings) -> Body:
    """Build a timm network without head, with random weights."""
    name = timm_name(settings.name)
    if settings.detach_after:
        raise ConfigError(f"backbone.detach_after = {settings.detach_after}: only resnet50_irn has it; leave it out")
    try:
        net = _create(name, settings.stride)
    except _REFUSALS as error:
        raise ConfigError(_stride_text(settings, name) if settings.stride else f"network '{name}': {error}") from error
    body = TimmBody(net)
    channels, stride = _dry_run(body, settings.name)
    if settings.stride not in (None, stride):
        raise ConfigError(_stride_text(settings, name))
    mean, std = (_rgb(net.pretrained_cfg[key]) for key in ("mean", "std"))
    return Body(body, channels, stride, mean, std)


def token_body(settings: BackboneSettings) -> Body:
    """Build a timm vision transformer without head for images of any size, with random weights; see `TokenBody`."""
    name = timm_name(settings.name)
    try:
        net: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="", dynamic_img_size=True)
        body = TokenBody(net)
    except _REFUSALS as error:
        raise ConfigError(
            f"backbone.name = '{settings.name}': it gives no tokens for images of any size ({error}). Choose a vision "
            "transformer, such as vit_small_patch16_224"
        ) from error
    mean, std = (_rgb(net.pretrained_cfg[key]) for key in ("mean", "std"))
    return Body(body, int(net.num_features), body.patch[0], mean, std)


def timm_state(name: str) -> dict[str, Tensor]:
    """The pretrained weights of timm for a network without its head, downloaded or out of its cache."""
    try:
        net = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # each of timm's ways to download has its own exceptions
        raise WeightsError(
            f"weights 'timm' for '{name}' cannot be loaded: {error}. Give a local file "
            f"in the same setting, weights=FILE.safetensors (network.weights wants network.pretrained beside it), or "
            f"weights=none to train from random weights"
        ) from error
    return dict(net.state_dict())


def _create(name: str, stride: int | None) -> Any:
    """A timm network with random weights; timm's networks share no static type."""
    options: dict[str, Any] = {} if stride is None else {"output_stride": stride}
    return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)


@torch.no_grad()
def _dry_run(body: TimmBody, name: str) -> tuple[int, int]:
    """Number of channels and stride, from running zeros of two sizes; and the smallest images that the body takes."""
    body.eval()
    try:
        odd, even = (body(torch.zeros(1, 3, *size)) for size in (_ODD, _EVEN))
    except _REFUSALS as error:
        raise ConfigError(
            f"backbone.name = '{name}': it does not take images of any size, which training crops and scales need "
            f"({error}). Choose a convolutional network, such as efficientnet_lite0 or resnet50"
        ) from error
    if odd.ndim != 4 or even.ndim != 4:
        raise ConfigError(
            f"backbone.name = '{name}': its features have shape {tuple(even.shape)}, not a spatial map (N, D, h, w). "
            f"Choose a convolutional network, such as efficientnet_lite0 or resnet50"
        )
    body.least = _least(body)
    body.train()
    return int(even.shape[1]), round(_EVEN[0] / int(even.shape[2]))


def _least(body: TimmBody) -> int:
    """Smallest side of an image, a power of two, that a body in evaluation mode has any features of."""
    for side in _SMALL:
        try:
            if body(torch.zeros(1, 3, side, side)).numel():
                return side
        except _REFUSALS:
            continue
    return min(_ODD)


def _stride_text(settings: BackboneSettings, name: str) -> str:
    """Error text that names the strides the network can have."""
    possible = [str(s) for s in _STRIDES if _has_stride(name, s)]
    if not possible:
        possible = [f"{_dry_run(TimmBody(_create(name, None)), name)[1]} (its own: stride=null)"]
    return f"backbone.stride = {settings.stride}: '{settings.name}' cannot have it; possible: {', '.join(possible)}"


def _has_stride(name: str, stride: int) -> bool:
    try:
        return _dry_run(TimmBody(_create(name, stride)), name)[1] == stride
    except (*_REFUSALS, ConfigError):
        return False


def _rgb(values: Any) -> RGB:
    """Three channel values as plain floats."""
    red, green, blue = (float(v) for v in values)
    return red, green, blue
