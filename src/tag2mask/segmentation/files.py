"""A segmentation network as one safetensors file: weights, settings and class names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from tag2mask.backbones.files import read_about, read_saved, rebuild, saved_classes, write_weights
from tag2mask.config.settings import Settings
from tag2mask.core.errors import WeightsError
from tag2mask.segmentation.build import build_segmenter
from tag2mask.segmentation.network import Segmenter
from tag2mask.segmentation.settings import NetworkSettings

WEIGHTS = "weights.safetensors"
_ENTRY = "segmenter"


class _SavedSegmenter(Settings):
    """What travels with a segmentation network."""

    segmenter: NetworkSettings
    initial: Literal["imagenet", "coco", "timm", "none"]
    max_side: int | None = Field(ge=1)
    classes: tuple[str, ...]


def save_segmenter(net: Segmenter, path: Path, classes: tuple[str, ...]) -> None:
    """Write a network; the bytes depend on its weights, settings, classes, size of photos and kind of first weights.

    The file of the first weights is not named: a path would tell about the machine.

    Args:
        net: the network.
        path: the .safetensors file.
        classes: C names, without the background.

    Raises:
        StageError: the file cannot be written.
    """
    settings = net.settings.model_copy(update={"weights": "none", "pretrained": None})
    about = {
        _ENTRY: settings.model_dump(), "initial": net.initial, "max_side": net.max_side, "classes": list(classes),
    }  # fmt: skip
    write_weights(net, path, about)


def load_segmenter(path: Path) -> tuple[Segmenter, tuple[str, ...]]:
    """Read a network that `save_segmenter` wrote, in evaluation mode; nothing is downloaded.

    Returns:
        The network, and its C class names.

    Raises:
        WeightsError: the file is missing, damaged, no segmentation network, or of another one than it says.
    """
    if _ENTRY not in read_about(path):
        raise WeightsError(f"{path} holds no segmentation network, but another one; name the weights of a 'segmenter'")
    saved = read_saved(path, _SavedSegmenter)
    classes, settings = saved_classes(saved.classes, path), saved.segmenter

    def build() -> Segmenter:
        with torch.random.fork_rng(devices=[]):
            return build_segmenter(settings, len(classes))

    expected = f"'{settings.kind}' on '{settings.encoder}', {len(classes)} classes"
    net = rebuild(path, saved, settings.weights, build, expected)
    net.initial, net.max_side = saved.initial, saved.max_side
    return net, classes
