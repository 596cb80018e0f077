"""Looking into any classifier: its last feature map, and the linear weights that read the pooled features."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tag2mask.core.errors import ConfigError, WeightsError, unknown

LOG = logging.getLogger("tag2mask")
_AGREEMENT = 1e-3
_MEND = "Pass layer= (a module or its dotted name) and weights= (classes, channels) of the linear layer after pooling"


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The two parts of a classifier that activation maps are made of.

    Attributes:
        layer: the module whose output is the feature map f(x), (N, D, h, w).
        name: its dotted name in the model.
        weights: (C, D) float32, detached: the linear layer after the pooling.
    """

    layer: nn.Module
    name: str
    weights: Tensor


@dataclass(frozen=True, slots=True)
class _Event:
    """A module that has run: its dotted name, and its output if that is a tensor."""

    name: str
    module: nn.Module
    output: Tensor


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients and evaluation mode inside; afterwards each module's own training mode, whatever happened.

    The flags are set one by one: published networks override ``train`` without reaching their children.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def run_to(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """Features f(x) (N, D, h, w) that ``layer`` gives for ``images`` (N, 3, H, W); leaves no hook behind.

    Raises:
        ConfigError: the layer did not run, or its output is not a feature map.
    """
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        with evaluating(model):
            model(images)
    finally:
        handle.remove()
    if not seen:
        raise ConfigError("layer did not run in the model's forward pass; choose a layer that the images go through")
    if not (isinstance(seen[-1], Tensor) and seen[-1].dim() == 4):
        shape = tuple(seen[-1].shape) if isinstance(seen[-1], Tensor) else type(seen[-1]).__name__
        raise ConfigError(f"layer gives {shape}, expected a feature map (N, D, h, w). {_MEND}")
    return seen[-1]


def resolve_layer(model: nn.Module, layer: nn.Module | str) -> nn.Module:
    """The module meant by ``layer``, itself or its dotted name.

    Raises:
        ConfigError: the model has no such module; the nearest name is given.
    """
    named: dict[str, nn.Module] = dict(model.named_modules())
    if isinstance(layer, str):
        if layer not in named or not layer:
            raise ConfigError(unknown("layer", layer, [name for name in named if name]))
        return named[layer]
    if not any(module is layer for module in named.values()):
        raise ConfigError(f"layer {type(layer).__name__} is not part of the model; pass one of its own modules")
    return layer


def examine(model: nn.Module, images: Tensor, layer: nn.Module | None, weights: Tensor | None) -> Anatomy:
    """Find the feature layer and the classifier's weights where they are not given, by one forward pass.

    The layer is the last module that gives a feature map of more than one position, before the pooling; the
    weights are those of the last linear layer or 1 x 1 convolution after it. Weights that were found are
    checked: applied to the mean of the features they must give the classifier's own output.

    Args:
        model: any classifier.
        images: (N, 3, H, W), one image is enough.
        layer: the feature layer, or None to find it.
        weights: (C, D), or None to find them.

    Raises:
        ConfigError: there is no such layer, or the given one gives no feature map.
        WeightsError: there are no such weights, or they do not fit the features.
    """
    events = _record(model, images[:1])
    index = _layer_index(events, layer)
    found, features = events[index], events[index].output
    names = {id(module): name for name, module in model.named_modules()}
    name = names.get(id(found.module), found.name)
    if weights is None:
        classifier = _classifier(events[index + 1 :], features.shape[1], name)
        _check_logits(classifier, features, name)
        weights = _matrix(classifier.module)
        LOG.info("CAM reads layer '%s' with the weights of '%s'", name, classifier.name)
    elif layer is None:
        LOG.info("CAM reads layer '%s' with the weights given", name)
    if weights.dim() != 2 or weights.shape[1] != features.shape[1]:
        raise WeightsError(
            f"weights have shape {tuple(weights.shape)}, expected (classes, {features.shape[1]}): "
            f"layer '{name}' has {features.shape[1]} channels"
        )
    if not torch.isfinite(weights).all():
        raise WeightsError("the classifier's weights are NaN or infinite; load or train others")
    return Anatomy(found.module, name, weights.detach().float())


def feature_layer(model: nn.Module, images: Tensor, layer: nn.Module | None = None) -> tuple[str, int]:
    """Dotted name and channels of the last feature map before a model's pooling, by one forward pass.

    Args:
        model: any network with a feature map.
        images: (N, 3, H, W), one image is enough.
        layer: the layer, or None to find it.

    Raises:
        ConfigError: there is no such layer, or its output is no feature map, such as tokens or channels that come last.
    """
    events = _record(model, images[:1])
    event = events[_layer_index(events, layer)]
    name = {id(module): name for name, module in model.named_modules()}[id(event.module)]
    if not _is_grid(event.output, images):
        raise ConfigError(
            f"layer '{name}' gives {tuple(event.output.shape)} for images {tuple(images[:1].shape)}, which is no "
            f"feature map (N, D, h, w) of their shape: tokens, or channels that come last. Pass layer=, a module with "
            f"such a map; a network of tokens needs one that puts them in their places"
        )
    return name, event.output.shape[1]


def _is_grid(features: Tensor, images: Tensor) -> bool:
    """Whether rows and columns can be those of the images at one stride, give or take two cells at the borders."""
    (rows, columns), (height, width) = features.shape[2:], images.shape[2:]
    strides = range(1, max(height, width) + 1)
    return any(abs(rows - height / s) <= 2 and abs(columns - width / s) <= 2 for s in strides)


def _record(model: nn.Module, images: Tensor) -> list[_Event]:
    """Every module that ran and gave a tensor, in the order of finishing."""
    events: list[_Event] = []
    handles = []
    try:
        for name, module in model.named_modules():

            def note(module: nn.Module, _inputs: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor):
                    events.append(_Event(name, module, output))

            handles.append(module.register_forward_hook(note))
        with evaluating(model):
            model(images)
        return events
    finally:
        for handle in handles:
            handle.remove()


def _layer_index(events: list[_Event], layer: nn.Module | None) -> int:
    if layer is not None:
        places = [i for i, event in enumerate(events) if event.module is layer]
        if not places:
            raise ConfigError("layer gave no tensor in the model's forward pass; choose a layer the images go through")
        if events[places[-1]].output.dim() != 4:
            shape = tuple(events[places[-1]].output.shape)
            raise ConfigError(f"layer gives {shape}, expected a feature map (N, D, h, w). {_MEND}")
        return places[-1]
    places = [i for i, e in enumerate(events) if e.output.dim() == 4 and e.output.shape[2] * e.output.shape[3] > 1]
    if not places:
        raise ConfigError(f"the model has no module that gives a feature map (N, D, h, w) for this image size. {_MEND}")
    return places[-1]


def _classifier(after: list[_Event], channels: int, layer: str) -> _Event:
    linear = [e for e in after if isinstance(e.module, nn.Linear) or _is_pointwise(e.module)]
    if not linear:
        raise WeightsError(f"no linear layer or 1 x 1 convolution runs after layer '{layer}'. {_MEND}")
    width = _matrix(linear[-1].module).shape[1]
    if width != channels:
        raise WeightsError(
            f"the classifier '{linear[-1].name}' takes {width} numbers, but layer '{layer}' has {channels} channels: "
            f"it is not one linear layer on pooled features. {_MEND}"
        )
    return linear[-1]


def _is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _matrix(module: nn.Module) -> Tensor:
    assert isinstance(module, nn.Linear | nn.Conv2d)  # what `_classifier` chooses from
    return module.weight.detach().flatten(1)


def _check_logits(classifier: _Event, features: Tensor, layer: str) -> None:
    """Whether the classifier sees the mean of the features and nothing else."""
    assert isinstance(classifier.module, nn.Linear | nn.Conv2d)
    expected = features.float().mean((2, 3)) @ _matrix(classifier.module).float().T
    if classifier.module.bias is not None:
        expected = expected + classifier.module.bias.float()
    given = classifier.output.float().flatten(1)
    if given.shape != expected.shape or (given - expected).abs().max() > _AGREEMENT * (1 + given.abs().max()):
        raise WeightsError(
            f"the logits are not '{classifier.name}' applied to the mean of layer '{layer}': something (a norm, an "
            f"activation, another pooling) lies between, so its weights do not give the maps. {_MEND}"
        )
