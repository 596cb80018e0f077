"""AMN as a file: ours, and AMN's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tag2mask.backbones.amn_keys import official_amn
from tag2mask.backbones.files import read_about, read_saved, rebuild, saved_classes, write_weights
from tag2mask.backbones.keymaps import load_strict, read_state
from tag2mask.config.settings import Settings
from tag2mask.core.errors import WeightsError
from tag2mask.methods.amn.network import BackboneAmn
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.methods.irn.settings import checkpoint_file

WEIGHTS = "weights.safetensors"
EXPECTED = "AMN's res50_amn.pth"
_ENTRY = "amn"
_REBUILDS = {"backbone", "condition", "dropout"}
"""What of the settings a network is rebuilt from."""


class _SavedAmn(Settings):
    """What travels with AMN's network."""

    amn: AmnSettings
    classes: tuple[str, ...]


def save_amn(net: BackboneAmn, path: Path, classes: Sequence[str]) -> None:
    """Write a network; the bytes depend on its weights, settings and classes alone.

    Raises:
        StageError: the file cannot be written.
    """
    about = net.settings.model_dump(mode="json", include=_REBUILDS)
    about["backbone"]["weights"] = "none"
    write_weights(net, path, {_ENTRY: about, "classes": list(classes)})


def load_amn(path: Path) -> tuple[BackboneAmn, tuple[str, ...]]:
    """Read a network that `save_amn` wrote, in evaluation mode.

    Returns:
        The network and its class names.

    Raises:
        WeightsError: the file is missing, damaged, not AMN's, or of another network than it says.
    """
    if _ENTRY not in read_about(path):
        raise WeightsError(f"{path} holds no AMN, but another network; name the folder of a stage 'amn'")
    saved = read_saved(path, _SavedAmn)
    classes, backbone = saved_classes(saved.classes, path), saved.amn.backbone
    expected = f"AMN on '{backbone.name}' with {len(classes)} classes"
    return rebuild(path, saved, backbone.weights, lambda: _fresh(saved.amn, len(classes)), expected), classes


def load_official(path: Path, settings: AmnSettings, n_classes: int) -> BackboneAmn:
    """Read AMN's own ``res50_amn.pth``, in evaluation mode.

    Args:
        path: the file.
        settings: of the network, ``resnet50_irn``; the backbone's own weights are not read.
        n_classes: of the data.

    Raises:
        WeightsError: the file is missing, contradicts itself, has other entries than AMN's, or other classes.
    """
    state = official_amn(read_state(checkpoint_file(path, EXPECTED)), str(path))
    code = state.get("codes.4.weight")
    if code is not None and code.dim() == 2 and code.shape[1] != n_classes:
        raise WeightsError(
            f"{path} has {code.shape[1]} classes, the data has {n_classes}. Use a checkpoint trained on these classes, "
            "or set data.classes to the checkpoint's"
        )
    backbone = settings.backbone.model_copy(update={"weights": "none"})
    net = _fresh(settings.model_copy(update={"backbone": backbone}), n_classes)
    load_strict(net, state, str(path), f"AMN on '{backbone.name}' with {n_classes} classes")
    return net.eval()


def _fresh(settings: AmnSettings, n_classes: int) -> BackboneAmn:
    """A network whose weights are about to be replaced; torch's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        return BackboneAmn(settings, n_classes)
