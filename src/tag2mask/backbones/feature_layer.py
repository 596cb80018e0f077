"""Where a classifier's activation maps come from: its last feature map, and the linear weights that read its mean.

Nothing is known of networks by name. One image is sent through (`tag2mask.backbones.probe`), and a layer is taken
where the class scores depend on it and nothing after it has several places; weights are taken where they are seen to
make the scores out of the mean of that layer, so that ``mean of w . f + bias`` is the logit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tag2mask.backbones.class_weights import Affine, Reading, affine_of, belongs, find_reading
from tag2mask.backbones.hooks import call, check_cells, evaluating, listening, the_map, too_small
from tag2mask.backbones.probe import Event, Probe, probe
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.progress import LOG

_PLACES = (
    "Networks of such a form are not supported yet. Pass layer=, a module of the model, or of one around it, that "
    "gives what comes last in its places, (N, D, h, w)"
)


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """The two parts of a classifier that activation maps are made of.

    Attributes:
        layer: the module whose output is the feature map f(x), (N, D, h, w).
        name: its dotted name in the model.
        weights: (C, D) float32, detached: the linear layer after the pooling.
        reading: how the weights are read in the model; None where they were given.
        affine: what the classifier computes; None where the weights were given.
    """

    layer: nn.Module
    name: str
    weights: Tensor
    reading: Reading | None = None
    affine: Affine | None = None

    def now(self, model: nn.Module) -> Anatomy | None:
        """The same parts as the model has them by now; None where it has no such parts any more."""
        try:
            return _anatomy(model, self.name, self.reading, self.weights)
        except AttributeError:
            return None

    def features(self, model: nn.Module, images: Tensor) -> Tensor | None:
        """Features f(x) (N, D, h, w) of images (N, 3, H, W); None where the classifier does not read their mean."""
        seen: list[Any] = []
        read: list[tuple[Any, Any]] = []
        hooks: dict[nn.Module, Callable[..., None]] = {self.layer: lambda _m, _inputs, output: seen.append(output)}
        if self.reading is not None:
            classifier = model.get_submodule(self.reading.name)
            hooks[classifier] = lambda _m, inputs, output: read.append((inputs[0] if inputs else None, output))
        with listening(hooks), evaluating(model):
            call(model, images)
        found = the_map(seen, self.name)
        if self.affine is None:
            return found
        given, output = read[-1] if read else (None, None)
        if not (isinstance(given, Tensor) and isinstance(output, Tensor) and len(given) == len(output) == len(found)):
            return None
        return found if belongs(found, given, output, self.affine) else None


def _anatomy(model: nn.Module, name: str, reading: Reading | None, weights: Tensor) -> Anatomy | None:
    """The parts by their names; None where the classifier is another one."""
    layer, affine = model.get_submodule(name), None
    if reading is not None:
        affine = affine_of(model.get_submodule(reading.name), reading)
        if affine is None:
            return None
        weights = affine.weights
    if not bool(torch.isfinite(weights).all()):
        raise WeightsError("the classifier's weights are NaN or infinite; load or train others")
    return Anatomy(layer, name, weights.detach().float(), reading, affine)


def examine(model: nn.Module, images: Tensor, layer: str | None, weights: Tensor | None) -> Anatomy:
    """Find the feature layer and the classifier's weights where they are not given, by one pass.

    Args:
        model: any classifier.
        images: (N, 3, H, W), one image is enough.
        layer: dotted name of the feature layer, or None to find it.
        weights: (C, D), or None to find them.
    """
    seen = probe(model, images)
    event = _layer_event(seen, images, layer)
    name, channels = event.name, event.output.shape[1]
    reading = None
    if weights is None:
        reading = _reading(seen, event, images, layer is None)
        LOG.info("CAM reads layer '%s' with the weights of '%s'", name, reading.name)
    elif layer is None:
        _check_grid(seen, event, images)
        LOG.info("CAM reads layer '%s' with the weights given", name)
    if weights is not None and (weights.dim() != 2 or weights.shape[1] != channels):
        raise WeightsError(
            f"weights have shape {tuple(weights.shape)}, expected (classes, {channels}): "
            f"layer '{name}' has {channels} channels"
        )
    found = _anatomy(model, name, reading, torch.zeros(0) if weights is None else weights)
    assert found is not None  # the classifier has just been read
    return found


def _reading(seen: Probe, event: Event, images: Tensor, found: bool) -> Reading:
    """The classifier on a layer; a layer that was found and not a map of the images is reported first."""
    try:
        reading = find_reading(seen, event)
    except WeightsError:
        if found:
            _check_grid(seen, event, images)
        raise
    if found and not _of_one_form(event.output, images):
        raise ConfigError(_no_grid(event, images))
    if found and not seen.carries_all(event):  # such as one of two networks whose scores are added
        raise ConfigError(_not_alone(seen, event, images))
    return reading


def feature_layer(model: nn.Module, images: Tensor, layer: str | None = None) -> tuple[str, int]:
    """Dotted name and channels of the last feature map before a model's pooling, by one pass.

    Args:
        model: any network with a feature map.
        images: (N, 3, H, W), one image is enough.
        layer: dotted name of the layer, or None to find it.
    """
    seen = probe(model, images)
    event = _layer_event(seen, images, layer)
    _check_grid(seen, event, images, layer is None)
    return event.name, event.output.shape[1]


def _layer_event(seen: Probe, images: Tensor, layer: str | None) -> Event:
    if layer is None:
        return _found_event(seen, images)
    events = [event for event in seen.events if event.name == layer]
    features = the_map([event.output for event in events], layer)
    check_cells(features, images, layer)
    event = next(event for event in events if event.output is features)
    last = _last(seen)
    if not seen.no_gradient and event.slope is None:
        instead = f"; the last one that they depend on is '{last.name}'" if last else ""
        raise ConfigError(f"the class scores do not depend on layer '{layer}'{instead}. Leave layer= out, or pass that")
    if last is not None and last.output is not features:
        LOG.warning(
            "layer '%s' is not the last that works on places of the image: the class scores read '%s' after it",
            layer, last.name,
        )  # fmt: skip
    return event


def _found_event(seen: Probe, images: Tensor) -> Event:
    if seen.no_gradient:
        raise ConfigError(
            f"which layer the class scores depend on cannot be seen in this model: {seen.no_gradient}. Pass layer=, "
            "the last feature map before the pooling (a module or its dotted name)"
        )
    last = _last(seen)
    looking = next((event for event in reversed(seen.towards_scores()) if _looks_around(event)), None)
    if looking and not looking.spatial and (last is None or _after(seen, last, looking)):
        raise too_small(images, f"its last convolution '{looking.name}' has a single cell left")
    if last is None:
        raise ConfigError(
            "the model has no module that gives a feature map (N, D, h, w) for this image size. CAM, LPCAM and AMN "
            "need one, of which each class score is made"
        )
    if not last.alone or last.output.dim() != 4:
        raise ConfigError(_no_grid(last, images, _last_grid(seen, images)))
    return last


def _check_grid(seen: Probe, event: Event, images: Tensor, found: bool = True) -> None:
    """Refuse a layer whose rows and columns cannot be those of the images, and one of several that was found."""
    if not _is_grid(event.output, images):
        raise ConfigError(_no_grid(event, images, _last_grid(seen, images)))
    if found and not seen.carries_all(event):
        raise ConfigError(_not_alone(seen, event, images))


def _last(seen: Probe) -> Event | None:
    """The last module that gives something at several places on the way to the scores."""
    events = (e for e in reversed(seen.towards_scores()) if not isinstance(e.module, nn.Identity))
    return next((event for event in events if event.spatial), None)


def _last_grid(seen: Probe, images: Tensor) -> Event | None:
    return next((e for e in reversed(seen.towards_scores()) if e.spatial and _is_grid(e.output, images)), None)


def _looks_around(event: Event) -> bool:
    """Whether a module is a convolution over neighbours, and not one that takes the whole map in at once."""
    conv = event.module
    if not isinstance(conv, nn.Conv2d) or max(conv.kernel_size) == 1 or event.given is None:
        return False
    whole = tuple(event.given.shape[2:]) == tuple(conv.kernel_size) and conv.padding in ("valid", (0, 0))
    return not whole


def _after(seen: Probe, first: Event, second: Event) -> bool:
    """Whether the second one finished after the first."""
    return seen.events.index(second) > seen.events.index(first)


def _not_alone(seen: Probe, event: Event, images: Tensor) -> str:
    """Why the last feature map cannot stand for all that the scores have of the image."""
    before = [e for e in seen.towards_scores() if _is_grid(e.output, images) and e.output is not event.output]
    other = f", such as '{before[-1].name}' {tuple(before[-1].output.shape)}" if before else ""
    return (
        f"layer '{event.name}' {tuple(event.output.shape)} is the last feature map, but the class scores read "
        f"others beside it{other}. Pass layer=, the one to use (a module or its dotted name)"
    )


def _no_grid(event: Event, images: Tensor, grid: Event | None = None) -> str:
    """Why what an event gave cannot serve."""
    shape = tuple(event.output.shape)
    form = "channels that come last" if _channels_last(event.output, images) else "tokens, or channels that come last"
    before = f" The last one before it is '{grid.name}': pass it only if what follows is a pooling." if grid else ""
    return (
        f"layer '{event.name}' is the last that the class scores depend on, and gives {shape} for images "
        f"{(1, *images.shape[1:])}, which is not a feature map (N, D, h, w) of their shape: {form}. {_PLACES}.{before}"
    )


def _channels_last(features: Tensor, images: Tensor) -> bool:
    return features.dim() == 4 and _is_grid(features.movedim(-1, 1), images)


def _is_grid(features: Tensor, images: Tensor) -> bool:
    """Whether rows and columns can be those of the images at one stride, give or take two cells at the borders."""
    if features.dim() != 4:
        return False
    (rows, columns), (height, width) = features.shape[2:], images.shape[2:]
    strides = range(1, max(height, width) + 1)
    return any(abs(rows - height / s) <= 2 and abs(columns - width / s) <= 2 for s in strides)


def _of_one_form(features: Tensor, images: Tensor) -> bool:
    """Whether a map is about as wide, for its height, as the images: not the tokens of an image in one column."""
    (rows, columns), (height, width) = features.shape[2:], images.shape[2:]
    return 1 / 3 <= (rows / columns) / (height / width) <= 3
