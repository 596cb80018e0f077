"""Runs a foreign model: returns what a module gives, leaves no hooks behind, and translates its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from tag2mask.core.errors import ConfigError, DataError, WeightsError, unknown

_WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Modules that do nothing but run another one, several times at once or compiled, and where they hold it."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside ``DataParallel`` and ``torch.compile``, whose own modules can be inspected."""
    while (inside := _WRAPPERS.get(type(model).__name__)) and isinstance(getattr(model, inside, None), nn.Module):
        model = getattr(model, inside)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model is of type {type(model).__name__}, expected a torch.nn.Module that gives class scores"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ConfigError(
            f"model is a {type(model).__name__} of torch.jit, whose modules cannot be inspected: pass the "
            "torch.nn.Module that it was scripted or traced from, with the same weights"
        )
    lazy = [name for name, tensor in model.named_parameters() if isinstance(tensor, UninitializedParameter)]
    if lazy:
        raise WeightsError(
            f"the model has no weights yet, first '{lazy[0]}': call it once, model(images), then train it"
        )
    absent = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if absent:
        raise WeightsError(
            f"{len(absent)} weights of the model, first '{absent[0]}', are on the device meta, which holds no numbers: "
            "model.to_empty(device='cpu'), then load weights; or load_state_dict(..., assign=True)"
        )
    return model


def resolve_layer(model: nn.Module, layer: nn.Module | str) -> str:
    """The dotted name of ``layer`` in ``model``; it is itself or that name."""
    known: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if isinstance(layer, str):
        if layer not in known or not layer:
            raise ConfigError(unknown("layer", layer, [name for name in known if name]))
        layer = known[layer]
    for name, module in model.named_modules():
        if module is layer and name:
            return str(name)
    raise ConfigError(f"layer {type(layer).__name__} is not part of the model; pass one of its own modules")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, uncompiled; afterwards each module's own training mode, whatever happened.

    The flags are set one by one: published networks override ``train`` without reaching their children.
    """
    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        if any(getattr(module, "_compiled_call_impl", None) is not None for module, _ in modes):
            stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code runs no hooks
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`evaluation_mode` without gradients."""
    with evaluation_mode(model), torch.no_grad():
        yield


@contextmanager
def listening(hooks: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Forward hooks on modules, gone afterwards, whatever happened."""
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def call(model: nn.Module, images: Tensor, *more: Tensor) -> Any:
    """The model's output for images, and whatever else it takes."""
    try:
        return model(images, *more)
    except AssertionError as error:  # how networks of one image size say so
        raise DataError(
            f"the model does not take images of {images.shape[2]} x {images.shape[3]} pixels: "
            f"{str(error) or 'an assertion of its own fails'}. Resize them to a size that it takes"
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        weights = [p for p in model.parameters() if p.is_floating_point()]
        devices, types = {p.device for p in weights}, {p.dtype for p in weights}
        if weights and images.device not in devices:
            raise DataError(
                f"images are on {images.device}, the model's weights on {weights[0].device}: "
                f"images.to('{weights[0].device}')"
            ) from error
        if weights and images.dtype not in types:
            raise DataError(
                f"images are {images.dtype}, the model's weights {weights[0].dtype}: images.to({weights[0].dtype})"
            ) from error
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        if first is not None and images.shape[1] != first.in_channels:
            raise DataError(
                f"images {tuple(images.shape)} have {images.shape[1]} channels, the model's first convolution takes "
                f"{first.in_channels}"
            ) from error
        raise


def last_map(outputs: list[Any]) -> Tensor | None:
    """Of all that a module gave in one pass, the last feature map (N, D, h, w); one of several cells goes before."""
    maps = [one for one in outputs if isinstance(one, Tensor) and one.dim() == 4]
    several = [one for one in maps if one.shape[2] * one.shape[3] > 1]
    chosen = several or maps
    return chosen[-1] if chosen else None


def the_map(outputs: list[Any], name: str = "") -> Tensor:
    """The feature map among what a layer gave in one pass."""
    label = f"layer '{name}'" if name else "layer"
    if not outputs:
        raise ConfigError(
            f"{label} did not run in the model's forward pass; choose a layer that the images go through, or none: "
            "without layer= it is found"
        )
    found = last_map(outputs)
    if found is None:
        shape = tuple(outputs[-1].shape) if isinstance(outputs[-1], Tensor) else type(outputs[-1]).__name__
        raise ConfigError(
            f"{label} gives {shape}, expected a feature map (N, D, h, w); leave layer= out to have it found"
        )
    return found


def check_cells(features: Tensor, images: Tensor, layer: str) -> None:
    """Refuse feature maps of a single cell, in which nothing has a place."""
    if features.shape[2] * features.shape[3] == 1:
        raise too_small(images, f"the feature map of layer '{layer}' has a single cell")


def too_small(images: Tensor, why: str) -> DataError:
    """The error of images of which a network leaves no map."""
    height, width = images.shape[-2:]
    return DataError(
        f"images of {height} x {width} pixels are too small for this network: {why}. Resize them, to {2 * height} x "
        f"{2 * width} (which leaves 2 x 2 cells at most) or more, or take a network of smaller stride"
    )
