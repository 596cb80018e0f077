"""AMN's network (eq. 2): features times a code of the tags, then a dilated head over background and classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.dilated import dilated_convs, dilated_sum, each
from tag2mask.backbones.files import read_about, read_saved, rebuild, saved_classes, write_weights
from tag2mask.backbones.hooks import evaluating
from tag2mask.backbones.levels import Place, stage_places
from tag2mask.backbones.official_checkpoints import official_amn
from tag2mask.backbones.settings import RESNET50_IRN, BackboneSettings, checkpoint_file
from tag2mask.backbones.state_dict import load_strict, read_state
from tag2mask.backbones.tagnet import RGB, trained_parameters
from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.methods.amn.settings import LAST, AmnSettings

EXPECTED = "AMN's res50_amn.pth"
_ENTRY = "amn"
_REBUILDS = {"backbone", "condition", "dropout"}
"""What of the settings a network is rebuilt from."""


class DilatedHead(nn.Module):
    """The sum of four dilated 3 x 3 convolutions (atrous spatial pyramid pooling).

    Args:
        channels: D of the features.
        n_labels: C + 1.
    """

    def __init__(self, channels: int, n_labels: int) -> None:
        super().__init__()
        self.convs = dilated_convs(channels, n_labels)

    def dilated(self) -> list[nn.Conv2d]:
        """The convolutions, the smallest rate first."""
        return each(self.convs)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, D, h, w) to logits (N, C + 1, h, w)."""
        return dilated_sum(self.dilated(), features)


class AmnNet(nn.Module):
    """Logits of background and classes for each cell, from an image and its tags.

    Args:
        body: images (N, 3, H, W) to features (N, channels, h, w).
        channels: D of its features.
        n_classes: C, at least 1.
        condition: stages whose features are multiplied by a code of the tags; 4 are the last features.
        places: where stages 1 to 3 of ``condition`` end in ``body``, ascending.
        dropout: share of features that training sets to 0; none in evaluation mode.

    Attributes:
        n_classes: C, of which background is none.
        codes: for each conditioned stage, a linear layer from the tags to its channels.
        head: the four convolutions.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: int,
        n_classes: int,
        condition: Sequence[int] = (LAST,),
        places: Sequence[Place] = (),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.body, self.places, self.n_classes = body, tuple(places), n_classes
        sizes = {place.stage: place.channels for place in places} | ({LAST: channels} if LAST in condition else {})
        self.codes = nn.ModuleDict({str(stage): nn.Linear(n_classes, size) for stage, size in sizes.items()})
        self.dropout = nn.Dropout(dropout)
        self.head = DilatedHead(channels, n_classes + 1)

    def features(self, images: Tensor, tags: Tensor) -> Tensor:
        """The last features (N, D, h, w), conditioned; images (N, 3, H, W) normalised, tags (N, C) 0 and 1."""
        with ExitStack() as hooks:
            for place in self.places:
                module, code = self.body.get_submodule(place.module), self._code(place.stage, tags)
                handle = module.register_forward_hook(lambda _module, _inputs, output, code=code: output * code)
                hooks.callback(handle.remove)
            features: Tensor = self.body(images)
        return features * self._code(LAST, tags) if str(LAST) in self.codes else features

    def forward(self, images: Tensor, tags: Tensor) -> Tensor:
        """Logits (N, C + 1, h, w), background first; images (N, 3, H, W) normalised, tags (N, C) 0 and 1 in float."""
        logits: Tensor = self.head(self.dropout(self.features(images, tags)))
        return logits

    def grid(self, height: int, width: int, channels: int = 3) -> tuple[int, int]:
        """Rows and columns of the logits of a (height, width) image of some channels, from running zeros."""
        image = next(self.head.parameters()).new_zeros(1, channels, height, width)
        with evaluating(self.body):
            features: Tensor = self.body(image)
        return features.shape[2], features.shape[3]

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the backbone that are trained, but for joins of levels, which begin at random."""
        return trained_parameters(self.body)[0]

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the label codes and of the head, and joins of levels in the backbone."""
        return [*trained_parameters(self.body)[1], *self.codes.parameters(), *self.head.parameters()]

    def _code(self, stage: int, tags: Tensor) -> Tensor:
        code: Tensor = self.codes[str(stage)](tags)
        return code[:, :, None, None]


class BackboneAmn(AmnNet):
    """AMN on a network of ours, which can be saved and loaded.

    Args:
        settings: backbone, conditioned stages, dropout.
        n_classes: C.

    Attributes:
        settings: as given; travels with saved weights.
        mean: channel means; an image in [0, 1] goes in as ``(image - mean) / std``.
        std: channel standard deviations.
    """

    mean: RGB
    std: RGB

    def __init__(self, settings: AmnSettings, n_classes: int) -> None:
        net = build_network(_trained_whole(settings.backbone), n_classes)
        inner = [stage for stage in settings.condition if stage != LAST]
        places = stage_places(net, inner) if inner else ()
        channels = net.head.in_channels
        super().__init__(net.body, channels, n_classes, settings.condition, places, settings.dropout)
        self.settings, self.mean, self.std, self.stride = settings, net.mean, net.std, net.stride
        self.to(memory_format=torch.channels_last)


def build_amn(settings: AmnSettings, n_classes: int) -> BackboneAmn:
    """Build AMN on a backbone with its initial weights, laid out channels-last.

    Label code and head are drawn from torch's global generator.
    """
    check_smoothing(settings.smoothed(n_classes), n_classes)
    return BackboneAmn(settings, n_classes)


def check_smoothing(smoothing: float, n_classes: int) -> None:
    """Refuse targets in which the label has no larger share than the other classes."""
    largest = n_classes / (n_classes + 1)
    if smoothing >= largest:
        raise ConfigError(
            f"smoothing = {smoothing:g} leaves a pixel's label no larger share of the target than each other label, of "
            f"{n_classes + 1} with the background: expected less than {largest:.3g}"
        )


def plain_weights(net: AmnNet) -> Tensor:
    """A linear classifier (C, D) that stands for code and head: the logit of a class on a field of equal features.

    ``w_c = h(e_c) * sum of the weights of g for c over rates and taps`` (eq. 2), e_c the tags of an image with class c
    alone; the code is 1 without conditioning. Biases and the edge of the image are left out.
    """
    if net.places:
        raise ConfigError(
            f"condition = {sorted(int(stage) for stage in net.codes)}: features that the tags change on their way "
            f"belong to no classifier; train AMN with condition=[{LAST}] or []"
        )
    with torch.no_grad():
        weights = torch.stack([conv.weight.sum((2, 3)) for conv in net.head.dilated()]).sum(0)[1:]
        if str(LAST) in net.codes:
            weights = weights * net.codes[str(LAST)](torch.eye(len(weights), device=weights.device))
    return weights


def _trained_whole(backbone: BackboneSettings) -> BackboneSettings:
    """The published network trains all its stages; elsewhere ``detach_after`` null is what it is."""
    if backbone.name == RESNET50_IRN and backbone.detach_after is None:
        return backbone.model_copy(update={"detach_after": 0})
    return backbone


class _SavedAmn(Settings):
    """What travels with AMN's network."""

    amn: AmnSettings
    classes: tuple[str, ...]


def save_amn(net: BackboneAmn, path: Path, classes: Sequence[str]) -> None:
    """Write a network; the bytes depend on its weights, settings and classes alone."""
    about = net.settings.model_dump(mode="json", include=_REBUILDS)
    about["backbone"]["weights"] = "none"
    write_weights(net, path, {_ENTRY: about, "classes": list(classes)})


def load_amn(path: Path) -> tuple[BackboneAmn, tuple[str, ...]]:
    """Read a network that `save_amn` wrote, in evaluation mode.

    Returns:
        The network and its class names.
    """
    if _ENTRY not in read_about(path):
        raise WeightsError(f"{path} holds no AMN, but another network; name the folder of a stage 'amn'")
    saved = read_saved(path, _SavedAmn)
    classes, backbone = saved_classes(saved.classes, path), saved.amn.backbone
    expected = f"AMN on '{backbone.name}' with {len(classes)} classes"
    return rebuild(path, saved, backbone.weights, lambda: BackboneAmn(saved.amn, len(classes)), expected), classes


def load_official(path: Path, settings: AmnSettings, n_classes: int) -> BackboneAmn:
    """Read AMN's own ``res50_amn.pth``, in evaluation mode.

    Args:
        path: the file.
        settings: of the network, ``resnet50_irn``; the backbone's own weights are not read.
        n_classes: of the data.
    """
    state = official_amn(read_state(checkpoint_file(path, EXPECTED)), str(path))
    code = state.get("codes.4.weight")
    if code is not None and code.dim() == 2 and code.shape[1] != n_classes:
        raise WeightsError(
            f"{path} has {code.shape[1]} classes, the data has {n_classes}. Use a checkpoint trained on these classes, "
            "or set data.classes to the checkpoint's"
        )
    backbone = settings.backbone.model_copy(update={"weights": "none"})
    with torch.random.fork_rng(devices=[]):
        net = BackboneAmn(settings.model_copy(update={"backbone": backbone}), n_classes)
    load_strict(net, state, str(path), f"AMN on '{backbone.name}' with {n_classes} classes")
    return net.eval()
