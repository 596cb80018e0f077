"""The boundary network: one logit a cell, from every level of a frozen backbone (IRN's class-boundary branch)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import read_about, read_saved, rebuild, write_weights
from tag2mask.backbones.levels import level_features, levels_of
from tag2mask.backbones.official_checkpoints import official_boundary
from tag2mask.backbones.settings import BackboneSettings, checkpoint_file
from tag2mask.backbones.state_dict import load_strict, read_state
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.resize import bilinear_part
from tag2mask.inference.multiscale import add_mirror, pair_features
from tag2mask.methods.irn.settings import STRIDE, Pad

_WIDTH, _GROUPS = 32, 4
_MULTIPLE = 16
_ENTRY = "boundary_backbone"


class BoundaryNet(nn.Module):
    """How likely a boundary between classes runs through each cell of the stride-4 grid.

    Each level: 1 x 1 convolution to 32 channels, group norm, bilinear to stride 4, ReLU; all together: 1 x 1
    convolution to one logit. The backbone is in evaluation mode always, and has no gradients.

    Args:
        net: gives the backbone; its head is not used.

    Attributes:
        settings: of the backbone.
        mean: channel means; an image in [0, 1] goes in as ``(image - mean) / std``.
        std: channel standard deviations.
        multiple: input sides are padded to a multiple of it, so that every level has whole cells.
        strides: input pixels per cell of each level.
    """

    def __init__(self, net: TagNet) -> None:
        super().__init__()
        self.settings, self.mean, self.std = net.settings, net.mean, net.std
        self.multiple = max(_MULTIPLE, net.stride)
        levels = levels_of(net.body, net.settings.name)
        self.strides = tuple(level.stride for level in levels)
        self.body = net.body.requires_grad_(False)
        self.reduce = nn.ModuleList(nn.Conv2d(level.channels, _WIDTH, 1, bias=False) for level in levels)
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, _WIDTH) for _ in levels)
        self.join = nn.Conv2d(_WIDTH * len(levels), 1, 1)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the branch; the backbone stays in evaluation mode."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, images: Tensor, pad: Pad = "cells") -> Tensor:
        """Boundary logits.

        Args:
            images: (N, 3, H, W), normalised, of any size.
            pad: what they are filled up to with 0, the mean colour, on the right and below: ``cells``, a multiple of
                `multiple`; 512, both sides, larger images to cells; ``none``. Nothing is ever cut.

        Returns:
            (N, 1, ceil(H / 4), ceil(W / 4)).
        """
        height, width = images.shape[-2:]
        padded = self._padded(images, pad)
        with torch.no_grad():
            levels = level_features(self.body, padded)
        size = -(-padded.shape[-2] // STRIDE), -(-padded.shape[-1] // STRIDE)
        parts = []
        for level, stride, reduce, norm in zip(levels, self.strides, self.reduce, self.norms, strict=True):
            part = _part(level, stride, size) if pad == "none" else (1.0, 1.0)  # else all cells are whole
            parts.append(bilinear_part(norm(reduce(level)), *size, part).relu())
        logits: Tensor = self.join(torch.cat(parts, dim=1))
        return logits[..., : -(-height // STRIDE), : -(-width // STRIDE)]

    def _padded(self, images: Tensor, pad: Pad) -> Tensor:
        if pad == "none":
            return images
        height, width = images.shape[-2:]
        side = pad if pad != "cells" and max(height, width) <= pad else 0
        missing = [side - n if side else -n % self.multiple for n in (width, height)]
        return F.pad(images, (0, missing[0], 0, missing[1]))

    def branch_parameters(self) -> list[nn.Parameter]:
        """What is trained: all but the backbone."""
        return [*self.reduce.parameters(), *self.norms.parameters(), *self.join.parameters()]


def _part(level: Tensor, stride: int, size: Sequence[int]) -> tuple[float, float]:
    """The shares of a level's rows and columns under a stride-4 grid of ``size``, each cell ``stride`` pixels wide."""
    rows, columns = (n * STRIDE / (cells * stride) for n, cells in zip(size, level.shape[-2:], strict=True))
    return rows, columns


def build_boundary(settings: BackboneSettings, n_classes: int = 1) -> BoundaryNet:
    """Build a boundary network on a backbone with its initial weights, laid out channels-last.

    The branch is drawn from torch's global generator.

    Args:
        settings: of the backbone.
        n_classes: of the data; matters only where the backbone's weights are a classifier's.
    """
    if settings.levels is not None:
        raise ConfigError(
            f"backbone.levels = {list(settings.levels)}: the boundary network reads every level of its backbone by "
            "itself; leave levels out of the stage of kind irn"
        )
    return BoundaryNet(build_network(settings, n_classes)).to(memory_format=torch.channels_last)


def boundary_map(net: BoundaryNet, image: Tensor, mirror: bool = True, pad: Pad = "cells") -> Tensor:
    """The probability of a boundary in each cell, from the image as it is and its mirror image.

    Args:
        net: in evaluation mode.
        image: (3, H, W), normalised, on the network's device.
        mirror: average the logits with those of the mirror image, flipped back.
        pad: what both are filled up to, on the right and below, see `BoundaryNet.forward`.

    Returns:
        (ceil(H / 4), ceil(W / 4)) float32 in [0, 1].
    """
    logits = next(pair_features(partial(net, pad=pad), [image], mirror=mirror)).float()
    return torch.sigmoid(add_mirror(logits)[0] / len(logits))


class _SavedBoundary(Settings):
    """What travels with a boundary network."""

    boundary_backbone: BackboneSettings


def save_boundary(net: BoundaryNet, path: Path) -> None:
    """Write a network; the bytes depend on its weights and settings alone."""
    write_weights(net, path, {_ENTRY: net.settings.model_copy(update={"weights": "none"}).model_dump()})


def load_boundary(path: Path) -> BoundaryNet:
    """Read a network that `save_boundary` wrote, in evaluation mode."""
    if _ENTRY not in read_about(path):
        raise WeightsError(f"{path} holds no boundary network, but another one; name the folder of a stage 'irn'")
    saved = read_saved(path, _SavedBoundary)
    settings = saved.boundary_backbone
    expected = f"the boundary network of '{settings.name}'"
    return rebuild(path, saved, settings.weights, lambda: build_boundary(settings), expected)


def load_official(path: Path, settings: BackboneSettings) -> BoundaryNet:
    """Read the class-boundary part of IRN's own ``res50_irn.pth``, in evaluation mode.

    Args:
        path: the file.
        settings: of the backbone, ``resnet50_irn``; its own weights are not read.
    """
    state = official_boundary(read_state(checkpoint_file(path)), str(path))
    with torch.random.fork_rng(devices=[]):
        net = build_boundary(settings.model_copy(update={"weights": "none"}))
    load_strict(net, state, str(path), f"the boundary network of '{settings.name}'")
    return net.eval()
