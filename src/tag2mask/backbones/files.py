"""A network as one safetensors file: weights, settings and class names, the same bytes for the same network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.settings import GAP, BackboneSettings, Pooling
from tag2mask.backbones.state_dict import check_strict, load_strict, read_state
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, DataError, WeightsError
from tag2mask.core.files import atomic_path, need_regular, read_json, reason
from tag2mask.data.layout import check_classes

WEIGHTS = "weights.safetensors"
"""The file of a network in the folder of the stage that trained it."""
METRICS_JSON = "metrics.json"
"""What belongs to a classifier's weights: ``classes``, ``trained`` and ``long_side`` of whole images in pixels."""
_KEY = "tag2mask"
_FORMAT = 1
_FITTED: set[int] = set()
"""What files have said, and held, that fitted: it need not be retried where a run loads one network many times."""
N = TypeVar("N", bound=nn.Module)
S = TypeVar("S", bound=Settings)


def save_network(net: TagNet, path: Path, classes: Sequence[str]) -> None:
    """Write a network; the bytes depend on its weights, settings and classes alone.

    Where its weights came from is not written: they are in the file, and a path would reveal the machine.

    Args:
        net: the network.
        path: the .safetensors file.
        classes: class names, one for each row of the head.
    """
    about: dict[str, Any] = {
        "backbone": net.settings.model_copy(update={"weights": "none"}).model_dump(),
        "classes": list(classes),
        "trained": list(net.trained),
    }
    if net.pooling != GAP:  # the bytes of a network without it are part of keys
        about["pooling"] = net.pooling.model_dump()
    write_weights(net, path, about)


def write_weights(net: nn.Module, path: Path, about: Mapping[str, Any]) -> None:
    """Write the weights of any network, with what it needs to be rebuilt.

    Args:
        net: the network.
        path: the .safetensors file.
        about: plain values, read again by `read_about`.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    text = json.dumps({"format": _FORMAT, **about}, sort_keys=True, ensure_ascii=False)
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, {_KEY: text})  # one entry only: safetensors does not order several
        except SafetensorError as error:  # what it makes of a full disk
            raise OSError(str(error)) from error


class _SavedNetwork(Settings):
    """What travels with a classification network."""

    backbone: BackboneSettings
    classes: tuple[str, ...]
    trained: tuple[bool, ...]
    pooling: Pooling = GAP


def load_network(path: Path) -> tuple[TagNet, tuple[str, ...]]:
    """Read a network that `save_network` wrote, in evaluation mode.

    Returns:
        The network and its class names.
    """
    saved = read_saved(path, _SavedNetwork)
    classes = saved_classes(saved.classes, path)
    if len(saved.trained) != len(classes):
        raise WeightsError(
            f"{path} says of {len(saved.trained)} classes whether they were trained, but names {len(classes)}"
        )
    expected = f"'{saved.backbone.name}' with {len(classes)} classes"
    net = rebuild(
        path, saved, saved.backbone.weights,
        lambda: build_network(saved.backbone, len(classes), saved.pooling), expected,
    )  # fmt: skip
    net.trained = saved.trained
    return net, classes


def trained_side(folder: Path) -> int | None:
    """Longest side of whole images in the training of the network in a folder; None where they kept their sizes."""
    about = folder / METRICS_JSON
    side: int | None = read_json(about).get("long_side") if about.is_file() else None
    return side


def rebuild(path: Path, saved: BaseModel, weights: str, build: Callable[[], N], expected: str) -> N:
    """Build the network that a file says it is of, and load it, in evaluation mode.

    Whatever the file says, nothing is downloaded, no other file is read, and no more memory is taken than its tensors
    do: a network without memory is compared with them first, once for all files that say the same and hold tensors of
    the same names and shapes.

    Args:
        path: the .safetensors file.
        saved: what the file says, all that ``build`` goes by.
        weights: first weights, as the settings in the file have them.
        build: builds the network.
        expected: the network, in words, for the error text.
    """
    if weights != "none":
        raise WeightsError(
            f"{path} names first weights, {weights!r:.80}, beside its own, which no file of tag2mask does; nothing was "
            "looked for there. Save the network again, or name another file"
        )
    state = read_state(path)
    fit = hash((expected, saved.model_dump_json(), *((name, tuple(value.shape)) for name, value in state.items())))
    try:
        sketch = None if fit in _FITTED else without_memory(build)
        if sketch is not None:
            check_strict(sketch, state, str(path), expected)
            _FITTED.add(fit)
        with torch.random.fork_rng(devices=[]):  # its numbers are about to be replaced
            net = build()
    except ConfigError as error:
        raise _not_rebuilt(path, error) from error
    load_strict(net, state, str(path), expected)
    return net.eval()


def without_memory(build: Callable[[], N]) -> N | None:
    """The network that ``build`` gives, with names and shapes but no numbers; None where it needs those to be built."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return build()
    except (RuntimeError, NotImplementedError, ConfigError):
        return None


def read_saved(path: Path, schema: type[S]) -> S:
    """What travels with weights, by its schema."""
    about = read_about(path)
    try:
        return validate(schema, {name: value for name, value in about.items() if name != "format"}, "")
    except (ConfigError, RecursionError) as error:
        raise _not_rebuilt(path, error) from error


def saved_classes(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """The class names of a file of weights, which are as those of a data set have to be."""
    try:
        return check_classes(names, f"the metadata of {path}")
    except DataError as error:
        raise WeightsError(f"{error}. Save the network again, or name another file") from error


def _not_rebuilt(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path} cannot be rebuilt by this version of tag2mask: {error!s:.500}")


def read_about(path: Path) -> dict[str, Any]:
    """The plain values that travel with weights."""
    try:
        need_regular(path).open("rb").close()  # of a file that one may not read, safetensors says that there is none
        with safe_open(path, "pt") as stream:
            text = (stream.metadata() or {}).get(_KEY)
        about = json.loads(text) if text else None
    except FileNotFoundError as error:
        raise WeightsError(
            f"{path}: there is no such file; expected a network saved by tag2mask (.safetensors)"
        ) from error
    except PermissionError as error:
        raise WeightsError(f"{path} may not be read: {error.strerror}. Allow it, or name another file") from error
    except Exception as error:  # safetensors and Python's parser have kinds of their own for damaged bytes
        raise WeightsError(f"{path} cannot be read: {reason(error)}. Expected a network saved by tag2mask") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise WeightsError(
            f"{path} is not a network saved by tag2mask (its metadata lacks '{_KEY}', format {_FORMAT}). For plain "
            f"weights of a backbone use backbone.weights={path.name}"
        )
    return about
