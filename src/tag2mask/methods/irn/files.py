"""A boundary network as a file: ours, and IRN's own."""

from __future__ import annotations

from pathlib import Path

import torch

from tag2mask.backbones.files import read_about, read_saved, rebuild, write_weights
from tag2mask.backbones.irn_keys import official_boundary
from tag2mask.backbones.keymaps import load_strict, read_state
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.settings import Settings
from tag2mask.core.errors import WeightsError
from tag2mask.methods.irn.network import BoundaryNet, build_boundary
from tag2mask.methods.irn.settings import checkpoint_file

WEIGHTS = "weights.safetensors"
_ENTRY = "boundary_backbone"


class _SavedBoundary(Settings):
    """What travels with a boundary network."""

    boundary_backbone: BackboneSettings


def save_boundary(net: BoundaryNet, path: Path) -> None:
    """Write a network; the bytes depend on its weights and settings alone.

    Raises:
        StageError: the file cannot be written.
    """
    write_weights(net, path, {_ENTRY: net.settings.model_copy(update={"weights": "none"}).model_dump()})


def load_boundary(path: Path) -> BoundaryNet:
    """Read a network that `save_boundary` wrote, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, not a boundary network, or of another network than it says.
    """
    if _ENTRY not in read_about(path):
        raise WeightsError(f"{path} holds no boundary network, but another one; name the folder of a stage 'irn'")
    saved = read_saved(path, _SavedBoundary)
    settings = saved.boundary_backbone
    expected = f"the boundary network of '{settings.name}'"
    return rebuild(path, saved, settings.weights, lambda: _fresh(settings), expected)


def load_official(path: Path, settings: BackboneSettings) -> BoundaryNet:
    """Read the class-boundary part of IRN's own ``res50_irn.pth``, in evaluation mode.

    Args:
        path: the file.
        settings: of the backbone, ``resnet50_irn``; its own weights are not read.

    Raises:
        WeightsError: the file is missing, contradicts itself, or has other entries than IRN's.
    """
    state = official_boundary(read_state(checkpoint_file(path)), str(path))
    net = _fresh(settings.model_copy(update={"weights": "none"}))
    load_strict(net, state, str(path), f"the boundary network of '{settings.name}'")
    return net.eval()


def _fresh(settings: BackboneSettings) -> BoundaryNet:
    """A network whose weights are about to be replaced; torch's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        return build_boundary(settings)
