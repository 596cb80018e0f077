"""The first weights of timm's encoders as segmentation-models-pytorch builds them, every tensor accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tag2mask.backbones import keymaps
from tag2mask.backbones.settings import BUNDLED, bundled_file, local_file
from tag2mask.backbones.tagnet import RGB
from tag2mask.backbones.timm_body import timm_name, timm_state
from tag2mask.core.errors import WeightsError
from tag2mask.segmentation.settings import CAFFE, NetworkSettings


def encoder_name(name: str) -> str:
    """Name of an encoder in timm.

    Raises:
        ConfigError: timm has no such network; the nearest name is given.
    """
    return timm_name(name, "network.encoder", "encoder", CAFFE)


def encoder_colours(name: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation of R, G, B in [0, 1] that timm's network of that name was trained with."""
    about = published(name)
    mean, std = about.mean, about.std
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


def published(name: str) -> Any:
    """What timm knows of a network: colours, size, name of its classifier. Its own type is not exported."""
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def check_bundled(settings: NetworkSettings) -> None:
    """Refuse bundled weights for a network that has none.

    Raises:
        WeightsError: with the other choices.
    """
    if settings.weights == "bundled" and settings.encoder != BUNDLED:
        raise WeightsError(
            f"network.weights = 'bundled': there are bundled weights for {BUNDLED} only, not for "
            f"'{settings.encoder}'. Give a local file (network.weights=FILE.pth), weights=timm (downloads), or "
            f"weights=none (random)"
        )


def check_file(settings: NetworkSettings) -> None:
    """Refuse a weight file of another network than timm's encoder, by its names and shapes.

    Raises:
        WeightsError: the file cannot be read, or does not belong to the encoder.
    """
    path = local_file(settings.weights)
    try:
        with torch.device("meta"):  # no memory, and nothing is drawn
            net: Any = timm.create_model(encoder_name(settings.encoder), pretrained=False, num_classes=0)
    except (RuntimeError, NotImplementedError):  # a network that computes while it is built: training will look
        return
    keymaps.check_strict(net, _headless(path, net), str(path), f"'{settings.encoder}'")


def load_encoder(features: nn.Module, settings: NetworkSettings) -> None:
    """Load the first weights into timm's network as it gives features of every level.

    Args:
        features: timm's network, built with ``features_only``.
        settings: encoder and weights.

    Raises:
        WeightsError: the weights do not belong to the encoder.
    """
    if settings.weights == "none":
        return
    name = encoder_name(settings.encoder)
    state, source = _whole_state(name, settings)
    own = list(features.state_dict())
    by_name = {_plain(key): value for key, value in state.items()}
    found = {key: by_name[_plain(key)] for key in own if _plain(key) in by_name}
    keymaps.load_strict(features, found, source, f"the encoder '{settings.encoder}'")


def _whole_state(name: str, settings: NetworkSettings) -> tuple[dict[str, Tensor], str]:
    """Weights of the whole network, head apart, under timm's names, and where they are from."""
    if settings.weights == "timm":
        return timm_state(name), f"timm's {name}"
    net: Any = timm.create_model(name, pretrained=False, num_classes=0)
    if settings.weights == "bundled":
        check_bundled(settings)
        path = bundled_file()
        state = keymaps.in_order(keymaps.read_state(path), list(net.state_dict()), str(path))
    else:
        path = local_file(settings.weights)
        state = _headless(path, net)
    keymaps.load_strict(net, state, str(path), f"'{settings.encoder}'")
    return dict(net.state_dict()), str(path)


def _headless(path: Path, net: Any) -> dict[str, Tensor]:
    """The tensors of a file without those of the classifier, as timm names it for the network."""
    head = net.pretrained_cfg.get("classifier") or ()
    names = (head,) if isinstance(head, str) else tuple(head)
    return keymaps.without(keymaps.read_state(path), [f"{n}." for n in names])


def _plain(name: str) -> str:
    """A tensor's name without what distinguishes timm's ways of giving features: flattened stages, a wrapper."""
    return name.removeprefix("model.").replace(".", "_")
