"""Segmentation networks from their settings and from files: built, checked before a run, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from tag2mask.backbones.files import read_about, read_saved, rebuild, saved_classes, write_weights
from tag2mask.backbones.tagnet import freeze_statistics
from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.segmentation.networks.base import Segmenter, spare_single_groups, spare_single_values
from tag2mask.segmentation.networks.deeplabv2 import DeepLabV2, check_caffe
from tag2mask.segmentation.networks.smp import LibrarySegmenter, check_bundled, check_decoder, check_file, encoder_name
from tag2mask.segmentation.networks.upernet import UperNet
from tag2mask.segmentation.settings import CAFFE, DEEPLAB, UPERNET, NetworkSettings

_ENTRY = "segmenter"
_NETWORKS: dict[str, Callable[[NetworkSettings, int], Segmenter]] = {DEEPLAB: DeepLabV2, UPERNET: UperNet}
"""Networks of our own; the others are the library's."""


def build_segmenter(settings: NetworkSettings, n_classes: int, background: bool = True) -> Segmenter:
    """Build a network for C ``n_classes``, and for a background beside them, with its first weights, channels-last.

    The head, and all else under ``weights: none``, is drawn from torch's global generator. Batch norms of an encoder
    that begins with pretrained weights keep its statistics.
    """
    if n_classes < 1:
        raise ConfigError(f"a network needs at least one class, got {n_classes}")
    net = _NETWORKS.get(settings.kind, LibrarySegmenter)(settings, n_classes + background)
    net.background = background
    spare_single_groups(net)
    for part in net.trained_norms():
        spare_single_values(part)
    if settings.weights != "none":
        freeze_statistics(net.encoder)
    return net.to(memory_format=torch.channels_last)


def check_network(settings: NetworkSettings) -> None:
    """Find what is wrong with a network and its first weights, without building it."""
    if settings.encoder != CAFFE:
        encoder_name(settings.encoder)
    check_decoder(settings)
    check_bundled(settings)
    if settings.encoder == CAFFE:
        check_caffe(settings)
    elif settings.is_file:
        check_file(settings)


class _SavedSegmenter(Settings):
    """What travels with a segmentation network."""

    segmenter: NetworkSettings
    initial: Literal["imagenet", "coco", "timm", "none"]
    max_side: int | None = Field(ge=1)
    min_side: int | None = Field(default=None, ge=1)
    classes: tuple[str, ...]
    background: bool = True


def save_segmenter(net: Segmenter, path: Path, classes: tuple[str, ...]) -> None:
    """Write a network for the C classes as .safetensors.

    The bytes depend on its weights, settings, classes, size of photos and kind of first weights. The file of those is
    not named: a path would reveal the machine.
    """
    settings = net.settings.model_copy(update={"weights": "none", "pretrained": None})
    about = {
        _ENTRY: settings.model_dump(), "initial": net.initial, **net.sides(), "classes": list(classes),
    }  # fmt: skip
    if not net.background:
        about["background"] = False
    write_weights(net, path, about)


def load_segmenter(path: Path) -> tuple[Segmenter, tuple[str, ...]]:
    """Read a network that `save_segmenter` wrote, in evaluation mode, and its C class names; nothing is downloaded."""
    if _ENTRY not in read_about(path):
        raise WeightsError(f"{path} holds no segmentation network, but another one; name the weights of a 'segmenter'")
    saved = read_saved(path, _SavedSegmenter)
    classes, settings = saved_classes(saved.classes, path), saved.segmenter

    def build() -> Segmenter:
        with torch.random.fork_rng(devices=[]):
            return build_segmenter(settings, len(classes), saved.background)

    expected = f"'{settings.kind}' on '{settings.encoder}', {len(classes)} classes"
    net = rebuild(path, saved, settings.weights, build, expected)
    net.initial, net.max_side, net.min_side = saved.initial, saved.max_side, saved.min_side
    return net, classes
