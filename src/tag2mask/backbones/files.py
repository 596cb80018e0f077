"""A network as one safetensors file: weights, settings and class names, the same bytes for the same network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.keymaps import load_strict, read_state
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.files import atomic_path

_KEY = "tag2mask"
_FORMAT = 1


def save_network(net: TagNet, path: Path, classes: Sequence[str]) -> None:
    """Write a network; the bytes depend on its weights, settings and classes alone.

    Where its weights came from is not written: they are in the file, and a path would tell about the machine.

    Args:
        net: the network.
        path: the .safetensors file.
        classes: class names, one for each row of the head.

    Raises:
        StageError: the file cannot be written.
    """
    about = {
        "backbone": net.settings.model_copy(update={"weights": "none"}).model_dump(),
        "classes": list(classes),
        "trained": list(net.trained),
    }
    write_weights(net, path, about)


def write_weights(net: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write the weights of any network, with what it needs to be rebuilt.

    Args:
        net: the network.
        path: the .safetensors file.
        about: plain values, read again by `read_about`.

    Raises:
        StageError: the file cannot be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    text = json.dumps({"format": _FORMAT, **about}, sort_keys=True, ensure_ascii=False)
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, {_KEY: text})  # one entry only: safetensors does not order several
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error


def load_network(path: Path) -> tuple[TagNet, tuple[str, ...]]:
    """Read a network that `save_network` wrote, in evaluation mode.

    Returns:
        The network and its class names.

    Raises:
        WeightsError: the file is missing, damaged, not one of ours, or of another network than it says.
    """
    about = read_about(path)
    try:
        classes = tuple(str(c) for c in about["classes"])
        trained = tuple(bool(t) for t in about["trained"])
        settings = validate(BackboneSettings, about["backbone"], "backbone")
        net = build_network(settings, len(classes))
    except (KeyError, TypeError, ConfigError) as error:
        raise WeightsError(f"{path} cannot be rebuilt by this version of tag2mask: {error}") from error
    load_strict(net, read_state(path), str(path), f"'{settings.name}' with {len(classes)} classes")
    net.trained = trained
    return net.eval(), classes


def read_about(path: Path) -> dict[str, Any]:
    """The plain values that travel with weights.

    Raises:
        WeightsError: the file is missing, may not be read, is damaged, or not one of ours.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file; expected a network saved by tag2mask (.safetensors)")
    try:
        path.open("rb").close()  # of a file that one may not read, safetensors says that there is none
        with safe_open(path, "pt") as stream:
            text = (stream.metadata() or {}).get(_KEY)
        about = json.loads(text) if text else None
    except PermissionError as error:
        raise WeightsError(f"{path} may not be read: {error.strerror}. Allow it, or name another file") from error
    except (SafetensorError, ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Expected a network saved by tag2mask") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise WeightsError(
            f"{path} is not a network saved by tag2mask (its metadata lacks '{_KEY}', format {_FORMAT}). For plain "
            f"weights of a backbone use backbone.weights={path.name}"
        )
    return about
