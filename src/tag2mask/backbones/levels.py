"""Features of every depth of a network, for methods that look at fine and coarse detail together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.resnets import ResNet50Irn
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import Body, Joins, TagNet
from tag2mask.backbones.timm_body import TimmBody
from tag2mask.core.errors import ConfigError

_PROBE = 128
_STAGES = 4
_MAP = 4
"""Axes of a feature map."""


def level_features(body: nn.Module, images: Tensor, take: Sequence[int] | None = None) -> list[Tensor]:
    """Features of every level, from fine to coarse.

    Args:
        body: of a `TagNet` without joined levels.
        images: (N, 3, H, W), normalised.
        take: indices of the levels wanted, ascending; None for all. What comes after the last of them is not computed.

    Returns:
        (N, D_k, h_k, w_k) for each level k. Of ``resnet50_irn`` the five of IRN: after the first pooling (64 channels,
        stride 4) and after each stage (256, 512, 1024, 2048 at strides 4, 8, 16, 16). Of timm's networks those that
        ``features_only`` gives, which are at most five or six from stride 1, 2 or 4 on.
    """
    if isinstance(body, ResNet50Irn):
        levels = [body.maxpool(body.relu(body.bn1(body.conv1(images))))]
        for stage in body.stages()[: None if take is None else take[-1]]:
            levels.append(stage(levels[-1]))
        return levels if take is None else [levels[index] for index in take]
    assert isinstance(body, TimmBody)  # there are two kinds of body
    whole = body.filled(images)
    some: dict[str, Any] = {} if take is None else {"indices": list(take), "stop_early": True}
    found: list[Tensor] = body.net.forward_intermediates(whole, intermediates_only=True, **some)  # type: ignore[operator]  # timm's method
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
def levels_of(body: nn.Module, name: str) -> tuple[Level, ...]:
    """The levels of the body of a network of some name, from running zeros; leaves it in evaluation mode."""
    body.eval()
    try:
        levels = level_features(body, torch.zeros(1, 3, _PROBE, _PROBE))
    except (AttributeError, NotImplementedError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"backbone.name = '{name}': timm gives only its last features, but those of every level are "
            f"needed ({error}). Choose another network, such as efficientnet_lite0, resnet50 or resnet50_irn"
        ) from error
    return tuple(Level(level.shape[1], round(_PROBE / level.shape[2])) for level in levels)


class JoinedBody(nn.Module):
    """Levels of a network, joined: each through its own 1 x 1 convolution, brought to one grid and added, then a ReLU.

    The levels keep the network's own strides, and what comes after the last of them is not there. The ReLU makes the
    features non-negative, as those are of which CAM and LPCAM were made: a similarity to prototypes then says how much
    of the same is there, and a cell where nothing is has no direction at all instead of a random one. Without it the
    whole would also be a linear map of the levels, in which a fine one cannot depend on what a coarse one sees.

    Args:
        trunk: the network's body.
        levels: those that are joined, fine to coarse.
        take: their indices among the levels of ``trunk``.
        stride: of the grid, that of one of the levels.
        channels: D of the joined features.

    Attributes:
        trunk: as given.
        joins: the convolutions.
    """

    def __init__(
        self, trunk: nn.Module, levels: Sequence[Level], take: Sequence[int], stride: int, channels: int
    ) -> None:
        super().__init__()
        self.trunk, self.take = trunk, tuple(take)
        self.joins = Joins(nn.Conv2d(level.channels, channels, 1) for level in levels)
        self._finer = [level.stride < stride for level in levels]
        self._at = next(i for i, level in enumerate(levels) if level.stride == stride)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to non-negative features (N, channels, h, w) on the grid."""
        return self._joined(level_features(self.trunk, images, self.take))

    def apart(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The joined features, as `forward` gives them, and the levels that they were joined of.

        Joining keeps what tells the classes apart and little of what tells the parts of a thing apart, which a method
        of similarities lives on. Each level is brought to the grid and to unit length in every cell, so that none is
        heard for its scale, and they stand side by side.

        Args:
            images: (N, 3, H, W), normalised.

        Returns:
            (N, channels, h, w), and (N, sum of the levels' channels, h, w) of unit length, but where all are zero.
        """
        found = level_features(self.trunk, images, self.take)
        return self._joined(found), self._beside(found)

    def beside(self, images: Tensor) -> Tensor:
        """The second of what `apart` gives, for less."""
        return self._beside(level_features(self.trunk, images, self.take))

    def _beside(self, found: Sequence[Tensor]) -> Tensor:
        size = self._grid(found)
        units = [F.normalize(_brought(level, size, finer)) for level, finer in zip(found, self._finer, strict=True)]
        together: Tensor = torch.cat(units, 1) / len(units) ** 0.5
        return together

    def _grid(self, found: Sequence[Tensor]) -> tuple[int, int]:
        height, width = found[self._at].shape[-2:]
        return height, width

    def _joined(self, found: Sequence[Tensor]) -> Tensor:
        size, parts = self._grid(found), []
        for level, join, finer in zip(found, self.joins, self._finer, strict=True):
            # The mean of the cells under one first: a 1 x 1 convolution of a mean is the mean of its results.
            parts.append(join(_brought(level, size, finer)) if finer else _brought(join(level), size, finer))
        return torch.stack(parts).sum(0).relu()


def _brought(level: Tensor, size: tuple[int, int], finer: bool) -> Tensor:
    """A level on the common grid: means of the cells of a finer one, a coarser one in between its cells."""
    if finer:
        return F.adaptive_avg_pool2d(level, size)
    return level if level.shape[-2:] == size else F.interpolate(level, size, mode="bilinear")


def joined_body(body: Body, settings: BackboneSettings) -> Body:
    """A body whose features are levels of another one, joined as the settings say; the joins are random."""
    assert settings.levels is not None  # the caller has looked
    levels = levels_of(body.module, settings.name)
    body.module.train()
    known = {level.stride: index for index, level in enumerate(levels)}  # of several of one stride the deepest
    lacking = [stride for stride in settings.levels if stride not in known]
    if lacking:
        possible = ", ".join(map(str, sorted(known)))
        raise ConfigError(
            f"backbone.levels = {list(settings.levels)}: '{settings.name}' has no level of stride "
            f"{', '.join(map(str, lacking))}; possible: {possible}"
        )
    take = [known[stride] for stride in settings.levels]
    chosen = [levels[index] for index in take]
    joined = JoinedBody(body.module, chosen, take, settings.join_stride, settings.join_channels)
    return Body(joined, settings.join_channels, settings.join_stride, body.mean, body.std)


def freeze_up_to(body: nn.Module, stride: int, name: str) -> None:
    """Leave untrained what the level of a stride is made of; of several of that stride the deepest.

    What an ImageNet network's first stages see, edges and colours, serves other photographs as it is, and training
    them costs most of a step: their maps are the largest.

    Args:
        body: of a network; of joined levels the trunk is meant.
        stride: of the level, input pixels per cell.
        name: of the network, for the error text.
    """
    trunk = body.trunk if isinstance(body, JoinedBody) else body
    strides = [level.stride for level in levels_of(trunk, name)]
    if stride not in strides:
        possible = ", ".join(map(str, sorted(set(strides))))
        raise ConfigError(f"backbone.freeze = {stride}: '{name}' has no level of that stride; possible: {possible}")
    index = max(i for i, one in enumerate(strides) if one == stride)
    noise = torch.randn(1, 3, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():
        level_features(trunk, noise, [index])[0].sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    for parameter in trunk.parameters():
        parameter.requires_grad_(parameter.requires_grad and parameter.grad is None)
        parameter.grad = None
    body.train()


def drop_unused(body: JoinedBody) -> None:
    """Leave out what the joined levels do not need: it would be trained by nothing, saved, and waited for.

    A module that does not run is replaced by nothing; where the features are not the same then, as where a network
    reads weights of a module without running it, all stays, and what gets no gradient is not trained.
    """
    noise = torch.randn(1, 3, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(body.parameters()).device)
    body.eval()
    ran: set[nn.Module] = set()
    hooks = [m.register_forward_pre_hook(lambda module, _inputs: ran.add(module)) for m in body.modules()]
    try:
        with torch.no_grad():
            before = body(noise)
    finally:
        for hook in hooks:
            hook.remove()
    dropped = list(_idle(body.trunk, ran))
    for parent, name, _ in dropped:
        setattr(parent, name, nn.Identity())
    if not _same(body, noise, before):
        for parent, name, module in dropped:
            setattr(parent, name, module)
        _freeze_idle(body, noise)
    body.train()


def _idle(module: nn.Module, ran: set[nn.Module]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """The outermost modules with weights of which no part has run: parent, name there, module."""
    for name, child in module.named_children():
        if not any(part in ran for part in child.modules()):
            if any(True for _ in child.parameters()):
                yield module, name, child
        else:
            yield from _idle(child, ran)


@torch.no_grad()
def _same(body: nn.Module, images: Tensor, expected: Tensor) -> bool:
    try:
        return bool(torch.equal(body(images), expected))
    except (AttributeError, TypeError):
        return False


def _freeze_idle(body: nn.Module, images: Tensor) -> None:
    with torch.enable_grad():
        body(images).sum().backward()
    for parameter in body.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None


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
    if isinstance(body, JoinedBody):
        return [f"trunk.{name}" for name in _stage_modules(body.trunk)]
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
