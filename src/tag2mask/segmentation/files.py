"""A segmentation network as one safetensors file: weights, settings and class names."""

from __future__ import annotations

from pathlib import Path

import torch

from tag2mask.backbones.files import read_about, write_weights
from tag2mask.backbones.keymaps import load_strict, read_state
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.segmentation.build import build_segmenter
from tag2mask.segmentation.network import Segmenter
from tag2mask.segmentation.settings import NetworkSettings

WEIGHTS = "weights.safetensors"
_ENTRY = "segmenter"


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
    about = read_about(path)
    if _ENTRY not in about:
        raise WeightsError(f"{path} holds no segmentation network, but another one; name the weights of a 'segmenter'")
    try:
        classes = tuple(str(c) for c in about["classes"])
        settings = validate(NetworkSettings, about[_ENTRY], "network")
        with torch.random.fork_rng(devices=[]):
            net = build_segmenter(settings, len(classes))
        net.initial, net.max_side = str(about["initial"]), None if about["max_side"] is None else int(about["max_side"])
    except (KeyError, TypeError, ConfigError) as error:
        raise WeightsError(f"{path} cannot be rebuilt by this version of tag2mask: {error}") from error
    load_strict(net, read_state(path), str(path), f"'{settings.kind}' on '{settings.encoder}', {len(classes)} classes")
    return net.eval(), classes
